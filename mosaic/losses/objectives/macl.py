"""MACL: label contrast with a temperature that depends on the pair (our reading).

Amir and Aptoula, arXiv:2512.16294, name label re-weighting, dynamic temperature and label-aware sampling;
exact formulas were not at hand. Ours, labelled as such wherever shown: the ``idf_jaccard`` kernel, and

    tau_ij = tau_0 (1 + a (1 - J_ij)) (1 - b rho_i)

with J the Jaccard index of the label sets and rho_i the mean rarity of the anchor's labels, in [0, 1]. The
sampling is that of :class:`mosaic.training.data.ScenePicker`.
"""

import torch
from torch import Tensor

from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.label_kernels import pair_weights
from mosaic.losses.objectives.base import HeadsObjective, Step, register_loss
from mosaic.losses.pairs import LabelledViews, label_pairs


@register_loss("macl")
class MACL(HeadsObjective):
    """Label contrast over all views of all sensors, each pair with its own temperature.

    Of the settings, tau_0 is ``temperature_label``, a ``temperature_spread`` and b ``rarity_pull``.
    """

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
