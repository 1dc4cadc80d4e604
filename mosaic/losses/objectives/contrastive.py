"""Intra, inter and label contrast and classification: MoSAiC and less, SimCLR, IaI, SupCon, MSC, MACL."""

from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.label_kernels import COUNT_OTHER_VIEWS, KERNELS, pair_weights
from mosaic.losses.objectives.base import HeadsObjective, Step, register_loss
from mosaic.losses.pairs import LabelledViews, instance_pairs, label_pairs
from mosaic.models.encoders import Encoder


@register_loss("contrastive")
class ContrastiveObjective(HeadsObjective):
    """The terms that the method weighs above 0; the ``msc`` kernel trains a prototype (D,) for each label."""

    reads: ClassVar = {
        "intra": {"projection_dim", "temperature_intra"},
        "inter": {"projection_dim", "temperature_inter", "inter_style"},
        "label": {
            *("projection_dim", "temperature_label", "unlabelled_negatives"),
            *("kernel", "kernel_threshold", "msc_alpha"),
        },
    }

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


@register_loss("macl")
class MACL(HeadsObjective):
    """MACL: label contrast over all views with a temperature that depends on the pair (our reading).

    Amir and Aptoula, arXiv:2512.16294, name label re-weighting, dynamic temperature and label-aware sampling;
    exact formulas were not at hand. Ours, labelled as such wherever shown: the ``idf_jaccard`` kernel, and

        tau_ij = tau_0 (1 + a (1 - J_ij)) (1 - b rho_i)

    with J the Jaccard index of the label sets and rho_i the mean rarity of the anchor's labels, in [0, 1]. Of
    the settings, tau_0 is ``temperature_label``, a ``temperature_spread`` and b ``rarity_pull``. The sampling
    is that of :class:`mosaic.training.data.ScenePicker`.
    """

    reads: ClassVar = {"label": {"projection_dim", "temperature_label", "temperature_spread", "rarity_pull"}}

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``label``, and ``classify`` where the method weighs it."""
        views = LabelledViews.of(self.heads.project("label", step.features), step.labels, step.labelled)
        pairs = label_pairs(views, "idf_jaccard", idf=self.idf)
        settings, rarities = self.settings, rarity(self.idf.to(views.labels))
        constants = settings.temperature_label, settings.temperature_spread, settings.rarity_pull

        def temperature(rows: slice) -> Tensor:
            return pair_temperatures(views.labels, rarities, *constants, rows)

        label = contrastive_loss(views.embeddings, pairs, temperature)
        return {"label": label, **self.classification(step)}


def rarity(omega: Tensor) -> Tensor:
    """Return the weights of labels (C,) scaled to [0, 1]: 0 for the most common label, 1 for the rarest."""
    span = omega.max() - omega.min()
    return (omega - omega.min()) / span.clamp_min(torch.finfo(omega.dtype).tiny)


def pair_temperatures(
    labels: Tensor, rarities: Tensor, tau: float, spread: float, pull: float, rows: slice = slice(None)
) -> Tensor:
    """Return tau_ij (R, N) of anchors ``rows``: labels (N, C), rarities (C,), tau_0, a >= 0, b in [0, 1)."""
    rho = (labels @ rarities) / labels.sum(1).clamp_min(1)
    distance = 1 - pair_weights(labels, "jaccard", rows=rows)
    return tau * (1 + spread * distance) * (1 - pull * rho)[rows, None]
