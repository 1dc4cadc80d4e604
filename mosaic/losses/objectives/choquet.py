"""MIMRF of Du and Zare: late fusion of two sensors by a Choquet integral, learned by gradient descent."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mosaic.losses.objectives.base import Objective, Step, classification_term, register_loss
from mosaic.models.encoders import Encoder
from mosaic.models.heads import ChoquetClassifier
from mosaic.utils.distributed import gather


@register_loss("choquet")
class ChoquetFusion(Objective):
    """MIMRF: cross-entropy of two streams fused by a Choquet integral that is learned for each class."""

    reads: ClassVar[Mapping[str, set[str]]] = {}

    def build(self, encoder: Encoder) -> None:
        """Make one classifier a sensor, and the trust of each class in each."""
        self.classifier = ChoquetClassifier(encoder.feature_dims, len(self.idf))

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``classify``."""
        classifier: Any = self.classifier
        features = torch.cat(list(step.features.values()), dim=-1)
        logits = classifier(features.to(torch.promote_types(features.dtype, torch.float32)))
        return {"classify": classification_term(gather(logits, dim=1), step.labels, step.labelled)}
