"""Every parameter of the study: type, default, range, unit and meaning, each declared once.

:class:`StudySettings` is one nested model. Notebooks, profiles (``notebooks/profiles/``) and the command line
give its fields flat, by name, each to the section that declares it. The ``parameters`` cell of a notebook
declares those that :data:`NOTEBOOKS` lists for it, with the same defaults and comments; a test compares them.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from mosaic.methods import Method, get_method
from mosaic.utils.errors import SettingsError, suggest
from mosaic.utils.plugins import load_plugins
from mosaic.utils.progress import log

Percent = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
MethodName = Annotated[str, AfterValidator(lambda name: get_method(name).name)]
RunName = Annotated[str, AfterValidator(lambda name: _plain(name))]
_SOME = Field(min_length=1)
MethodNames = Annotated[list[MethodName], _SOME]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SHOWN = ["random", "band_statistics", "supervised_late", "iai", "mosaic"]


def setting(default: Any, description: str, **bounds: Any) -> Any:
    """Declare a field: its default, its meaning as the notebooks show it, and bounds as of ``Field``."""
    return Field(default, description=description, **bounds)


def _ascending(fractions: list[float]) -> list[float]:
    if sorted(set(fractions)) != fractions:
        raise ValueError("fractions must ascend and differ")
    return fractions


def _plain(name: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError("a run's name is that of a folder in reports/: of letters, digits, '-', '_' and '.'")
    return name


def _both_sensors(methods: list[str]) -> list[str]:
    if narrow := [name for name in methods if "fused" not in get_method(name).inputs]:
        raise ValueError(f"{', '.join(narrow)} see one sensor: a transfer compares methods of both")
    return methods


def _loaded(plugins: list[str]) -> list[str]:
    load_plugins(plugins)  # before the sections are validated, which may name what plugins register
    return plugins


class Section(BaseModel):
    """Settings that belong together. Values may be given flat: ``TrialSettings(**{"crop_scale": 0.5})``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

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

    def __dir__(self) -> list[str]:
        """Return what a notebook completes: fields and our own methods, without those of pydantic."""
        return [name for name in super().__dir__() if name[:2] == "__" or not hasattr(BaseModel, name)]

    def __repr__(self) -> str:
        """Return a line a field: its value, and what it means."""
        values, declared = self.flat(), fields(type(self))
        lines = [f"  {name} = {values[name]!r}  # {info.description}" for name, info in declared.items()]
        return "\n".join([type(self).__name__, *lines])

    def flat(self) -> dict[str, Any]:
        """Return field name -> value, those of inner sections included."""
        inner = [value.flat() if isinstance(value, Section) else {name: value} for name, value in self]
        return {name: value for values in inner for name, value in values.items()}

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy in which the fields named, of inner sections too, have other values."""
        return validated(type(self), type(self).__name__, {**self.flat(), **changes})


S = TypeVar("S", bound=Section)


def _sections(kind: type[Section]) -> dict[str, type[Section]]:
    defaults = {name: info.default for name, info in kind.model_fields.items()}
    return {name: type(default) for name, default in defaults.items() if isinstance(default, Section)}


def fields(kind: type[Section]) -> dict[str, FieldInfo]:
    """Return field name -> declaration, those of inner sections included."""
    inner = [fields(section) for section in _sections(kind).values()]
    own = {name: info for name, info in kind.model_fields.items() if name not in _sections(kind)}
    return own | {name: info for declared in inner for name, info in declared.items()}


class DataSettings(Section):
    """The archive, what of it is packed, and how ``01_explore_data`` shows it."""

    dataset: str = setting("bigearthnet", "layout: bigearthnet, copernicus_bench or sen12ms")
    archive: str = setting("simulated", "'simulated', or a folder in the official layout")
    patches: Count = setting(2000, "size of the simulated archive, pairs")
    archive_seed: int = setting(0, "seed of the simulated archive", ge=0)
    bands: str = setting("all", "'all', '10m', or Sentinel-2 bands separated by commas")
    include_snow_cloud: bool = setting(False, "keep patches officially flagged as snow or cloud")
    most_pixels: int = setting(128, "longest side of a packed patch; larger are averaged", ge=8)
    on_bad_patch: Literal["stop", "skip"] = setting("stop", "stop with a list, or skip and count")
    most_nodata: float = setting(0.5, "most of a sensor's values without data in a patch, share", ge=0, le=1)
    spectra_patches: Count = setting(300, "patches whose pixels give the spectra of classes")
    reference_draws: Count = setting(5, "draws of pairs for the reference classifier")
    gallery_patches: int = setting(6, "pairs shown in the gallery", ge=1, le=24)


class GridSettings(Section):
    """The trials of ``02_pretrain``: methods x seeds x label budgets."""

    methods: MethodNames = setting(
        ["random", "band_statistics", "supervised_late", "iai", "supcon", "mosaic"],
        "rows of the table of methods (mosaic.methods)",
    )
    seeds: Count = setting(3, "number of seeds: 0, 1, ...")
    one_seed: list[MethodName] = setting([], "methods that are trained with seed 0 only")
    tuning_steps: int = setting(0, "steps of a trial of hyperparameters; 0: none are tried", ge=0)
    label_fractions: Annotated[list[Percent], _SOME, AfterValidator(_ascending)] = setting(
        [5.0, 100.0], "label budgets of the evaluation, % of training labels"
    )
    label_budgets: Annotated[list[Literal["shared", "full"]], _SOME] = setting(
        ["shared", "full"], "shared: pretraining has the evaluation's labels; full: all"
    )
    label_budget_files: list[str] = setting([], "lists of patch ids, one a fraction below 100 %")
    vit_encoder: str = setting("vit_light", "of methods that need one: vit_light or vit_small")


class ViewSettings(Section):
    """Random views of a scene."""

    image_size: int = setting(48, "side of a view, pixels", ge=16, le=256)
    shared_geometry: bool = setting(True, "one crop for both sensors of a view")
    crop_scale: float = setting(0.4, "least share of a patch in a crop", gt=0, le=1)
    radiometry: float = setting(1.0, "factor on radiometric augmentation; 0 for none", ge=0)


class LossSettings(Section):
    """What objectives take; each reads the fields it knows."""

    temperature_intra: Positive = setting(0.5, "intra-modality term, unitless")
    temperature_inter: Positive = setting(0.5, "inter-modality term, unitless")
    temperature_label: Positive = setting(0.1, "label term, unitless")
    label_weight: Positive = setting(1.0, "weight of the label term; instance terms have 1")
    kernel: str = setting("jaccard", "label kernel of the label term")
    kernel_threshold: float = setting(0.0, "label similarity below it counts as 0", ge=0, le=1)
    projection_dim: int = setting(128, "width of a projection head's output", ge=2)
    inter_style: Literal["simclr", "clip"] = setting("simclr", "negatives: both sensors', or the other's")
    unlabelled_negatives: bool = setting(True, "unlabelled scenes are negatives of the label term")
    # of single objectives, with the values their authors published
    msc_alpha: float = setting(1.0, "MSC: weight of scenes against prototypes", ge=0)
    msc_beta: Positive = setting(0.1, "MSC: weight of scenes in the denominator; prototypes have 1")
    off_diagonal: float = setting(0.0051, "Barlow Twins, DeCUR: off-diagonal weight", ge=0)
    covariance: float = setting(1.0, "VICReg: covariance weight; the two others have 25", ge=0)
    queue_size: Count = setting(1024, "SupCon with queue: keys in the queue")
    key_momentum: float = setting(0.99, "SupCon with queue: of the key encoder", ge=0, le=1)
    temperature_spread: float = setting(0.5, "MACL, a: dissimilar pairs are warmer", ge=0)
    rarity_pull: float = setting(0.5, "MACL, b: anchors of rare labels are colder", ge=0, lt=1)
    contrast_weight: float = setting(1.0, "SADCL: factor on its two contrasts", ge=0)


class OptimiserSettings(Section):
    """AdamW with a linear warm-up and a cosine to 0."""

    learning_rate: Positive = setting(1.0e-3, "AdamW, peak")
    weight_decay: float = setting(1.0e-4, "AdamW, of weights", ge=0)
    warmup_fraction: float = setting(0.1, "share of the steps", ge=0, lt=1)


class ComputeSettings(Section):
    """How a trial is computed; none of it changes results, except by rounding."""

    capture: bool = setting(True, "on a GPU, each training step is one CUDA graph")
    compile_encoder: Literal["auto", "yes", "no"] = setting(
        "auto", "torch.compile; auto: a large encoder on a GPU for many steps"
    )
    gpu_records: Share = setting(0.5, "share of free GPU memory that the training split may take")
    log_every: int = setting(0, "steps between two readings of the loss; 0: 50 on a GPU", ge=0)


class TrialSettings(Section):
    """One encoder to train: what ``pretrain`` takes and ``card.json`` stores."""

    method: MethodName = setting("mosaic", "row of the table of methods (mosaic.methods)")
    seed: int = setting(0, "of initialisation, data order and views", ge=0)
    encoder: str = setting("light", "light, resnet18, resnet50, vit_light or vit_small")
    initial: str | None = setting(None, "folder of a checkpoint to start from")
    views: ViewSettings = ViewSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    compute: ComputeSettings = ComputeSettings()
    steps: Count = setting(100, "optimiser steps, the same for every method")
    batch_scenes: int = setting(64, "scenes in a batch; four views each", ge=2)
    labelled_share: float = setting(0.25, "least share of labelled scenes in a batch", ge=0, le=1)
    precision: Literal["auto", "32", "bf16-mixed"] = setting("auto", "auto: bf16 on a GPU that has it")
    monitor_every: int = setting(50, "steps between two checks of collapse and kNN score", ge=0)

    def weighted_method(self) -> Method:
        """Return the method with the label term's weight; alone, that would only be another learning rate."""
        method = get_method(self.method)
        if method.label > 0 and (method.intra > 0 or method.inter > 0):
            return replace(method, label=self.loss.label_weight * method.label)
        return method


class EvaluationSettings(Section):
    """``03_finetune_low_label``: how encoders are evaluated."""

    evaluations: Annotated[list[Literal["knn", "linear", "finetune"]], _SOME] = setting(
        ["knn", "linear", "finetune"], "how encoders are evaluated"
    )
    neighbours: Count = setting(20, "k of the kNN classifier")
    probe_strength: Literal["budget", "validation"] = setting(
        "budget", "linear probe: cross-validated within the label budget, or best on validation"
    )
    finetune_seeds: Count = setting(1, "seeds whose encoders are fine-tuned; no claim rests on it")
    finetune_steps: Count = setting(40, "optimiser steps of full fine-tuning")
    finetune_batch: Count = setting(32, "scenes in a fine-tuning batch")
    finetune_learning_rate: Positive = setting(1.0e-4, "AdamW, peak, whole model")


class EmbeddingSettings(Section):
    """``04_embeddings_and_coherence``: how embeddings are measured and drawn."""

    most_patches: int = setting(5000, "most patches of a split that are embedded", ge=20)
    coherence_neighbours: Count = setting(10, "k of the neighbours' label Jaccard index")
    umap_neighbours: int = setting(15, "UMAP n_neighbors", ge=2)
    umap_min_dist: float = setting(0.1, "UMAP min_dist", ge=0, le=1)
    umap_seeds: Count = setting(2, "UMAPs of each embedding, seeds 0, 1, ...")
    umap_methods: MethodNames = setting(_SHOWN, "methods drawn, if they ran")
    gallery_queries: int = setting(4, "queries of the neighbour gallery", ge=1, le=12)


class TransferSettings(Section):
    """``05_transfer``: other archives, and places that training never saw."""

    transfer_methods: Annotated[MethodNames, AfterValidator(_both_sensors)] = setting(
        _SHOWN, "methods, if they ran"
    )
    held_out: int = setting(1, "countries or seasons held out, one at a time; 0 for none", ge=0)
    held_out_seeds: Count = setting(1, "seeds trained without them; no claim rests on it")


class StudySettings(Section):
    """All settings of a run of the study."""

    out: RunName = setting("demo", "name of the run: reports/<out>/")
    plugins: Annotated[list[str], AfterValidator(_loaded)] = setting(
        [], "Python files that register losses, kernels, methods, ..."
    )
    data: DataSettings = DataSettings()
    grid: GridSettings = GridSettings()
    trial: TrialSettings = TrialSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    transfer: TransferSettings = TransferSettings()
    companion_runs: list[RunName] = setting([], "runs of other archives, made before this one")
    jobs: int = setting(0, "processes; 0: one for each CPU core, or as many as fit on a GPU", ge=0)
    trials_per_gpu: int = setting(0, "trials at a time on one GPU; 0: as many as fit", ge=0)


#: Fields of a trial that no notebook declares: of one trial, or of one objective.
_NOT_DECLARED = {
    *("method", "seed", "initial", "msc_alpha", "msc_beta"),
    *("off_diagonal", "covariance", "queue_size", "key_momentum"),
    *("temperature_spread", "rarity_pull", "contrast_weight"),
}
_ALL = ("out", "plugins")

#: The notebooks in the order they run, and the fields that the parameters cell of each declares.
NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "00_method_in_one_page": (
        *(*_ALL, "encoder", "image_size", "learning_rate"),
        *("temperature_intra", "temperature_inter", "temperature_label", "kernel"),
    ),
    "01_explore_data": (*_ALL, *fields(DataSettings)),
    "02_pretrain": (
        *(*_ALL, *fields(GridSettings), "jobs", "trials_per_gpu"),
        *(name for name in fields(TrialSettings) if name not in _NOT_DECLARED),
    ),
    "03_finetune_low_label": (*_ALL, *fields(EvaluationSettings), "jobs"),
    "04_embeddings_and_coherence": (*_ALL, *fields(EmbeddingSettings), "jobs"),
    "05_transfer": (*_ALL, "companion_runs", *fields(TransferSettings), "jobs"),
    "06_compare_methods": (*_ALL, "companion_runs", "jobs"),
    "07_claims": (*_ALL, "companion_runs"),
}
#: All of these fields, which profiles and ``-p`` may give.
DECLARED = tuple(dict.fromkeys(name for names in NOTEBOOKS.values() for name in names))


def make(notebook: str, values: Mapping[str, Any]) -> StudySettings:
    """Return the settings of the study with the parameters of one notebook, given flat.

    Those of other notebooks are ignored, so that one file of parameters serves all; SettingsError for a name
    that none declares (the nearest is suggested), a wrong type or a value out of range.
    """
    others = [name for name in values if name in DECLARED and name not in NOTEBOOKS[notebook]]
    if others:
        log(f"{notebook} has no use for {', '.join(others)}: parameters of other notebooks")
    own = {name: value for name, value in values.items() if name not in others}
    return validated(StudySettings, notebook, own, NOTEBOOKS[notebook])


def validated(kind: type[S], title: str, values: Mapping[str, Any], known: Sequence[str] | None = None) -> S:
    """Return settings from flat values of ``known`` names, by default all; errors call them ``title``."""
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
    """Return the names that papermill's cell assigned, of the cells run so far; it lets unknown ones pass."""
    injected = [ast.parse(cell).body for cell in history if cell.lstrip().startswith("# Parameters")]
    targets = [t for body in injected for node in body if isinstance(node, ast.Assign) for t in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]
