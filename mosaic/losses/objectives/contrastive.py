"""Intra, inter and label contrast and classification: MoSAiC and less, SimCLR, IaI, SupCon, MSC, MACL."""

from collections.abc import Mapping
from itertools import combinations
from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import Temperature, contrastive_loss
from mosaic.losses.label_kernels import ANCHORS_BY_MASS, KERNELS, pair_weights
from mosaic.losses.objectives.base import HeadsObjective, Step, register_loss
from mosaic.losses.pairs import LabelledViews, instance_pairs, label_pairs
from mosaic.models.encoders import Encoder

#: Fields of LossSettings that a label term reads.
LABEL_SETTINGS = {
    *("projection_dim", "temperature_label", "unlabelled_negatives"),
    *("kernel", "kernel_threshold", "msc_alpha", "msc_beta"),
}


class LabelContrast(HeadsObjective):
    """The label term; it alone reads its settings, so that they mean the same in every method.

    The ``msc`` kernel trains a prototype (D,) for each label.
    """

    def build(self, encoder: Encoder) -> None:
        """Make the heads, and the prototypes of ``msc``."""
        super().build(encoder)
        self.kernel = self.method.kernel or self.settings.kernel
        _ = KERNELS[self.kernel]  # an unknown kernel is an error before training starts
        self.prototypes: nn.Parameter | None = None
        if self.kernel == "msc" and self.method.label > 0:
            self.prototypes = nn.Parameter(torch.randn(len(self.idf), self.settings.projection_dim))

    def temperature(self, views: LabelledViews) -> Temperature:
        """Return the temperature of the label term."""
        return self.settings.temperature_label

    def label_views(self, step: Step) -> LabelledViews:
        """Return the projections of all views of all sensors."""
        return LabelledViews.of(self.heads.project("label", step.features), step.labels, step.labelled)

    def label_term(self, anchors: Tensor, candidates: LabelledViews, absent: Tensor | None = None) -> Tensor:
        """Return the multi-label supervised contrast of anchors, which the first candidates show."""
        settings, embeddings = self.settings, candidates.embeddings
        if self.prototypes is not None:
            # in the denominator scenes count beta times: a dimension more adds log beta to their logits
            prototypes = functional.normalize(self.prototypes, dim=1).to(embeddings)
            offset = functional.pad(
                embeddings, (0, 1), value=settings.temperature_label * log(settings.msc_beta)
            )
            embeddings = torch.cat([offset, functional.pad(prototypes, (0, 1))])
            anchors = functional.pad(anchors, (0, 1), value=1.0)
        pairs = label_pairs(
            candidates,
            self.kernel,
            idf=self.idf,
            threshold=settings.kernel_threshold,
            unlabelled_negatives=settings.unlabelled_negatives,
            alpha=settings.msc_alpha,
            prototypes=self.prototypes is not None,
            absent=absent,
        )
        by_mass = self.kernel in ANCHORS_BY_MASS
        return contrastive_loss(anchors, pairs, self.temperature(candidates), embeddings, by_mass)

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``label``, and ``classify`` where the method weighs it."""
        views = self.label_views(step)
        return {"label": self.label_term(views.embeddings, views), **self.classification(step)}


@register_loss("contrastive")
class ContrastiveObjective(LabelContrast):
    """The terms that the method weighs above 0."""

    reads: ClassVar = {
        "intra": {"projection_dim", "temperature_intra"},
        "inter": {"projection_dim", "temperature_inter", "inter_style"},
        "label": LABEL_SETTINGS,
    }

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return each term that the method weighs above 0."""
        terms: dict[str, Tensor] = {}
        settings, project = self.settings, self.heads.project
        if self.method.intra > 0:
            terms["intra"] = intra_term(project("intra", step.features), settings.temperature_intra)
        if self.method.inter > 0:
            z = project("inter", step.features)
            terms["inter"] = inter_term(z, settings.temperature_inter, settings.inter_style)
        return terms | (super().terms(step) if self.method.label > 0 else self.classification(step))


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
class MACL(LabelContrast):
    """MACL: label contrast with a temperature that depends on the pair (our variant).

    Amir and Aptoula, arXiv:2512.16294, name label re-weighting, dynamic temperature and label-aware sampling;
    exact formulas were not at hand. Ours: the ``idf_jaccard`` kernel of its row in the table, and

        tau_ij = tau_0 (1 + a (1 - J_ij)) (1 - b rho_i)

    with J the Jaccard index of the label sets and rho_i the mean rarity of the anchor's labels, in [0, 1]. Of
    the settings, tau_0 is ``temperature_label``, a ``temperature_spread`` and b ``rarity_pull``. The sampling
    is that of :class:`mosaic.training.data.ScenePicker`.
    """

    reads: ClassVar = {"label": LABEL_SETTINGS | {"temperature_spread", "rarity_pull"}}

    def temperature(self, views: LabelledViews) -> Temperature:
        """Return tau_ij of some rows."""
        settings, rarities = self.settings, rarity(self.idf.to(views.labels))
        constants = settings.temperature_label, settings.temperature_spread, settings.rarity_pull
        return lambda rows: pair_temperatures(views.labels, rarities, *constants, rows)


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
