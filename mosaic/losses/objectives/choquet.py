"""MIMRF: late fusion of the sensors by a Choquet integral that is learned for each class."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mosaic.losses.objectives.base import Objective, ObjectiveSettings, Step
from mosaic.losses.terms import classification_term
from mosaic.methods import Method
from mosaic.models.classifiers import ChoquetClassifier
from mosaic.utils.distributed import gather


class Choquet(Objective):
    """Binary cross-entropy of the fused confidence.

    Args:
        method: a row that classifies, with two streams.
        feature_dims: stream -> width of the encoder's features.
        settings: ``classes``.
    """

    def __init__(self, method: Method, feature_dims: Mapping[str, int], settings: ObjectiveSettings) -> None:
        super().__init__(method)
        self.classifier: nn.Module = ChoquetClassifier(feature_dims, settings.classes)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``classify`` and ``total``."""
        features = torch.cat(list(step.features.values()), dim=-1)
        logits = self.classifier(features.to(torch.promote_types(features.dtype, torch.float32)))
        classify = classification_term(gather(logits, dim=1), step.labels, step.labelled)
        return {"classify": classify, "total": self.method.classify * classify}
