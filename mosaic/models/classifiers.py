"""Classifiers on the joined features of all streams: linear, or the Choquet integral of MIMRF.

MIMRF: Du and Zare, "Multi-resolution multi-modal sensor fusion for remote sensing data with label
uncertainty" (arXiv:1805.00930). With sources sorted by confidence, C_g = sum_k [h_(k) - h_(k+1)] g(A_k). For
two sensors and h_1 >= h_2 that is g_1 (h_1 - h_2) + h_2; g_1 in [0, 1] is the trust in the sensor of h_1: 1
believes it alone (maximum), 0 only what both say (minimum).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ChoquetClassifier(nn.Module):
    """One linear classifier for each of two sensors, fused by the trust of each class in each sensor.

    Args:
        feature_dims: stream -> width of its features; two streams.
        classes: number of labels C.
    """

    def __init__(self, feature_dims: Mapping[str, int], classes: int) -> None:
        super().__init__()
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


def build_classifier(kind: str, feature_dims: Mapping[str, int], classes: int) -> nn.Module:
    """Return an untrained classifier of the kind that a checkpoint names: ``"linear"`` or ``"choquet"``."""
    if kind == "choquet":
        return ChoquetClassifier(feature_dims, classes)
    return nn.Linear(sum(feature_dims.values()), classes)


def classifier_kind(classifier: nn.Module) -> str:
    """Return the name under which :func:`build_classifier` knows a classifier."""
    return "choquet" if isinstance(classifier, ChoquetClassifier) else "linear"
