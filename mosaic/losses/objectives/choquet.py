"""MIMRF's late fusion of two sensors by a Choquet integral, learned by gradient descent."""

from typing import ClassVar

from torch import Tensor

from mosaic.losses.objectives.base import Objective, Step, register_loss
from mosaic.models.encoders import Encoder
from mosaic.models.heads import ChoquetClassifier


@register_loss("choquet")
class ChoquetFusion(Objective):
    """Cross-entropy of two streams fused by a Choquet integral that is learned for each class."""

    reads: ClassVar[dict[str, set[str]]] = {}

    def build(self, encoder: Encoder) -> None:
        """Make one classifier a sensor, and the trust of each class in each."""
        self.classifier = ChoquetClassifier(encoder.feature_dims, len(self.idf))

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``classify``."""
        return self.classification(step)
