"""MACL: label contrast with a temperature that depends on the pair (our reading).

Amir and Aptoula, arXiv:2512.16294, name label re-weighting, dynamic temperature and label-aware sampling;
exact formulas were not at hand. Ours, labelled as such wherever shown: the ``idf_jaccard`` kernel, and

    tau_ij = tau_0 (1 + a (1 - J_ij)) (1 - b rho_i)

with J the Jaccard index of the label sets and rho_i the mean rarity of the anchor's labels, in [0, 1]. The
sampling is that of :class:`mosaic.training.data.ScenePicker`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mosaic.losses.contrastive import contrast
from mosaic.losses.label_kernels import ALL, idf_jaccard, idf_weights, jaccard
from mosaic.losses.objectives.base import Objective, ObjectiveSettings, Step
from mosaic.losses.pairs import with_other_views
from mosaic.methods import Method
from mosaic.models.heads import Heads


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
        rare = rarity(idf_weights(known, counts, total))
        scene = torch.arange(len(step.labels), device=z.device).repeat(views)
        anchor = step.labelled.repeat(views)

        def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
            return with_other_views(idf_jaccard(known, rows, counts, total), scene, anchor, rows), None

        def temperature(rows: slice) -> Tensor:
            given = self.settings
            spread, pull = given.temperature_spread, given.rarity_pull
            return pair_temperatures(known, rare, given.temperatures.label, spread, pull, rows)

        label = contrast(z, pairs, temperature)
        return {"label": label, "total": self.method.label * label}


def rarity(omega: Tensor) -> Tensor:
    """Return the weights of labels (C,) scaled to [0, 1]: 0 for the most common label, 1 for the rarest."""
    span = omega.max() - omega.min()
    return (omega - omega.min()) / span.clamp_min(torch.finfo(omega.dtype).tiny)


def pair_temperatures(
    labels: Tensor, rarities: Tensor, temperature: float, spread: float, pull: float, rows: slice = ALL
) -> Tensor:
    """Return tau_ij (R, N) of the module's formula.

    Args:
        labels: (N, C), 0 or 1.
        rarities: (C,) in [0, 1].
        temperature: tau_0 > 0.
        spread: a >= 0.
        pull: b in [0, 1).
        rows: which anchors i are wanted, R of them; all by default.
    """
    rho = (labels @ rarities) / labels.sum(1).clamp_min(1)
    distance = 1 - jaccard(labels, rows)
    return temperature * (1 + spread * distance) * (1 - pull * rho)[rows, None]
