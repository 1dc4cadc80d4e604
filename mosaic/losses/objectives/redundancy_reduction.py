"""Agreement without negatives: VICReg, Barlow Twins and DeCUR between views and between sensors.

VICReg: Bardes et al. 2022, arXiv:2105.04906. Barlow Twins: Zbontar et al. 2021, arXiv:2103.03230; its loss is
lightly's. DeCUR: Wang et al. 2024, arXiv:2309.05300.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn

from mosaic.losses.objectives.base import Objective, Step, register_loss
from mosaic.models.encoders import Encoder
from mosaic.utils.distributed import gather

#: Share of DeCUR's dimensions that the sensors have in common.
COMMON_SHARE = 0.875
Loss = Callable[[Tensor, Tensor], Tensor]


@register_loss("barlow")
class BarlowTwins(Objective):
    """A loss between the two views of a sensor, and between two sensors of a view; one expander a sensor.

    ``intra`` is the mean over sensors, ``inter`` over views and pairs of sensors.
    """

    reads: ClassVar = {term: {"projection_dim", "off_diagonal"} for term in ("intra", "inter")}
    views = slice(None)  # that are compared between sensors

    def build(self, encoder: Encoder) -> None:
        """Make an expander for each stream, and the loss."""
        # deferred: a second of imports for three of many methods
        from lightly.loss import BarlowTwinsLoss
        from lightly.models.modules.heads import BarlowTwinsProjectionHead

        width = self.settings.projection_dim
        expanders = {s: BarlowTwinsProjectionHead(f, width, width) for s, f in encoder.feature_dims.items()}
        self.expanders = nn.ModuleDict(expanders)
        self.within: Loss = BarlowTwinsLoss(lambda_param=self.settings.off_diagonal).forward
        self.between = self.within

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``intra`` and ``inter`` as far as the method weighs them."""
        # batch norm sees one view of one sensor at a time, as with the two forwards of the published code
        z = {
            stream: [gather(self.expanders[stream](view)) for view in feature]
            for stream, feature in step.features.items()
        }
        terms: dict[str, Tensor] = {}
        if self.method.intra > 0:
            terms["intra"] = torch.stack([self.within(*views) for views in z.values()]).mean()
        if self.method.inter > 0:
            sensors = [views[self.views] for views in z.values()]
            pairs = [pair for a, b in combinations(sensors, 2) for pair in zip(a, b, strict=True)]
            terms["inter"] = torch.stack([self.between(*pair) for pair in pairs]).mean()
        return terms


@register_loss("vicreg")
class VICReg(BarlowTwins):
    """VICReg's loss."""

    reads: ClassVar = {term: {"projection_dim", "covariance"} for term in ("intra", "inter")}

    def build(self, encoder: Encoder) -> None:
        """Make the expanders and the loss."""
        super().build(encoder)
        self.within = self.between = partial(vicreg_loss, covariance=self.settings.covariance)


@register_loss("decur")
class DeCUR(BarlowTwins):
    """Barlow Twins within a sensor, DeCUR's decoupled correlation between sensors.

    As in the authors' code, the sensors share one projector and are compared in the first view alone.
    """

    reads: ClassVar = BarlowTwins.reads
    views = slice(1)

    def build(self, encoder: Encoder) -> None:
        """Make the projectors and the losses."""
        super().build(encoder)
        self.expanders = nn.ModuleDict(dict.fromkeys(self.expanders, next(iter(self.expanders.values()))))
        common, weight = round(COMMON_SHARE * self.settings.projection_dim), self.settings.off_diagonal
        self.between = partial(decoupled_correlation, common=common, off_diagonal=weight)


def vicreg_loss(a: Tensor, b: Tensor, covariance: float) -> Tensor:
    """Return VICReg's loss between two embeddings (N, D), whose other two terms weigh 25.

    lightly's picks the entries off the diagonal by a mask, whose number a CUDA graph cannot know.
    """
    from lightly.loss.vicreg_loss import invariance_loss, variance_loss

    terms = 25 * invariance_loss(a, b) + 25 * 0.5 * (variance_loss(a) + variance_loss(b))
    for z in (a, b):
        centred = z - z.mean(0)
        product = centred.T @ centred / (len(z) - 1)
        terms = terms + covariance * (product - product.diagonal().diag()).square().sum() / z.shape[1]
    return terms


def decoupled_correlation(a: Tensor, b: Tensor, common: int, off_diagonal: float) -> Tensor:
    """Return DeCUR's loss between two sensors (N, D).

    In the cross-correlation (D, D) of batch-normalised embeddings the first ``common`` diagonal entries are
    pulled to 1, the others to 0; off-diagonal entries of either block to 0, with weight ``off_diagonal``.
    """
    correlation = _standardised(a).T @ _standardised(b) / len(a)
    target = torch.zeros(len(correlation), device=a.device)
    target[:common] = 1
    total = (correlation.diagonal() - target).pow(2).sum()
    for block in (correlation[:common, :common], correlation[common:, common:]):
        total = total + off_diagonal * (block.pow(2).sum() - block.diagonal().pow(2).sum())
    return total


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
