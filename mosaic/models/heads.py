"""Heads on the features of an encoder: projections for the contrastive terms, and a classifier that fuses.

MIMRF's fusion: Du and Zare, "Multi-resolution multi-modal sensor fusion for remote sensing data with label
uncertainty" (arXiv:1805.00930). With sources sorted by confidence, the Choquet integral is
C_g = sum_k [h_(k) - h_(k+1)] g(A_k); for two sensors and h_1 >= h_2, C_g = g_1 h_1 + (1 - g_1) h_2. g_1 in
[0, 1] is the trust in the sensor of h_1: 1 takes its confidence alone (maximum), 0 the minimum of both.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.methods import Method
from mosaic.utils.distributed import gather
from mosaic.utils.errors import SettingsError


class Heads(nn.Module):
    """Projection heads that the terms of a method need, on features of widths ``feature_dims``.

    One intra and one inter head for each sensor, and one label head that the sensors share. Each call of a
    head sees one sensor, so batch norm never mixes them.
    """

    def __init__(self, method: Method, feature_dims: Mapping[str, int], projection_dim: int = 128) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        for term in ("intra", "inter", "label"):
            for stream, width in feature_dims.items():
                name = _head_name(term, stream)
                if getattr(method, term) > 0 and name not in self.projections:
                    self.projections[name] = nn.Sequential(  # as in SimCLR
                        nn.Linear(width, width, bias=False),
                        nn.BatchNorm1d(width),
                        nn.ReLU(inplace=True),
                        nn.Linear(width, projection_dim),
                    )

    def project(self, term: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project features through the heads of a term; empty when the method has no such term.

        From stream -> (V, b, F), V views stacked, of this process's share of the batch, to stream ->
        (V, B, D) of the whole batch, L2-normalised.
        """
        projected = {}
        for stream, feature in features.items():
            name = _head_name(term, stream)
            if name in self.projections:
                z = functional.normalize(self.projections[name](feature.flatten(0, 1)), dim=1)
                projected[stream] = gather(z.view(*feature.shape[:2], -1), dim=1)
        return projected


def _head_name(term: str, stream: str) -> str:
    return term if term == "label" else f"{term}_{stream}"


class ChoquetClassifier(nn.Module):
    """One linear classifier for each of two streams, fused by the trust of each class in each of them."""

    def __init__(self, feature_dims: Mapping[str, int], classes: int) -> None:
        super().__init__()
        if len(feature_dims) != 2:
            raise SettingsError(f"a Choquet classifier fuses two streams, not {', '.join(feature_dims)}")
        self.widths = list(feature_dims.values())
        self.sensors = nn.ModuleDict({s: nn.Linear(f, classes) for s, f in feature_dims.items()})
        self.trust_logits = nn.Parameter(torch.zeros(len(feature_dims), classes))  # trust 0.5: their mean

    @property
    def trust(self) -> Tensor:
        """g, (2, C) in [0, 1]: rows are the streams in order."""
        return torch.sigmoid(self.trust_logits)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., C) of the fused confidence, from joined features (..., sum of F)."""
        parts = torch.split(features, self.widths, dim=-1)
        a, b = (head(part) for head, part in zip(self.sensors.values(), parts, strict=True))
        most, least = torch.maximum(a, b), torch.minimum(a, b)
        trust = torch.where(a >= b, self.trust_logits[0], self.trust_logits[1])
        # log C - log (1 - C), from logits: confidences near 0 and 1 would be rounded and lose their gradient
        log = functional.logsigmoid
        yes = torch.logaddexp(log(trust) + log(most), log(-trust) + log(least))
        return yes - torch.logaddexp(log(trust) + log(-most), log(-trust) + log(-least))
