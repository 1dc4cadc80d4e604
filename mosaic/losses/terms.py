"""Terms that several objectives share: contrast within and between sensors, and classification."""

from collections.abc import Mapping
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.pairs import instance_pairs


def intra_term(embeddings: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Return NT-Xent between the views of each sensor, summed over sensors as in IaI-SimCLR.

    Args:
        embeddings: stream -> (V, B, D), L2-normalised.
        temperature: tau > 0, unitless.
    """
    losses = []
    for z in embeddings.values():
        scene = torch.arange(z.shape[1], device=z.device).repeat(len(z))
        losses.append(contrastive_loss(z.flatten(0, 1), instance_pairs(scene), temperature))
    return torch.stack(losses).sum()


def inter_term(
    embeddings: Mapping[str, Tensor], temperature: float, style: Literal["simclr", "clip"] = "simclr"
) -> Tensor:
    """Return NT-Xent between two sensors of a view, averaged over views and summed over pairs of sensors.

    Args:
        embeddings: stream -> (V, B, D), L2-normalised; two streams at least.
        temperature: tau > 0, unitless.
        style: ``"simclr"`` keeps negatives of both sensors, ``"clip"`` those of the other sensor only.
    """
    losses = []
    for first, second in combinations(embeddings.values(), 2):
        scene = torch.arange(first.shape[1], device=first.device).repeat(2)
        sensor = torch.arange(2, device=first.device).repeat_interleave(first.shape[1])
        pairs = instance_pairs(scene, sensor if style == "clip" else None)
        views = [torch.cat(view) for view in zip(first, second, strict=True)]
        losses.append(torch.stack([contrastive_loss(view, pairs, temperature) for view in views]).mean())
    return torch.stack(losses).sum()


def classification_term(logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
    """Return the binary cross-entropy of labelled scenes.

    Args:
        logits: (..., B, C), for instance one slice a view.
        labels: (B, C), 0 or 1.
        labelled: (B,) bool.

    Returns:
        Mean over labels, labelled scenes and leading dimensions, float32; 0 when no scene is labelled.
    """
    targets = labels.float().expand(logits.shape)
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(-1)
    use = labelled.expand(losses.shape)
    return (losses * use).sum() / use.sum().clamp_min(1)
