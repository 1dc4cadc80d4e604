"""Agreement without negatives: VICReg, Barlow Twins and DeCUR between views and between sensors.

VICReg: Bardes et al. 2022, arXiv:2105.04906. Barlow Twins: Zbontar et al. 2021, arXiv:2103.03230. Both losses
are lightly's. DeCUR: Wang et al. 2024, arXiv:2309.05300.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from mosaic.losses.objectives.base import Objective, ObjectiveSettings, Step
from mosaic.methods import Method
from mosaic.utils.distributed import gather
from mosaic.utils.errors import RunError

PairLoss = Callable[[Tensor, Tensor], Tensor]
#: Share of DeCUR's dimensions that the sensors have in common.
COMMON_SHARE = 0.875


class RedundancyReduction(Objective):
    """A loss between two matrices of projections, applied within each sensor and between the sensors.

    Within a sensor: its two views, the mean over sensors is ``intra``. Between: both sensors of a view, the
    mean over views is ``inter``. Each sensor has one expander for both, as published for DeCUR.

    Args:
        method: a row whose objective is ``"vicreg"``, ``"barlow"`` or ``"decur"``.
        feature_dims: stream -> width of the encoder's features.
        settings: ``projection_dim``, and ``covariance`` or ``off_diagonal``.

    Raises:
        RunError: when lightly, whose losses these are, is not installed.
    """

    def __init__(self, method: Method, feature_dims: Mapping[str, int], settings: ObjectiveSettings) -> None:
        super().__init__(method)
        width = settings.projection_dim
        self.expanders = nn.ModuleDict({s: expander(f, width) for s, f in feature_dims.items()})
        self.within, self.between = _pair_losses(method.objective, settings, width)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``intra`` and ``inter`` as far as the method weighs them, and their total."""
        # batch norm sees one view of one sensor at a time, as with the two forwards of the published code
        z = {
            stream: [gather(self.expanders[stream](view).float()) for view in feature]
            for stream, feature in step.features.items()
        }
        terms: dict[str, Tensor] = {}
        if self.method.intra > 0:
            terms["intra"] = torch.stack([self.within(*views) for views in z.values()]).mean()
        if self.method.inter > 0:
            sensors = list(z.values())
            pairs = [pair for a, b in pairwise(sensors) for pair in zip(a, b, strict=True)]
            terms["inter"] = torch.stack([self.between(*pair) for pair in pairs]).mean()
        weighted = [getattr(self.method, name) * term for name, term in terms.items()]
        return {**terms, "total": torch.stack(weighted).sum()}


def expander(in_dim: int, out_dim: int) -> nn.Module:
    """Return three linear layers with batch normalisation between: (N, in_dim) -> (N, out_dim)."""
    return nn.Sequential(
        nn.Linear(in_dim, out_dim, bias=False),
        nn.BatchNorm1d(out_dim),
        nn.ReLU(inplace=True),
        nn.Linear(out_dim, out_dim, bias=False),
        nn.BatchNorm1d(out_dim),
        nn.ReLU(inplace=True),
        nn.Linear(out_dim, out_dim),
    )


def _pair_losses(name: str, settings: ObjectiveSettings, width: int) -> tuple[PairLoss, PairLoss]:
    """Return the loss within a sensor and the loss between sensors."""
    try:
        from lightly.loss import BarlowTwinsLoss, VICRegLoss  # a second of imports for two of many methods
    except ImportError as error:
        raise RunError(
            f"{name} takes its loss from lightly, which is missing: pip install lightly"
        ) from error
    if name == "vicreg":
        loss = VICRegLoss(nu_param=settings.covariance)
        return loss, loss
    barlow = BarlowTwinsLoss(lambda_param=settings.off_diagonal)
    if name == "barlow":
        return barlow, barlow
    common = round(COMMON_SHARE * width)

    def between(a: Tensor, b: Tensor) -> Tensor:
        return decoupled_correlation(a, b, common, settings.off_diagonal)

    return barlow, between


def decoupled_correlation(a: Tensor, b: Tensor, common: int, off_diagonal: float) -> Tensor:
    """Return DeCUR's loss between sensors: common dimensions agree, the others do not.

    With C the cross-correlation (D, D) of batch-normalised embeddings: the first ``common`` diagonal entries
    are pulled to 1, the others to 0; off-diagonal entries of either block to 0.

    Args:
        a: (N, D), one sensor.
        b: (N, D), the other.
        common: number of common dimensions, at most D.
        off_diagonal: weight of the off-diagonal entries.
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
