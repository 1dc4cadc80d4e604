"""Intra, inter and label contrast and classification: MoSAiC, its ablations, SimCLR, IaI, SupCon, MSC."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.label_kernels import COUNT_OTHER_VIEWS, KERNELS
from mosaic.losses.objectives.base import HeadsObjective, Step, register_loss
from mosaic.losses.pairs import LabelledViews, instance_pairs, label_pairs
from mosaic.models.encoders import Encoder


@register_loss("contrastive")
class ContrastiveObjective(HeadsObjective):
    """The terms that the method weighs above 0; the ``msc`` kernel trains a prototype (D,) for each label."""

    def build(self, encoder: Encoder) -> None:
        """Make the heads, and the prototypes of ``msc``."""
        super().build(encoder)
        self.kernel = self.method.kernel or self.settings.kernel
        _ = KERNELS[self.kernel]  # an unknown kernel is an error before training starts
        self.prototypes: nn.Parameter | None = None
        if self.kernel == "msc" and self.method.label > 0:
            self.prototypes = nn.Parameter(torch.randn(len(self.idf), self.settings.projection_dim))

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


def intra_term(embeddings: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Return NT-Xent between the views of each stream -> (V, B, D), summed over streams as in IaI-SimCLR."""
    losses = []
    for z in embeddings.values():
        scene = torch.arange(z.shape[1], device=z.device).repeat(len(z))
        losses.append(contrastive_loss(z.flatten(0, 1), instance_pairs(scene), temperature))
    return torch.stack(losses).sum()


def inter_term(embeddings: Mapping[str, Tensor], temperature: float, style: str = "simclr") -> Tensor:
    """Return NT-Xent between two sensors of a view, averaged over views and summed over pairs of sensors.

    Style ``"simclr"`` keeps negatives of both sensors, ``"clip"`` those of the other sensor only. Embeddings
    are stream -> (V, B, D), L2-normalised, of two streams at least.
    """
    losses = []
    for first, second in combinations(embeddings.values(), 2):
        scene = torch.arange(first.shape[1], device=first.device).repeat(2)
        sensor = torch.arange(2, device=first.device).repeat_interleave(first.shape[1])
        pairs = instance_pairs(scene, sensor if style == "clip" else None)
        views = [torch.cat(view) for view in zip(first, second, strict=True)]
        losses.append(torch.stack([contrastive_loss(view, pairs, temperature) for view in views]).mean())
    return torch.stack(losses).sum()
