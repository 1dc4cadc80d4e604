"""Label kernels: how much of a positive two scenes are to each other, given their label sets.

All take label vectors (N, C) of 0 and 1 and return weights (N, N) >= 0 with a zero diagonal, as matrix
expressions; with ``rows`` only that block of it. A scene without labels is nobody's positive.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mosaic.utils.errors import SettingsError, suggest

ALL = slice(None)


def without_self(weights: Tensor, rows: slice = ALL) -> Tensor:
    """Zero, in place, what scenes weigh to themselves: row i of a block (R, N) is scene rows.start + i."""
    weights.diagonal(rows.start or 0).zero_()
    return weights


def any_label(labels: Tensor, rows: slice = ALL) -> Tensor:
    """1 where two scenes share at least one label."""
    return without_self((labels[rows] @ labels.T > 0).to(labels.dtype), rows)


def all_labels(labels: Tensor, rows: slice = ALL) -> Tensor:
    """1 where two label sets are identical and not empty."""
    shared, size = labels[rows] @ labels.T, labels.sum(1)
    same = (shared == size[rows, None]) & (shared == size[None, :]) & (shared > 0)
    return without_self(same.to(labels.dtype), rows)


def _weighted_jaccard(labels: Tensor, omega: Tensor, rows: slice) -> Tensor:
    shared = (labels * omega)[rows] @ labels.T
    size = labels @ omega
    union = (size[rows, None] + size[None, :]).sub_(shared).clamp_min_(torch.finfo(labels.dtype).tiny)
    return without_self(shared / union, rows)


def jaccard(labels: Tensor, rows: slice = ALL) -> Tensor:
    """|A and B| / |A or B| (with a threshold: MultiSupCon)."""
    return _weighted_jaccard(labels, torch.ones_like(labels[0]), rows)


def idf_weights(labels: Tensor, class_counts: Tensor | None = None, total: float | None = None) -> Tensor:
    """Return omega_l = log((1 + N) / (1 + n_l)) + 1, (C,): the weight of each label, larger for rare ones.

    Args:
        labels: (N, C).
        class_counts: n_l (C,), how many training scenes carry each label; the batch's own by default.
        total: N, how many training scenes there are; the batch's own by default.
    """
    counts = labels.sum(0) if class_counts is None else class_counts.to(labels)
    number = float(len(labels)) if total is None else total
    return torch.log((1 + number) / (1 + counts)) + 1


def idf_jaccard(
    labels: Tensor,
    rows: slice = ALL,
    class_counts: Tensor | None = None,
    total: float | None = None,
) -> Tensor:
    """Jaccard with labels weighted by :func:`idf_weights`: rare labels count more."""
    return _weighted_jaccard(labels, idf_weights(labels, class_counts, total), rows)


def cosine(labels: Tensor, rows: slice = ALL) -> Tensor:
    """|A and B| / sqrt(|A| |B|)."""
    norm = labels.sum(1).sqrt().clamp_min(torch.finfo(labels.dtype).tiny)
    return without_self((labels[rows] @ labels.T) / norm[rows, None] / norm[None, :], rows)


def mulsupcon(labels: Tensor, rows: slice = ALL) -> Tensor:
    """w_ip = sum over shared labels l of 1 / |P_il|, P_il the other scenes with label l.

    Zhang and Wu, "Multi-label Supervised Contrastive Learning", AAAI 2024: one SupCon loss for each label
    of the anchor, summed.
    """
    others = (labels.sum(0) - 1).clamp_min(1)  # |P_il| is the same for every anchor that carries l
    return without_self((labels / others)[rows] @ labels.T, rows)


def msc(labels: Tensor, rows: slice = ALL) -> Tensor:
    """The scene columns of :func:`msc_weights` with alpha = 1, for use without prototypes."""
    return msc_weights(labels, rows=rows)[:, : len(labels)]


def msc_weights(labels: Tensor, alpha: float = 1.0, rows: slice = ALL) -> Tensor:
    """Weights of the similarity-aware multi-label contrast with one prototype for each label.

    Audibert et al., "Multi-Label Contrastive Learning", arXiv:2404.08720. With u_ij = |y_i or y_j| and
    N_il = 1 + alpha sum_{j != i} y_jl / u_ij:

        w_ij = sum_{l in both} alpha / (u_ij N_il),    w_{i, c_l} = y_il / N_il.

    Args:
        labels: (N, C).
        alpha: weight of scenes against prototypes, >= 0.
        rows: which scenes' rows are wanted, R of them; all by default.

    Returns:
        (R, N + C): scenes, then prototypes. Row i sums to |y_i|.
    """
    size, ours = labels.sum(1), labels[rows]
    union = (size[rows, None] + size[None, :] - ours @ labels.T).clamp_min(1)
    closeness = without_self(alpha / union, rows)
    normaliser = 1 + closeness @ labels
    own = ours / normaliser
    return torch.cat([closeness * (own @ labels.T), own], dim=1)


KERNELS: dict[str, Callable[..., Tensor]] = {
    "any": any_label,
    "all": all_labels,
    "jaccard": jaccard,
    "idf_jaccard": idf_jaccard,
    "cosine": cosine,
    "mulsupcon": mulsupcon,
    "msc": msc,
}


def pair_weights(
    labels: Tensor,
    kernel: str,
    *,
    class_counts: Tensor | None = None,
    total: float | None = None,
    threshold: float = 0.0,
    rows: slice = ALL,
) -> Tensor:
    """Return the weights of a kernel by name.

    Args:
        labels: (N, C), 0 or 1, any type.
        kernel: a key of :data:`KERNELS`.
        class_counts: for ``idf_jaccard``, how many labelled training scenes carry each label, (C,).
        total: for ``idf_jaccard``, how many labelled training scenes there are.
        threshold: weights below it become 0 (MultiSupCon: 0.3 with ``jaccard``).
        rows: which scenes' rows are wanted, R of them; all by default.

    Returns:
        (R, N) >= 0, 0 for a scene with itself.

    Raises:
        SettingsError: for an unknown kernel; the nearest name is suggested.
    """
    check_kernel(kernel)
    labels = labels if labels.is_floating_point() else labels.float()
    weigh = KERNELS[kernel]
    more = (class_counts, total) if weigh is idf_jaccard else ()
    weights = weigh(labels, rows, *more)
    return torch.where(weights >= threshold, weights, 0.0) if threshold > 0 else weights


def check_kernel(kernel: str) -> None:
    """Refuse an unknown kernel.

    Raises:
        SettingsError: the nearest name is suggested.
    """
    if kernel not in KERNELS:
        raise SettingsError(f"unknown kernel {kernel!r}{suggest(kernel, KERNELS)}")
