"""Intra, inter and label contrast and classification: MoSAiC, its ablations, SimCLR, IaI, SupCon, MSC."""

from collections.abc import Mapping

from torch import Tensor

from mosaic.losses.objectives.base import Objective, ObjectiveSettings, Step
from mosaic.losses.terms import ContrastiveTerms
from mosaic.methods import Method
from mosaic.models.heads import Heads


class Contrastive(Objective):
    """The weighted contrastive terms of :mod:`mosaic.losses.terms` on projection heads.

    Args:
        method: a row of the table.
        feature_dims: stream -> width of the encoder's features.
        settings: of the terms.
    """

    def __init__(self, method: Method, feature_dims: Mapping[str, int], settings: ObjectiveSettings) -> None:
        super().__init__(method)
        self.heads = Heads(method, feature_dims, settings.classes, settings.projection_dim)
        self.classifier = self.heads.classifier
        self.terms = ContrastiveTerms(
            method,
            settings.temperatures,
            settings.kernel,
            settings.kernel_threshold,
            inter_style=settings.inter_style,
            unlabelled_negatives=settings.unlabelled_negatives,
            class_counts=settings.class_counts,
            total=settings.total,
            prototype_dim=settings.projection_dim,
            classes=settings.classes,
            msc_alpha=settings.msc_alpha,
        )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the terms that the method weighs above 0, and their total."""
        intra, inter, label = (self.heads.project(t, step.features) for t in ("intra", "inter", "label"))
        logits = self.heads.classify(step.features)
        return self.terms(intra, inter, label, step.labels, step.labelled, logits)
