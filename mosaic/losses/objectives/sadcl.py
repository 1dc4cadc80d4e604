"""SADCL: one feature for each label of an image, contrasted between samples and with prototypes.

Ma et al. 2023, "Semantic-aware dual contrastive learning for multi-label image classification"
(arXiv:2307.09715). A query decoder reads one feature z_il for each image i and label l from the feature map.
Over the features of active labels: L_s2s pulls those of the same label together (tau 0.2), L_p2s each to the
prototype of its label, the mean over the batch (tau 0.07). Weights are 100 and 50 against a binary
cross-entropy scaled by 1000 / C; all three are divided by that scale here, which no optimiser notices.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.objectives.base import Objective, Step, classification_term, register_loss
from mosaic.losses.pairs import instance_pairs
from mosaic.models.encoders import Encoder
from mosaic.utils.distributed import gather

TAU_SAMPLES, TAU_PROTOTYPES = 0.2, 0.07


@register_loss("sadcl")
class SADCL(Objective):
    """Query decoder on the feature maps of all sensors, its two contrasts and its classification.

    Of the settings, ``projection_dim`` is the width of z, and ``contrast_weight`` a factor on both contrasts.
    """

    uses_maps = True
    reads: ClassVar = {"label": {"projection_dim", "contrast_weight"}}

    def build(self, encoder: Encoder) -> None:
        """Make the query decoder and the classifier of its features."""
        width, classes = self.settings.projection_dim, len(self.idf)
        scale = self.settings.contrast_weight * classes / 1000
        self.weights = 100 * scale, 50 * scale
        self.tokens = nn.ModuleDict({s: nn.Linear(f, width) for s, f in encoder.feature_dims.items()})
        self.queries = nn.Parameter(torch.randn(classes, width))
        self.attention = nn.MultiheadAttention(width, num_heads=4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Parameter(torch.randn(classes, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(classes))

    def label_features(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return one feature for each image and label, (N, C, D), from maps stream -> (N, F, h, w)."""
        tokens = [self.tokens[stream](values.flatten(2).transpose(1, 2)) for stream, values in maps.items()]
        memory = torch.cat(tokens, dim=1)
        queries = self.queries.expand(len(memory), -1, -1)
        read, _ = self.attention(queries, memory, memory, need_weights=False)
        return self.norm(queries + read)

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``label``, the sum of both contrasts as weighted, and ``classify``."""
        views = 2
        local = self.label_features({stream: values.flatten(0, 1) for stream, values in step.maps.items()})
        z = gather(local.view(views, -1, *local.shape[1:]), dim=1).flatten(0, 1)
        labels = (step.labels * step.labelled[:, None]).repeat(views, 1)
        logits = (z * self.weight).sum(-1) + self.bias
        samples, prototypes = dual_contrast(functional.normalize(z.float(), dim=-1), labels)
        return {
            "label": self.weights[0] * samples + self.weights[1] * prototypes,
            "classify": classification_term(logits, labels, step.labelled.repeat(views)),
        }


def dual_contrast(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contrast between samples and the contrast with prototypes.

    Args:
        z: (N, C, D), L2-normalised.
        labels: (N, C), 0 or 1: which features are active. The others take no part.
    """
    classes, active = labels.shape[1], labels.flatten() > 0
    features, label = z.flatten(0, 1), torch.arange(classes, device=z.device).repeat(len(z))
    # masks over the features of all labels: how many are active is known to the device alone
    same_label = instance_pairs(label)

    def pairs(rows: slice) -> tuple[Tensor, Tensor]:
        return same_label(rows)[0] * active * active[rows, None], ~active

    samples = contrastive_loss(features, pairs, TAU_SAMPLES)
    count = labels.sum(0)[:, None]
    centres = functional.normalize((z * labels[..., None]).sum(0) / count.clamp_min(1), dim=-1)
    logits = features @ centres.T / TAU_PROTOTYPES
    logits = logits.masked_fill(count.T == 0, torch.finfo(logits.dtype).min / 2)
    losses = functional.cross_entropy(logits, label, reduction="none")
    return samples, (losses * active).sum() / active.sum().clamp_min(1)
