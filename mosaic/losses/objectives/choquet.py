"""MIMRF: late fusion of the sensors by a Choquet integral that is learned for each class."""

import torch
from torch import Tensor, nn

from mosaic.losses.objectives.base import Objective, Step, register_loss
from mosaic.losses.terms import classification_term
from mosaic.methods import Method
from mosaic.models.classifiers import ChoquetClassifier
from mosaic.models.encoders import Encoder
from mosaic.settings import LossSettings
from mosaic.utils.distributed import gather


@register_loss("choquet")
class ChoquetFusion(Objective):
    """Binary cross-entropy of the fused confidence of two streams."""

    classifier: nn.Module

    def __init__(self, method: Method, encoder: Encoder, settings: LossSettings, idf: Tensor) -> None:
        super().__init__(method, encoder, settings, idf)
        self.classifier = ChoquetClassifier(encoder.feature_dims, len(idf))

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``classify``."""
        features = torch.cat(list(step.features.values()), dim=-1)
        logits = self.classifier(features.to(torch.promote_types(features.dtype, torch.float32)))
        return {"classify": classification_term(gather(logits, dim=1), step.labels, step.labelled)}
