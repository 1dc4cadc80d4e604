"""Intra, inter and label contrast and classification: MoSAiC, its ablations, SimCLR, IaI, SupCon, MSC."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.label_kernels import COUNT_OTHER_VIEWS, KERNELS
from mosaic.losses.objectives.base import HeadsObjective, Step, register_loss
from mosaic.losses.pairs import LabelledViews, label_pairs
from mosaic.losses.terms import inter_term, intra_term
from mosaic.methods import Method
from mosaic.models.encoders import Encoder
from mosaic.settings import LossSettings


@register_loss("contrastive")
class ContrastiveObjective(HeadsObjective):
    """The terms that the method weighs above 0.

    With the ``msc`` kernel it has a prototype (D,) for each label.

    Raises:
        SettingsError: for an unknown kernel.
    """

    def __init__(self, method: Method, encoder: Encoder, settings: LossSettings, idf: Tensor) -> None:
        super().__init__(method, encoder, settings, idf)
        self.kernel = method.kernel or settings.kernel
        _ = KERNELS[self.kernel]  # an unknown kernel is an error before training starts
        self.prototypes: nn.Parameter | None = None
        if self.kernel == "msc" and method.label > 0:
            self.prototypes = nn.Parameter(torch.randn(len(idf), settings.projection_dim))

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return each term that the method weighs above 0."""
        terms: dict[str, Tensor] = {}
        settings, project = self.settings, self.heads.project
        if self.method.intra > 0:
            terms["intra"] = intra_term(project("intra", step.features), settings.temperature_intra)
        if self.method.inter > 0:
            z = project("inter", step.features)
            terms["inter"] = inter_term(z, settings.temperature_inter, settings.inter_style)
        if self.method.label > 0:
            z = project("label", step.features)
            terms["label"] = self.label_term(LabelledViews.of(z, step.labels, step.labelled))
        return {**terms, **self.classification(step)}

    def label_term(self, views: LabelledViews) -> Tensor:
        """Return the multi-label supervised contrast over all views of all sensors at once."""
        candidates, alpha = views.embeddings, None
        if self.prototypes is not None:
            prototypes = functional.normalize(self.prototypes, dim=1).to(candidates.dtype)
            candidates, alpha = torch.cat([candidates, prototypes]), self.settings.msc_alpha
        pairs = label_pairs(
            views,
            self.kernel,
            idf=self.idf,
            threshold=self.settings.kernel_threshold,
            other_views=self.kernel not in COUNT_OTHER_VIEWS,
            unlabelled_negatives=self.settings.unlabelled_negatives,
            prototype_alpha=alpha,
        )
        return contrastive_loss(views.embeddings, pairs, self.settings.temperature_label, candidates)
