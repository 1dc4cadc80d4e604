"""Every parameter of the study, with its type, range and meaning. One class for each notebook.

The ``parameters`` cell of a notebook declares exactly the fields of its class, with the same defaults (the
``demo`` profile); a test keeps them in step. A profile (``notebooks/profiles/*.yaml``) is a flat list of
overrides.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from mosaic.methods import get_method
from mosaic.utils.errors import SettingsError, suggest

Percent = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _known_method(name: str) -> str:
    return get_method(name).name


S = TypeVar("S", bound=BaseModel)
MethodName = Annotated[str, AfterValidator(_known_method)]
RunName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Settings(BaseModel):
    """What every notebook has: the name of the run it belongs to."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    out: RunName = Field("demo", description="name of the run: reports/<out>/")


class ExploreSettings(Settings):
    """01_explore_data: which archive, which bands, which patches."""

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


class PretrainSettings(Settings):
    """02_pretrain: methods, encoder, views, losses and schedule."""

    methods: list[MethodName] = Field(
        ["random", "supervised_late", "simclr_s1", "simclr_s2", "iai", "mosaic"],
        min_length=1,
        description="rows of the table of methods (mosaic.methods)",
    )
    seeds: Count = Field(1, description="number of seeds: 0, 1, ...")
    one_seed: list[MethodName] = Field([], description="methods that are trained with seed 0 only")
    tuning_steps: int = Field(0, ge=0, description="steps of a trial of hyperparameters; 0: none are tried")
    label_fractions: list[Percent] = Field(
        [5.0, 20.0, 100.0], min_length=1, description="% of training labels"
    )
    label_protocols: list[Literal["budgeted", "full"]] = Field(
        ["budgeted", "full"], min_length=1, description="pretraining sees the budget's labels, or all"
    )
    encoder: str = Field("light", description="light, resnet18, resnet50, vit_light or vit_small")
    vit_encoder: str = Field("vit_light", description="of methods that need one: vit_light or vit_small")
    image_size: int = Field(48, ge=16, le=256, description="side of a view, pixels")
    steps: Count = Field(150, description="optimiser steps, the same for every method")
    batch_scenes: int = Field(64, ge=2, description="scenes in a batch; four views each")
    learning_rate: Positive = Field(1.0e-3, description="AdamW, peak")
    weight_decay: float = Field(1.0e-4, ge=0, description="AdamW, of weights")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of the steps")
    temperature_intra: Positive = Field(0.5, description="intra-modality term, unitless")
    temperature_inter: Positive = Field(0.5, description="inter-modality term, unitless")
    temperature_label: Positive = Field(0.1, description="label term, unitless")
    label_weight: Positive = Field(1.0, description="weight of the label term beside instance terms of 1")
    kernel: str = Field("jaccard", description="label kernel of the label term")
    kernel_threshold: float = Field(0.0, ge=0, le=1, description="label similarity below it counts as 0")
    projection_dim: int = Field(128, ge=2, description="width of a projection head's output")
    shared_geometry: bool = Field(True, description="one crop for both sensors of a view")
    crop_scale: float = Field(0.4, gt=0, le=1, description="least share of a patch in a crop")
    radiometry: float = Field(1.0, ge=0, description="factor on radiometric augmentation; 0 for none")
    inter_style: Literal["simclr", "clip"] = Field(
        "simclr", description="negatives of both sensors, or of the other only"
    )
    unlabelled_negatives: bool = Field(True, description="unlabelled scenes are negatives of the label term")
    labelled_share: float = Field(0.25, ge=0, le=1, description="least share of labelled scenes in a batch")
    precision: Literal["auto", "32", "bf16-mixed"] = Field(
        "auto", description="auto: bf16 on a GPU that has it"
    )
    monitor_every: Count = Field(50, description="steps between two looks at collapse and kNN score")
    jobs: int = Field(0, ge=0, description="processes; 0: one for each CPU core, one on a GPU")

    @field_validator("label_fractions")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if sorted(set(value)) != value:
            raise ValueError("fractions must ascend and differ")
        return value


class FinetuneSettings(Settings):
    """03_finetune_low_label: how the representations are judged."""

    evaluations: list[Literal["knn", "linear", "finetune"]] = Field(
        ["knn", "linear", "finetune"], min_length=1, description="how encoders are judged"
    )
    neighbours: Count = Field(20, description="k of the kNN classifier")
    finetune_steps: Count = Field(40, description="optimiser steps of full fine-tuning")
    finetune_batch: Count = Field(32, description="scenes in a fine-tuning batch")
    finetune_learning_rate: Positive = Field(1.0e-4, description="AdamW, peak, whole model")
    bootstrap_resamples: int = Field(300, ge=20, description="resamples of scenes for each interval")
    jobs: int = Field(0, ge=0, description="processes; 0: one for each CPU core, one on a GPU")


class EmbeddingSettings(Settings):
    """04_embeddings_and_coherence: how the embedding spaces are measured and drawn."""

    most_patches: int = Field(5000, ge=20, description="most patches of a split that are embedded")
    coherence_neighbours: Count = Field(10, description="k of the neighbours' label Jaccard index")
    umap_neighbours: int = Field(15, ge=2, description="UMAP n_neighbors")
    umap_min_dist: float = Field(0.1, ge=0, le=1, description="UMAP min_dist")
    umap_seeds: Count = Field(2, description="UMAPs of each embedding, seeds 0, 1, ...")
    umap_methods: list[MethodName] = Field(
        ["random", "supervised_late", "iai", "mosaic"], min_length=1, description="methods drawn, if they ran"
    )
    gallery_queries: int = Field(4, ge=1, le=12, description="queries of the neighbour gallery")
    bootstrap_resamples: int = Field(300, ge=20, description="resamples of scenes for each interval")
    jobs: int = Field(0, ge=0, description="processes; 0: one for each CPU core, one on a GPU")


class TransferSettings(Settings):
    """05_transfer: other archives, and places that training never saw."""

    beside: list[RunName] = Field([], description="runs of other archives, made before this one")
    transfer_methods: list[MethodName] = Field(
        ["random", "supervised_late", "iai", "mosaic"], min_length=1, description="methods, if they ran"
    )
    held_out: int = Field(1, ge=0, description="countries or seasons held out, one at a time; 0 for none")
    bootstrap_resamples: int = Field(300, ge=20, description="resamples of scenes for each interval")
    jobs: int = Field(0, ge=0, description="processes; 0: one for each CPU core, one on a GPU")

    @field_validator("transfer_methods")
    @classmethod
    def _take_both_sensors(cls, value: list[str]) -> list[str]:
        narrow = [name for name in value if "fused" not in get_method(name).inputs]
        if narrow:
            raise ValueError(
                f"{', '.join(narrow)} see one sensor: a transfer compares methods that take both"
            )
        return value


class CompareSettings(Settings):
    """06_compare_methods: all methods, beside those of other archives."""

    beside: list[RunName] = Field([], description="runs of other archives, made before this one")
    bootstrap_resamples: int = Field(300, ge=20, description="resamples of scenes for each interval")
    jobs: int = Field(0, ge=0, description="processes; 0: one for each CPU core, one on a GPU")


class ClaimSettings(Settings):
    """07_claims: how sure the ledger is. Its rules are constants of ``mosaic.evaluation.claims``."""

    beside: list[RunName] = Field([], description="runs of other archives, made before this one")
    claim_resamples: int = Field(2000, ge=100, description="resamples of scenes and seeds for each claim")


#: The notebooks in the order they run, and the parameters each declares.
NOTEBOOKS: dict[str, type[Settings]] = {
    "01_explore_data": ExploreSettings,
    "02_pretrain": PretrainSettings,
    "03_finetune_low_label": FinetuneSettings,
    "04_embeddings_and_coherence": EmbeddingSettings,
    "05_transfer": TransferSettings,
    "06_compare_methods": CompareSettings,
    "07_claims": ClaimSettings,
}


def make(notebook: str, values: Mapping[str, Any]) -> Settings:
    """Return the validated settings of one notebook.

    Raises:
        SettingsError: for an unknown name (the nearest is suggested), a wrong type or a value out of range.
    """
    return validated(NOTEBOOKS[notebook], notebook, values)


def validated(kind: type[S], title: str, values: Mapping[str, Any]) -> S:
    """Do as :func:`make` for any settings; errors call them by ``title``."""
    for name in values:
        if name not in kind.model_fields:
            raise SettingsError(f"{title} has no parameter {name!r}{suggest(name, kind.model_fields)}")
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        hint = ""
        if isinstance(first["input"], str) and _is_number(first["input"]):
            hint = f" (YAML reads {first['input']!r} as text: write a number such as 1.0e-3)"
        raise SettingsError(
            f"{title}: parameter {name!r} = {first['input']!r}: {first['msg']}{hint}"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def injected_names(history: Sequence[str]) -> list[str]:
    """Return the names that papermill's injected cell assigned, given the source of the cells run so far.

    Papermill only warns about an unknown parameter and goes on with defaults; with these names the notebook
    itself can refuse.
    """
    names: list[str] = []
    for source in history:
        if source.lstrip().startswith("# Parameters"):
            for node in ast.parse(source).body:
                if isinstance(node, ast.Assign):
                    names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
