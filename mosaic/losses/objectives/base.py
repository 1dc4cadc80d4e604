"""The shape of an objective, and the settings that any of them may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from mosaic.losses.terms import Temperatures
from mosaic.methods import Method


@dataclass(frozen=True)
class ObjectiveSettings:
    """Settings of all objectives; each takes those it knows. Published values are the defaults.

    Attributes:
        classes: number of labels C.
        projection_dim: width D of projections.
        temperatures: of the contrastive terms.
        kernel: label kernel, unless the method names its own.
        kernel_threshold: kernel weights below it become 0.
        inter_style: ``"simclr"`` or ``"clip"``, see :class:`ContrastiveTerms`.
        unlabelled_negatives: unlabelled scenes are negatives of the label term.
        class_counts: (C,) scenes with each label among those whose labels may be used.
        total: number of those scenes.
        msc_alpha: weight of scenes against prototypes in the ``msc`` kernel.
        off_diagonal: weight of the off-diagonal of a cross-correlation (Barlow Twins, DeCUR).
        covariance: weight of VICReg's covariance term, beside 25 of the two others.
        queue_size: entries of the queue of keys.
        key_momentum: of the key encoder's moving average.
        temperature_spread: a of MACL, how much warmer dissimilar pairs are.
        rarity_pull: b of MACL, how much colder anchors of rare labels are.
        contrast_weight: factor on the two contrasts of SADCL.
    """

    classes: int = 0
    projection_dim: int = 128
    temperatures: Temperatures = field(default_factory=Temperatures)
    kernel: str = "jaccard"
    kernel_threshold: float = 0.0
    inter_style: Literal["simclr", "clip"] = "simclr"
    unlabelled_negatives: bool = True
    class_counts: Tensor | None = None
    total: float | None = None
    msc_alpha: float = 1.0
    off_diagonal: float = 0.0051
    covariance: float = 1.0
    queue_size: int = 1024
    key_momentum: float = 0.99
    temperature_spread: float = 0.5
    rarity_pull: float = 0.5
    contrast_weight: float = 1.0


@dataclass(frozen=True)
class Step:
    """What an objective is given: two views of this process's part of a batch, and the labels of all of it.

    The batch has B scenes and the part b, the same number where one process works alone. An objective gathers
    what it makes of the images, so its terms are those of the whole batch.

    Attributes:
        images: sensor -> (2 b, bands, H, W), the first view of all scenes, then the second.
        features: stream -> (2, b, F) from the encoder.
        maps: stream -> (2, b, F, h, w) before pooling; empty unless the objective uses them.
        labels: (B, C), 0 or 1; zero for scenes whose labels may not be used.
        labelled: (B,) bool.
    """

    images: Mapping[str, Tensor]
    features: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]
    labels: Tensor
    labelled: Tensor


class Objective(nn.Module):
    """Heads and loss of a method: from features of a batch to the terms that are minimised.

    Attributes:
        method: a row of the table.
        classifier: maps joined features (..., sum of F) to logits (..., C); None where there is none.
        uses_maps: whether feature maps before pooling are needed.
    """

    uses_maps = False

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.classifier: nn.Module | None = None

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return term -> unweighted scalar, and ``"total"``, their sum weighted as the method says."""
        raise NotImplementedError
