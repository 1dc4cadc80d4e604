"""Label kernels: how much of a positive two scenes are to each other, given their label sets.

A kernel takes the labels of anchors (R, C) and of all scenes (N, C), of which the anchors are some, and
returns weights (R, N) >= 0; what a scene weighs to itself does not count. A scene without labels is a
positive of none.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from mosaic.utils.plugins import Registry

Kernel = Callable[..., Tensor]
KERNELS: Registry[Kernel] = Registry("kernel")
#: ``@register_kernel("name")`` registers a function of float labels of 0 and 1: anchors (R, C), all scenes
#: (N, C), and :func:`idf_weights` (C,) if it has a parameter ``idf``; it returns weights (R, N).
register_kernel = KERNELS.register
#: Kernels published as sums over the batch, in which other views of the anchor's scene count as any scene.
COUNT_OTHER_VIEWS = ("mulsupcon", "msc")

_ALL = slice(None)


def pair_weights(
    labels: Tensor, kernel: str, *, idf: Tensor | None = None, threshold: float = 0.0, rows: slice = _ALL
) -> Tensor:
    """Return the weights (R, N) >= 0 of a key of :data:`KERNELS`, 0 for a scene with itself.

    Args:
        labels: (N, C), 0 or 1, any type.
        kernel: SettingsError for an unknown one; the nearest name is suggested.
        idf: (C,), for kernels that use it; :func:`idf_weights` of these labels by default.
        threshold: weights below it become 0 (MultiSupCon: 0.3 with ``jaccard``).
        rows: which scenes are anchors, R of them; all by default.
    """
    weigh = KERNELS[kernel]
    labels = labels if labels.is_floating_point() else labels.float()
    options = {}
    if "idf" in inspect.signature(weigh).parameters:
        options["idf"] = idf_weights(labels.sum(0), len(labels)) if idf is None else idf.to(labels)
    weights = weigh(labels[rows], labels, **options).to(labels)
    weights.diagonal(rows.start or 0).zero_()
    return torch.where(weights >= threshold, weights, 0.0) if threshold > 0 else weights


def idf_weights(class_counts: Tensor, total: float) -> Tensor:
    """Return omega_l = log((1 + N) / (1 + n_l)) + 1, (C,): the weight of each label, larger for rare ones.

    n_l (C,) are the ``class_counts``, how many of N = ``total`` scenes carry each label.
    """
    return torch.log((1 + total) / (1 + class_counts)) + 1


@register_kernel("any")
def any_label(anchors: Tensor, labels: Tensor) -> Tensor:
    """1 where two scenes share at least one label."""
    return (anchors @ labels.T > 0).to(labels.dtype)


@register_kernel("all")
def all_labels(anchors: Tensor, labels: Tensor) -> Tensor:
    """1 where two label sets are identical and not empty."""
    shared = anchors @ labels.T
    same = (shared == anchors.sum(1)[:, None]) & (shared == labels.sum(1)) & (shared > 0)
    return same.to(labels.dtype)


@register_kernel("jaccard")
def jaccard(anchors: Tensor, labels: Tensor) -> Tensor:
    """|A and B| / |A or B| (with a threshold: MultiSupCon)."""
    return idf_jaccard(anchors, labels, labels.new_ones(labels.shape[1]))


@register_kernel("idf_jaccard")
def idf_jaccard(anchors: Tensor, labels: Tensor, idf: Tensor) -> Tensor:
    """Jaccard with labels weighted by :func:`idf_weights`: rare labels count more."""
    shared = (anchors * idf) @ labels.T
    union = ((anchors @ idf)[:, None] + labels @ idf).sub_(shared)
    return shared / union.clamp_min_(torch.finfo(labels.dtype).tiny)


@register_kernel("cosine")
def cosine(anchors: Tensor, labels: Tensor) -> Tensor:
    """|A and B| / sqrt(|A| |B|)."""
    norms = [sets.sum(1).sqrt().clamp_min(torch.finfo(labels.dtype).tiny) for sets in (anchors, labels)]
    return (anchors @ labels.T) / norms[0][:, None] / norms[1]


@register_kernel("mulsupcon")
def mulsupcon(anchors: Tensor, labels: Tensor) -> Tensor:
    """w_ip = sum over shared labels l of 1 / |P_il|, P_il the other scenes with label l.

    Zhang and Wu, "Multi-label Supervised Contrastive Learning", AAAI 2024: one SupCon loss for each label
    of the anchor, summed.
    """
    others = (labels.sum(0) - 1).clamp_min(1)  # |P_il| is the same for every anchor that carries l
    return (anchors / others) @ labels.T


@register_kernel("msc")
def msc(anchors: Tensor, labels: Tensor) -> Tensor:
    """The scene columns of :func:`msc_weights` with alpha = 1, for use without prototypes."""
    return msc_weights(anchors, labels)[:, : len(labels)]


def msc_weights(anchors: Tensor, labels: Tensor, alpha: float = 1.0) -> Tensor:
    """Return weights of the similarity-aware multi-label contrast with one prototype for each label.

    Audibert et al., "Multi-Label Contrastive Learning", arXiv:2404.08720. With u_ij = |y_i or y_j| and
    N_il = 1 + alpha sum_{j != i} y_jl / u_ij:

        w_ij = sum_{l in both} alpha / (u_ij N_il),    w_{i, c_l} = y_il / N_il.

    Columns are (R, N + C): scenes, then prototypes. Without what a scene weighs to itself, row i sums to
    |y_i|. ``alpha`` >= 0 weighs scenes against prototypes.
    """
    anchor_size = anchors.sum(1, keepdim=True)
    union = (anchor_size + labels.sum(1) - anchors @ labels.T).clamp_min(1)
    closeness = alpha / union
    itself = alpha * anchors / anchor_size.clamp_min(1)  # what the anchor adds to the sum over all scenes
    to_prototypes = anchors / (1 + closeness @ labels - itself)
    return torch.cat([closeness * (to_prototypes @ labels.T), to_prototypes], dim=1)
