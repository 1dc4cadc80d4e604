"""Heads on the features of an encoder: projections for the contrastive terms, and a linear classifier."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.methods import Method
from mosaic.utils.distributed import gather


def projection_head(in_dim: int, out_dim: int) -> nn.Module:
    """Return two linear layers with batch normalisation between (SimCLR): (N, in_dim) -> (N, out_dim)."""
    return nn.Sequential(
        nn.Linear(in_dim, in_dim, bias=False),
        nn.BatchNorm1d(in_dim),
        nn.ReLU(inplace=True),
        nn.Linear(in_dim, out_dim),
    )


class Heads(nn.Module):
    """Heads that the terms of a method need.

    One intra and one inter head for each sensor, one label head that the sensors share, and a linear
    classifier on the joined features. Each call of a head sees one sensor, so batch norm never mixes them.

    Args:
        method: a row of the table.
        feature_dims: stream -> width of the encoder's features.
        classes: number of labels C.
        projection_dim: width D of the projections.
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
                    self.projections[name] = projection_head(width, projection_dim)
        self.classifier = nn.Linear(sum(feature_dims.values()), classes) if method.classify > 0 else None

    def project(self, term: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project features through the heads of a term.

        Args:
            term: ``"intra"``, ``"inter"`` or ``"label"``.
            features: stream -> (V, b, F), V views stacked, of this process's share of the batch.

        Returns:
            Stream -> (V, B, D) of the whole batch, L2-normalised, float32; empty when the method has no such
            term.
        """
        projected = {}
        for stream, feature in features.items():
            name = _head_name(term, stream)
            if name in self.projections:
                z = self.projections[name](feature.flatten(0, 1)).float()
                z = functional.normalize(z, dim=1).view(*feature.shape[:2], -1)
                projected[stream] = gather(z, dim=1)
        return projected

    def classify(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """Return the logits of the whole batch (V, B, C), or None without a classifier.

        Args:
            features: stream -> (V, b, F), of this process's share of the batch.
        """
        if self.classifier is None:
            return None
        return gather(self.classifier(torch.cat(list(features.values()), dim=-1)), dim=1)


def _head_name(term: str, stream: str) -> str:
    return term if term == "label" else f"{term}_{stream}"
