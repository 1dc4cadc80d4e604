"""Heads on the features of an encoder: projections for the contrastive terms, and classifiers.

MIMRF's classifier: Du and Zare, "Multi-resolution multi-modal sensor fusion for remote sensing data with
label uncertainty" (arXiv:1805.00930). With sources sorted by confidence, the Choquet integral is
C_g = sum_k [h_(k) - h_(k+1)] g(A_k); for two sensors and h_1 >= h_2, C_g = g_1 (h_1 - h_2) + h_2. g_1 in
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
    """Heads that the terms of a method need, on features of widths ``feature_dims``.

    One intra and one inter head for each sensor, one label head that the sensors share, and a linear
    classifier on the joined features. Each call of a head sees one sensor, so batch norm never mixes them.
    """

    def __init__(
        self, method: Method, feature_dims: Mapping[str, int], classes: int, projection_dim: int = 128
    ) -> None:
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
        self.classifier = nn.Linear(sum(feature_dims.values()), classes) if method.classify > 0 else None

    def project(self, term: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project features through the heads of a term; empty when the method has no such term.

        From stream -> (V, b, F), V views stacked, of this process's share of the batch, to stream ->
        (V, B, D) of the whole batch, L2-normalised, float32 at least.
        """
        projected = {}
        for stream, feature in features.items():
            name = _head_name(term, stream)
            if name in self.projections:
                z = self.projections[name](feature.flatten(0, 1))
                z = z.to(torch.promote_types(z.dtype, torch.float32))
                z = functional.normalize(z, dim=1).view(*feature.shape[:2], -1)
                projected[stream] = gather(z, dim=1)
        return projected

    def classify(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """Return the logits (V, B, C) of the whole batch from such features; None without a classifier."""
        if self.classifier is None:
            return None
        return gather(self.classifier(torch.cat(list(features.values()), dim=-1)), dim=1)


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
        h = [torch.sigmoid(head(part)) for head, part in zip(self.sensors.values(), parts, strict=True)]
        return torch.logit(choquet_integral(*h, *self.trust), eps=1e-6)


def choquet_integral(first: Tensor, second: Tensor, trust_first: Tensor, trust_second: Tensor) -> Tensor:
    """Return the Choquet integral of two confidences in [0, 1] under the trusts in their sensors."""
    trust = torch.where(first >= second, trust_first, trust_second)
    least = torch.minimum(first, second)
    return trust * (torch.maximum(first, second) - least) + least
