"""The table of methods. A method is a row of settings, never a code path of its own."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mosaic.utils.errors import SettingsError
from mosaic.utils.plugins import Registry

Family = Literal[
    "random",
    "statistics",
    "supervised",
    "self-supervised",
    "label-contrastive",
    "mosaic",
    "ablation",
    "pretrained",
]

_BOTH = ("s1", "s2")
#: Stream whose encoder sees the bands of all sensors stacked.
EARLY = "early"


@dataclass(frozen=True)
class Method:
    """One way to train an encoder."""

    name: str
    title: str  # in figures and tables
    family: Family  # what it is compared as
    streams: tuple[str, ...]  # one encoder each: sensors, or "early" for one of the bands of all stacked
    intra: float = 0.0  # weight of the contrast between two views of one sensor
    inter: float = 0.0  # weight of the contrast between the sensors
    label: float = 0.0  # weight of the multi-label supervised contrastive term
    classify: float = 0.0  # weight of the binary cross-entropy of a classifier
    kernel: str | None = None  # of the label term; None takes the run's setting
    temporal: bool = False  # the second view may come from another date of the same place
    loss: str = "contrastive"  # what computes the terms, a name in mosaic.losses.objectives.base.LOSSES
    #: Vision transformer, one of fused class tokens, or statistics of bands, in place of the run's encoder.
    architecture: Literal["", "vit", "sct", "statistics"] = ""
    labelled_only: bool = False  # only labelled scenes in training, though there is a contrastive term
    rare_first: bool = False  # labelled scenes are drawn in proportion to the rarity of their labels
    like: str | None = None  # whose tuned hyperparameters it takes, so that it differs in one thing only
    weights: str | None = None  # published weights, used as they are: mosaic.models.published_weights

    def __post_init__(self) -> None:
        if self.inter > 0 and len(self.streams) < 2:
            raise SettingsError(
                f"method {self.name!r}: inter needs two streams, such as s1 and s2, found "
                f"{', '.join(self.streams)}"
            )
        if min(self.intra, self.inter, self.label, self.classify) < 0:
            raise SettingsError(f"method {self.name!r}: a term's weight is below 0; use 0 to leave it out")

    @property
    def uses_labels(self) -> bool:
        """Whether any label reaches training."""
        return self.label > 0 or self.classify > 0

    @property
    def trained(self) -> bool:
        """Whether there is anything to optimise; random features are not trained."""
        return self.uses_labels or self.intra > 0 or self.inter > 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its encoder can be evaluated on, named as in the results table."""
        early = self.streams == (EARLY,)
        if len(self.streams) == 1 and not early:
            return self.streams
        sensors = _BOTH if early else self.streams
        return (*(() if early else sensors), "fused", *(f"fused_without_{sensor}" for sensor in sensors))

    @property
    def tunable(self) -> bool:
        """Whether its encoder has weights to fine-tune."""
        return self.architecture != "statistics"

    @property
    def only_classifies(self) -> bool:
        """Whether it is fully supervised: a classifier is all it is trained for."""
        return self.classify > 0 and not (self.intra or self.inter or self.label)

    @property
    def sees_labelled_only(self) -> bool:
        """Whether it learns from labelled scenes alone."""
        return self.only_classifies or self.labelled_only


METHODS: Registry[Method] = Registry("method")

#: MoSAiC without one term.
ABLATIONS: dict[str, str] = {term: f"mosaic_no_{term}" for term in ("intra", "inter", "label")}
#: Without tuned hyperparameters MoSAiC without its label term *is* IaI-SimCLR, and need not be trained twice.
SAME_UNTUNED: dict[str, str] = {"mosaic_no_label": "iai"}


def register_method(method: Method) -> Method:
    """Add a row to the table; SettingsError when another method has this name.

    Example:
        >>> register_method(Method("mosaic_l5", "MoSAiC, label 5", "mosaic", ("s1", "s2"), 1.0, 1.0, 5.0))
    """
    METHODS.add(method.name, method)
    return method


def get_method(name: str) -> Method:
    """Return a row of the table; SettingsError for an unknown name, which suggests the nearest."""
    return METHODS[name]


def method_sources() -> list[dict[str, str]]:
    """Return what methods were compared with: methods, title, source, equals and deviates."""
    with open(Path(__file__).with_suffix(".csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_SUPCON = Method("supcon", "Multi-label SupCon", "label-contrastive", _BOTH, label=1)
for _method in (
    Method("random", "Random features", "random", _BOTH),
    Method("supervised_s1", "Supervised S1", "supervised", ("s1",), classify=1),
    Method("supervised_s2", "Supervised S2", "supervised", ("s2",), classify=1),
    Method("supervised_early", "Supervised, early fusion", "supervised", ("early",), classify=1),
    Method("supervised_late", "Supervised, late fusion", "supervised", _BOTH, classify=1),
    Method("mimrf", "MIMRF (our variant)", "supervised", _BOTH, classify=1, loss="choquet"),
    Method("sct", "SCT Fusion", "supervised", ("early",), classify=1, architecture="sct"),
    Method("supervised_vit", "Supervised late, ViT", "supervised", _BOTH, classify=1, architecture="vit"),
    Method("simclr_s1", "SimCLR S1", "self-supervised", ("s1",), intra=1),
    Method("simclr_s2", "SimCLR S2", "self-supervised", ("s2",), intra=1),
    Method("inter", "Dual-SimCLR (inter only)", "self-supervised", _BOTH, inter=1),
    Method("iai", "IaI-SimCLR", "self-supervised", _BOTH, intra=1, inter=1),
    Method("vicreg", "VICReg", "self-supervised", _BOTH, intra=1, inter=1, loss="vicreg"),
    Method("barlow", "Barlow Twins", "self-supervised", _BOTH, intra=1, inter=1, loss="barlow"),
    # The mean of three losses, two of them within a sensor; the third is the mean of its common and its
    # unique part, as in the authors' code (github.com/zhu-xlab/DeCUR).
    Method("decur", "DeCUR", "self-supervised", _BOTH, intra=2 / 3, inter=1 / 6, loss="decur"),
    _SUPCON,
    Method("supcon_queue", "SupCon with queue", "label-contrastive", _BOTH, label=1, loss="queue"),
    Method("msc", "MSC with classifier", "label-contrastive", _BOTH, label=1, classify=1, kernel="msc"),
    replace(
        _SUPCON, name="macl", title="MACL (our variant)", loss="macl", kernel="idf_jaccard", rare_first=True
    ),
    replace(_SUPCON, name="sadcl", title="SADCL (our variant)", loss="sadcl", classify=1, labelled_only=True),
    Method("mosaic", "MoSAiC", "mosaic", _BOTH, intra=1, inter=1, label=1),
    Method("mosaic_no_intra", "MoSAiC less intra", "ablation", _BOTH, inter=1, label=1, like="mosaic"),
    Method("mosaic_no_inter", "MoSAiC less inter", "ablation", _BOTH, intra=1, label=1, like="mosaic"),
    Method("mosaic_no_label", "MoSAiC less label", "ablation", _BOTH, intra=1, inter=1, like="mosaic"),
    Method(
        "mosaic_temporal", "MoSAiC, temporal views", "ablation", _BOTH, 1, 1, 1, temporal=True, like="mosaic"
    ),
    Method("mosaic_classify", "MoSAiC with classifier", "ablation", _BOTH, 1.0, 1.0, 1.0, 1.0, like="mosaic"),
    Method("mosaic_vit", "MoSAiC, ViT", "ablation", _BOTH, 1.0, 1.0, 1.0, architecture="vit"),
    *(
        replace(_SUPCON, name=f"supcon_{k}", title=f"SupCon, kernel {k}", kernel=k, like="supcon")
        for k in ("any", "all", "jaccard", "idf_jaccard", "cosine", "mulsupcon", "msc")
    ),
    Method("band_statistics", "Band statistics", "statistics", _BOTH, architecture="statistics"),
    Method("frozen_moco", "SSL4EO MoCo, frozen", "pretrained", _BOTH, weights="moco"),
    Method("frozen_decur", "SSL4EO DeCUR, frozen", "pretrained", _BOTH, weights="decur"),
    Method("frozen_softcon", "SSL4EO SoftCon, frozen", "pretrained", _BOTH, weights="softcon"),
    Method("frozen_croma", "CROMA, frozen", "pretrained", _BOTH, weights="croma"),
    Method("frozen_dofa", "DOFA, frozen", "pretrained", _BOTH, weights="dofa"),
):
    register_method(_method)
