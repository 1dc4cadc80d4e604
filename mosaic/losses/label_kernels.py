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
#: ``@register_kernel("name")`` registers a function of float labels of 0 and 1: anchors (R, C) and all scenes
#: (N, C), and whichever of ``idf``, ``alpha`` and ``prototypes`` of :func:`pair_weights` it names; it returns
#: weights (R, N).
register_kernel = KERNELS.register
#: Kernels published as sums over the batch, in which other views of the anchor's scene count as any scene.
COUNT_OTHER_VIEWS = ("mulsupcon", "msc")
#: Kernels whose published loss weighs an anchor by the sum of its weights, in place of all anchors alike.
ANCHORS_BY_MASS = ("mulsupcon",)

_ALL = slice(None)


def pair_weights(
    labels: Tensor,
    kernel: str,
    *,
    idf: Tensor | None = None,
    threshold: float = 0.0,
    alpha: float = 1.0,
    prototypes: bool = False,
    rows: slice = _ALL,
) -> Tensor:
    """Return the weights (R, N) >= 0 of a key of :data:`KERNELS`, 0 for a scene with itself.

    Args:
        labels: (N, C), 0 or 1, any type.
        kernel: SettingsError for an unknown one; the nearest name is suggested.
        idf: (C,), for kernels that use it; :func:`idf_weights` of these labels by default.
        threshold: weights between scenes below it become 0 (MultiSupCon: 0.3 with ``jaccard``).
        alpha: >= 0, of :func:`msc`.
        prototypes: of :func:`msc`: weights are (R, N + C), the last C columns those of the prototypes.
        rows: which scenes are anchors, R of them; all by default.
    """
    weigh = KERNELS[kernel]
    labels = labels if labels.is_floating_point() else labels.float()
    idf = idf_weights(labels.sum(0), len(labels)) if idf is None else idf.to(labels)
    given = {"idf": idf, "alpha": alpha, "prototypes": prototypes}
    options = {name: given[name] for name in inspect.signature(weigh).parameters if name in given}
    weights = weigh(labels[rows], labels, **options).to(labels)
    weights.diagonal(rows.start or 0).zero_()
    if threshold > 0:
        scenes = weights[:, : len(labels)]
        scenes.masked_fill_(scenes < threshold, 0.0)
    return weights


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
    of the anchor, summed. Its sum over anchors is divided by the sum of |y_i|: :data:`ANCHORS_BY_MASS`.
    """
    others = (labels.sum(0) - 1).clamp_min(1)  # |P_il| is the same for every anchor that carries l
    return (anchors / others) @ labels.T


@register_kernel("msc")
def msc(anchors: Tensor, labels: Tensor, alpha: float = 1.0, prototypes: bool = False) -> Tensor:
    """Similarity-aware multi-label contrast, with or without one prototype c_l for each label.

    Audibert et al., "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification",
    arXiv:2404.08720. With u_ij = |y_i or y_j| and N_il = 1 + alpha sum_{j != i} y_jl / u_ij:

        w_ij = sum_{l in both} alpha / (u_ij N_il),    w_{i, c_l} = y_il / N_il.

    ``alpha`` >= 0 weighs scenes against prototypes. With these, (R, N + C), row i sums to |y_i|, but for what
    the scene weighs to itself.
    """
    anchor_size = anchors.sum(1, keepdim=True)
    closeness = alpha / (anchor_size + labels.sum(1) - anchors @ labels.T).clamp_min(1)
    itself = alpha * anchors / anchor_size.clamp_min(1)  # what the anchor adds to the sum over all scenes
    to_prototypes = anchors / (1 + closeness @ labels - itself)
    scenes = closeness * (to_prototypes @ labels.T)
    return torch.cat([scenes, to_prototypes], dim=1) if prototypes else scenes
