"""Every parameter of the study: type, default, range, unit and meaning, each declared once.

:class:`StudySettings` is one nested model. Notebooks, profiles (``notebooks/profiles/``) and the command line
give its fields flat, by name; a field goes to the section that declares it, so names are unique. The
``parameters`` cell of a notebook declares the fields that :data:`NOTEBOOKS` lists for it, with the same
defaults (the ``demo`` profile) and comments; a test compares them.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from mosaic.methods import Method, get_method
from mosaic.utils.errors import SettingsError, suggest
from mosaic.utils.plugins import load_plugins

Percent = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
MethodName = Annotated[str, AfterValidator(lambda name: get_method(name).name)]
MethodNames = Annotated[list[MethodName], Field(min_length=1)]
RunName = Annotated[str, Field(pattern=r"^[\w.-]+$")]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Section(BaseModel):
    """Settings that belong together. Values may be given flat: ``TrialSettings(**{"crop_scale": 0.5})``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _route_to_sections(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        routed = dict(values)
        for name, section in _sections(cls).items():
            inner = {field: routed.pop(field) for field in fields(section) if field in routed}
            if inner:
                routed[name] = {**dict(routed.get(name, {})), **inner}
        return routed

    def flat(self) -> dict[str, Any]:
        """Return field name -> value, those of inner sections included."""
        values: dict[str, Any] = {}
        for name, value in self:
            values |= value.flat() if isinstance(value, Section) else {name: value}
        return values

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy in which the fields named, of inner sections too, have other values."""
        return validated(type(self), type(self).__name__, {**self.flat(), **changes})


S = TypeVar("S", bound=Section)


def _sections(kind: type[Section]) -> dict[str, type[Section]]:
    annotated = {name: info.annotation for name, info in kind.model_fields.items()}
    return {n: a for n, a in annotated.items() if isinstance(a, type) and issubclass(a, Section)}


def fields(kind: type[Section]) -> dict[str, FieldInfo]:
    """Return field name -> declaration, those of inner sections included."""
    inner = _sections(kind)
    declared: dict[str, FieldInfo] = {}
    for name, info in kind.model_fields.items():
        declared |= fields(inner[name]) if name in inner else {name: info}
    return declared


class DataSettings(Section):
    """The archive, what of it is packed, and how ``01_explore_data`` shows it."""

    dataset: str = Field("bigearthnet", description="layout of the archive: bigearthnet or sen12ms")
    archive: str = Field("simulated", description="'simulated', or a folder in the official layout")
    patches: Count = Field(2000, description="size of the simulated archive, pairs")
    archive_seed: int = Field(0, ge=0, description="seed of the simulated archive")
    bands: str = Field("all", description="'all', '10m', or Sentinel-2 bands separated by commas")
    include_snow_cloud: bool = Field(False, description="keep patches officially flagged as snow or cloud")
    most_pixels: int = Field(128, ge=8, description="longest side of a packed patch; larger are averaged")
    on_bad_patch: Literal["stop", "skip"] = Field("stop", description="stop with a list, or skip and count")
    spectra_patches: Count = Field(300, description="patches whose pixels give the spectra of classes")
    reference_draws: Count = Field(5, description="draws of 120 pairs for the reference classifier")
    gallery_patches: int = Field(6, ge=1, le=24, description="pairs shown in the gallery")


class GridSettings(Section):
    """The trials of ``02_pretrain``: methods x seeds x label budgets."""

    methods: MethodNames = Field(
        ["random", "supervised_late", "simclr_s1", "simclr_s2", "iai", "mosaic"],
        description="rows of the table of methods (mosaic.methods)",
    )
    seeds: Count = Field(1, description="number of seeds: 0, 1, ...")
    one_seed: list[MethodName] = Field([], description="methods that are trained with seed 0 only")
    tuning_steps: int = Field(0, ge=0, description="steps of a trial of hyperparameters; 0: none are tried")
    label_fractions: list[Percent] = Field(
        [5.0, 20.0, 100.0], min_length=1, description="label budgets of the evaluation, % of training labels"
    )
    label_budgets: Annotated[list[Literal["shared", "full"]], Field(min_length=1)] = Field(
        ["shared", "full"], description="shared: pretraining has the evaluation's labels; full: all"
    )
    vit_encoder: str = Field("vit_light", description="of methods that need one: vit_light or vit_small")

    @field_validator("label_fractions")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if sorted(set(value)) != value:
            raise ValueError("fractions must ascend and differ")
        return value


class ViewSettings(Section):
    """Random views of a scene."""

    image_size: int = Field(48, ge=16, le=256, description="side of a view, pixels")
    shared_geometry: bool = Field(True, description="one crop for both sensors of a view")
    crop_scale: float = Field(0.4, gt=0, le=1, description="least share of a patch in a crop")
    radiometry: float = Field(1.0, ge=0, description="factor on radiometric augmentation; 0 for none")


class LossSettings(Section):
    """What objectives take; each reads the fields it knows."""

    temperature_intra: Positive = Field(0.5, description="intra-modality term, unitless")
    temperature_inter: Positive = Field(0.5, description="inter-modality term, unitless")
    temperature_label: Positive = Field(0.1, description="label term, unitless")
    label_weight: Positive = Field(1.0, description="weight of the label term; instance terms have 1")
    kernel: str = Field("jaccard", description="label kernel of the label term")
    kernel_threshold: float = Field(0.0, ge=0, le=1, description="label similarity below it counts as 0")
    projection_dim: int = Field(128, ge=2, description="width of a projection head's output")
    inter_style: Literal["simclr", "clip"] = Field(
        "simclr", description="negatives of both sensors, or of the other only"
    )
    unlabelled_negatives: bool = Field(True, description="unlabelled scenes are negatives of the label term")
    # of single objectives, with the values their authors published
    msc_alpha: float = Field(1.0, ge=0, description="MSC: weight of scenes against prototypes")
    off_diagonal: float = Field(0.0051, ge=0, description="Barlow Twins, DeCUR: off-diagonal weight")
    covariance: float = Field(1.0, ge=0, description="VICReg: covariance weight; the two others have 25")
    queue_size: Count = Field(1024, description="SupCon with queue: keys in the queue")
    key_momentum: float = Field(0.99, ge=0, le=1, description="SupCon with queue: of the key encoder")
    temperature_spread: float = Field(0.5, ge=0, description="MACL, a: dissimilar pairs are warmer")
    rarity_pull: float = Field(0.5, ge=0, lt=1, description="MACL, b: anchors of rare labels are colder")
    contrast_weight: float = Field(1.0, ge=0, description="SADCL: factor on its two contrasts")


class OptimiserSettings(Section):
    """AdamW with a linear warm-up and a cosine to 0."""

    learning_rate: Positive = Field(1.0e-3, description="AdamW, peak")
    weight_decay: float = Field(1.0e-4, ge=0, description="AdamW, of weights")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of the steps")


class ComputeSettings(Section):
    """How a trial is computed; none of it changes results, except by rounding."""

    capture: bool = Field(True, description="on a GPU, each training step is one CUDA graph")
    compile_encoder: Literal["auto", "yes", "no"] = Field(
        "auto", description="torch.compile; auto: a large encoder on a GPU for many steps"
    )
    gpu_records: Share = Field(0.5, description="share of free GPU memory that the training split may take")
    log_every: int = Field(0, ge=0, description="steps between two readings of the loss; 0: 50 on a GPU")


class TrialSettings(Section):
    """One encoder to train: what ``pretrain`` takes and ``card.json`` stores."""

    method: MethodName = Field("mosaic", description="row of the table of methods (mosaic.methods)")
    seed: int = Field(0, ge=0, description="of initialisation, data order and views")
    encoder: str = Field("light", description="light, resnet18, resnet50, vit_light or vit_small")
    initial: str | None = Field(None, description="folder of a checkpoint to start from")
    views: ViewSettings = ViewSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    compute: ComputeSettings = ComputeSettings()
    steps: Count = Field(150, description="optimiser steps, the same for every method")
    batch_scenes: int = Field(64, ge=2, description="scenes in a batch; four views each")
    labelled_share: float = Field(0.25, ge=0, le=1, description="least share of labelled scenes in a batch")
    # none that scales its loss: gradients are clipped as they are
    precision: Literal["auto", "32", "bf16-mixed"] = Field(
        "auto", description="auto: bf16 on a GPU that has it"
    )
    monitor_every: int = Field(50, ge=0, description="steps between two checks of collapse and kNN score")

    def weighted_method(self) -> Method:
        """Return the method with the label term's weight; alone, that would only be another learning rate."""
        method = get_method(self.method)
        if method.label > 0 and (method.intra > 0 or method.inter > 0):
            return replace(method, label=self.loss.label_weight * method.label)
        return method


class EvaluationSettings(Section):
    """``03_finetune_low_label``: how encoders are evaluated."""

    evaluations: list[Literal["knn", "linear", "finetune"]] = Field(
        ["knn", "linear", "finetune"], min_length=1, description="how encoders are evaluated"
    )
    neighbours: Count = Field(20, description="k of the kNN classifier")
    finetune_steps: Count = Field(40, description="optimiser steps of full fine-tuning")
    finetune_batch: Count = Field(32, description="scenes in a fine-tuning batch")
    finetune_learning_rate: Positive = Field(1.0e-4, description="AdamW, peak, whole model")


class EmbeddingSettings(Section):
    """``04_embeddings_and_coherence``: how embeddings are measured and drawn."""

    most_patches: int = Field(5000, ge=20, description="most patches of a split that are embedded")
    coherence_neighbours: Count = Field(10, description="k of the neighbours' label Jaccard index")
    umap_neighbours: int = Field(15, ge=2, description="UMAP n_neighbors")
    umap_min_dist: float = Field(0.1, ge=0, le=1, description="UMAP min_dist")
    umap_seeds: Count = Field(2, description="UMAPs of each embedding, seeds 0, 1, ...")
    umap_methods: MethodNames = Field(
        ["random", "supervised_late", "iai", "mosaic"], description="methods drawn, if they ran"
    )
    gallery_queries: int = Field(4, ge=1, le=12, description="queries of the neighbour gallery")


class TransferSettings(Section):
    """``05_transfer``: other archives, and places that training never saw."""

    transfer_methods: MethodNames = Field(
        ["random", "supervised_late", "iai", "mosaic"], description="methods, if they ran"
    )
    held_out: int = Field(1, ge=0, description="countries or seasons held out, one at a time; 0 for none")

    @field_validator("transfer_methods")
    @classmethod
    def _take_both_sensors(cls, value: list[str]) -> list[str]:
        narrow = [name for name in value if "fused" not in get_method(name).inputs]
        if narrow:
            raise ValueError(f"{', '.join(narrow)} see one sensor: a transfer compares methods of both")
        return value


class StudySettings(Section):
    """All settings of a run of the study."""

    out: RunName = Field("demo", description="name of the run: reports/<out>/")
    plugins: list[str] = Field([], description="Python files that register losses, kernels, methods, ...")
    data: DataSettings = DataSettings()
    grid: GridSettings = GridSettings()
    trial: TrialSettings = TrialSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    transfer: TransferSettings = TransferSettings()
    companion_runs: list[RunName] = Field([], description="runs of other archives, made before this one")
    jobs: int = Field(0, ge=0, description="processes; 0: one for each CPU core, one on a GPU")

    @field_validator("plugins")
    @classmethod
    def _load(cls, value: list[str]) -> list[str]:
        load_plugins(value)  # before the sections below are validated, which may name what plugins register
        return value


#: Fields of a trial that no notebook declares: of one trial, or of one objective.
_NOT_DECLARED = {
    *("method", "seed", "initial", "msc_alpha", "off_diagonal", "covariance", "queue_size", "key_momentum"),
    *("temperature_spread", "rarity_pull", "contrast_weight"),
}
_ALL = ("out", "plugins")

#: The notebooks in the order they run, and the fields that the parameters cell of each declares.
NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "01_explore_data": (*_ALL, *fields(DataSettings)),
    "02_pretrain": (
        *(*_ALL, *fields(GridSettings), "jobs"),
        *(name for name in fields(TrialSettings) if name not in _NOT_DECLARED),
    ),
    "03_finetune_low_label": (*_ALL, *fields(EvaluationSettings), "jobs"),
    "04_embeddings_and_coherence": (*_ALL, *fields(EmbeddingSettings), "jobs"),
    "05_transfer": (*_ALL, "companion_runs", *fields(TransferSettings), "jobs"),
    "06_compare_methods": (*_ALL, "companion_runs", "jobs"),
    "07_claims": (*_ALL, "companion_runs"),
}


def make(notebook: str, values: Mapping[str, Any]) -> StudySettings:
    """Return the settings of the study with the parameters of one notebook, given flat.

    Raises:
        SettingsError: for a name the notebook does not declare (the nearest is suggested), a wrong type or a
            value out of range.
    """
    return validated(StudySettings, notebook, values, NOTEBOOKS[notebook])


def validated(kind: type[S], title: str, values: Mapping[str, Any], known: Sequence[str] | None = None) -> S:
    """Return settings from flat values, as :func:`make`.

    Errors call them ``title``; the names of ``known`` may be given, by default every field.
    """
    known = list(fields(kind)) if known is None else known
    for name in values:
        if name not in known:
            raise SettingsError(f"{title} has no parameter {name!r}{suggest(name, known)}")
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = next(str(part) for part in first["loc"] if part in known)
        value, hint = first["input"], ""
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            hint = f" (YAML reads {value!r} as text: write a number such as 1.0e-3)"
        raise SettingsError(f"{title}: parameter {name!r} = {value!r}: {first['msg']}{hint}") from error


def injected_names(history: Sequence[str]) -> list[str]:
    """Return the names that papermill's injected cell assigned, given the source of the cells run so far.

    Papermill only warns about an unknown parameter; with these names the notebook itself can refuse.
    """
    injected = [ast.parse(cell).body for cell in history if cell.lstrip().startswith("# Parameters")]
    targets = [t for body in injected for node in body if isinstance(node, ast.Assign) for t in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]
