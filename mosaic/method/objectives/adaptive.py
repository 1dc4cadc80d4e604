"""MACL: label contrast with a temperature that depends on the pair (our reading).

Amir and Aptoula, arXiv:2512.16294, name label re-weighting, dynamic temperature and label-aware sampling;
exact formulas were not at hand. Ours, labelled as such wherever shown: the ``idf_jaccard`` kernel, and

    tau_ij = tau_0 (1 + a (1 - J_ij)) (1 - b rho_i)

with J the Jaccard index of the label sets and rho_i the mean rarity of the anchor's labels, in [0, 1]. The
sampling is that of :class:`mosaic.training.batches.ScenePicker`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mosaic.method.encoders import Heads
from mosaic.method.kernels import idf_jaccard, idf_weights, jaccard
from mosaic.method.losses import same_scene, weighted_contrastive_loss
from mosaic.method.methods import Method
from mosaic.method.objectives.base import Objective, ObjectiveSettings, Step


class AdaptiveTemperature(Objective):
    """Label contrast over all views of both sensors, each pair with its own temperature.

    Args:
        method: a row with a label term.
        feature_dims: stream -> width of the encoder's features.
        settings: ``temperatures.label`` (tau_0), ``temperature_spread`` (a), ``rarity_pull`` (b).
    """

    def __init__(self, method: Method, feature_dims: Mapping[str, int], settings: ObjectiveSettings) -> None:
        super().__init__(method)
        self.settings = settings
        self.heads = Heads(method, feature_dims, settings.classes, settings.projection_dim)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``label`` and ``total``."""
        projections = self.heads.project("label", step.features)
        z = torch.cat([views.flatten(0, 1) for views in projections.values()])
        views = len(z) // len(step.labels)
        known = (step.labels.float() * step.labelled[:, None]).repeat(views, 1)
        counts, total = self.settings.class_counts, self.settings.total
        weights = idf_jaccard(known, class_counts=counts, total=total)
        own = same_scene(len(step.labels), views, z.device)
        weights = torch.where(own > 0, own, weights) * step.labelled.repeat(views)[:, None]
        tau = pair_temperatures(
            known,
            rarity(idf_weights(known, counts, total)),
            self.settings.temperatures.label,
            self.settings.temperature_spread,
            self.settings.rarity_pull,
        )
        label = weighted_contrastive_loss(z, weights, tau)
        return {"label": label, "total": self.method.label * label}


def rarity(omega: Tensor) -> Tensor:
    """Return the weights of labels (C,) scaled to [0, 1]: 0 for the most common label, 1 for the rarest."""
    span = omega.max() - omega.min()
    return (omega - omega.min()) / span.clamp_min(torch.finfo(omega.dtype).tiny)


def pair_temperatures(
    labels: Tensor, rarities: Tensor, temperature: float, spread: float, pull: float
) -> Tensor:
    """Return tau_ij (N, N) of the module's formula.

    Args:
        labels: (N, C), 0 or 1.
        rarities: (C,) in [0, 1].
        temperature: tau_0 > 0.
        spread: a >= 0.
        pull: b in [0, 1).
    """
    rho = (labels @ rarities) / labels.sum(1).clamp_min(1)
    distance = 1 - jaccard(labels)
    return temperature * (1 + spread * distance) * (1 - pull * rho)[:, None]
