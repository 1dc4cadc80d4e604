"""SADCL: one feature for each label of an image, contrasted between samples and with prototypes.

Ma et al. 2023, "Semantic-aware dual contrastive learning for multi-label image classification"
(arXiv:2307.09715, github.com/yu-gi-oh-leilei/SADCL). A query decoder reads one feature z_il for each image i
and label l from the feature map; a projector shared with one learned prototype p_l a label makes them
comparable. With s_il = cos(z_il, p_l) / 0.07 and y the labels:

    L_s2s: SupCon at tau 0.2 over the features of active labels, those of one label being positives;
    L_p2s = sum_l [log sum_i exp(s_il) - log sum_{i: y_il = 1} exp(s_il)] / sum_il y_il.

Their weights are 100 and 50 beside a binary cross-entropy of 1000 times its mean over classes; all three are
divided by 1000 here, which no optimiser notices.
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
    The second view stands in for the authors' memory bank, and prototypes start at random, not at the class
    means of a trained network.
    """

    uses_maps = True
    reads: ClassVar = {"label": {"projection_dim", "contrast_weight"}}

    def build(self, encoder: Encoder) -> None:
        """Make the query decoder, the classifier of its features, projector and prototypes."""
        width, classes = self.settings.projection_dim, len(self.idf)
        self.weights = 0.1 * self.settings.contrast_weight, 0.05 * self.settings.contrast_weight
        self.tokens = nn.ModuleDict({s: nn.Linear(f, width) for s, f in encoder.feature_dims.items()})
        self.queries = nn.Parameter(torch.randn(classes, width))
        self.attention = nn.MultiheadAttention(width, num_heads=4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Parameter(torch.randn(classes, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(classes))
        self.projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.prototypes = nn.Parameter(torch.randn(classes, width))

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
        labels, labelled = step.labels.repeat(views, 1), step.labelled.repeat(views)
        logits = (z * self.weight).sum(-1) + self.bias
        projected, prototypes = (
            functional.normalize(self.projector(values), dim=-1) for values in (z, self.prototypes)
        )
        samples = sample_contrast(projected, labels)
        to_prototypes = prototype_contrast(projected, prototypes, labels, labelled)
        return {
            "label": self.weights[0] * samples + self.weights[1] * to_prototypes,
            "classify": classification_term(logits, labels, labelled),
        }


def sample_contrast(z: Tensor, labels: Tensor) -> Tensor:
    """Return the contrast between samples, L_s2s: z (N, C, D), L2-normalised, and labels (N, C), 0 or 1."""
    active, label = labels.flatten() > 0, torch.arange(labels.shape[1], device=z.device).repeat(len(z))
    # masks over the features of all labels: how many are active is known to the device alone
    same_label = instance_pairs(label)

    def pairs(rows: slice) -> tuple[Tensor, Tensor]:
        return same_label(rows)[0] * active * active[rows, None], ~active

    return contrastive_loss(z.flatten(0, 1), pairs, TAU_SAMPLES)


def prototype_contrast(z: Tensor, prototypes: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
    """Return the contrast with prototypes (C, D), L_p2s, over the ``labelled`` (N,) of such samples.

    Of a label that no sample has, the largest logit, a constant, takes the place of the second sum, as in the
    authors' code. 0 when no label is active.
    """
    logits = (z * prototypes).sum(-1) / TAU_PROTOTYPES  # (N, C)
    nothing = torch.finfo(logits.dtype).min / 2
    logits = logits.masked_fill(~labelled[:, None], nothing)
    carriers = logits.masked_fill(labels == 0, nothing).logsumexp(0)
    carriers = torch.where((labels > 0).any(0), carriers, logits.amax(0).detach())
    number = labels.sum()
    return (logits.logsumexp(0) - carriers).sum() * (number > 0) / number.clamp_min(1)
