"""One weighted contrastive loss, of which every contrastive term of every method is a case.

Each has its own weight matrix W:

    L(Z, W, tau) = 1/|A| sum_{i in A} sum_a q_ia (log q_ia - log p_ia),
    q_ia = W_ia / sum_b W_ib,    p_ia = softmax_a(z_i . z_a / tau),    A = {i : sum_b W_ib > 0}.

The KL form has a zero floor, so values compare across kernels; its gradient is that of the cross-entropy.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mosaic.losses.chunked import ChunkedDivergence, Temperature
from mosaic.losses.pairs import Pairs
from mosaic.utils.distributed import add_up, own_part

# Pairs in memory at once. On a CPU larger blocks leave the cache, smaller ones read the candidates too often
# (``benchmarks/bench_loss.py`` compares). A GPU wants few large kernels: these are 128 MiB each in float32.
CPU_BLOCK, GPU_BLOCK = 2**21, 2**25


def weighted_contrastive_loss(
    embeddings: Tensor,
    weights: Tensor,
    temperature: float | Tensor,
    candidates: Tensor | None = None,
    exclude: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Return the weighted contrastive loss.

    Args:
        embeddings: anchors (N, D), L2-normalised, any floating type.
        weights: W (N, M) >= 0, how much of a positive candidate a is to anchor i.
        temperature: tau > 0, unitless; one for all pairs, or (N, M).
        candidates: (M, D), L2-normalised; N of them are the anchors themselves. By default only these.
        exclude: bool, (N, M) or what broadcasts to it, pairs that are neither positive nor negative. Each
            anchor is excluded from its own row in any case.
        first: candidates ``first`` to ``first + N - 1`` are the anchors.

    Returns:
        Scalar >= 0, float32 (float64 for float64 embeddings) whatever autocast says. Exactly 0, with zero
        gradient, when no anchor has a positive.
    """
    divergence, anchors = summed_divergence(embeddings, weights, temperature, candidates, exclude, first)
    return divergence / anchors.clamp_min(1)


def summed_divergence(
    embeddings: Tensor,
    weights: Tensor,
    temperature: float | Tensor,
    candidates: Tensor | None = None,
    exclude: Tensor | None = None,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the sum over A and the number |A| whose quotient is :func:`weighted_contrastive_loss`."""
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    # half precision would lose the differences between logits that the softmax lives on
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(wide)
        logits = z @ (z if candidates is None else candidates.to(wide)).T / temperature
        itself = torch.zeros(logits.shape, dtype=torch.bool, device=z.device)
        itself.diagonal(first).fill_(True)
        excluded = itself if exclude is None else itself | exclude
        weights = weights.to(wide).masked_fill(excluded, 0.0)
        total = weights.sum(1, keepdim=True)
        anchors = total > 0
        q = weights / torch.where(anchors, total, 1.0)
        # log_softmax subtracts the row's maximum over what is not excluded; a row excluded as a whole is NaN
        # there, but it is no anchor, and masks keep it out of the value and of the gradient
        logits = logits.masked_fill(excluded, -torch.inf)
        log_p = functional.log_softmax(logits, dim=1).masked_fill(q == 0, 0.0)
        return (torch.special.xlogy(q, q) - q * log_p).sum(), anchors.sum()


def contrast(
    embeddings: Tensor,
    pairs: Pairs,
    temperature: Temperature,
    candidates: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Return the weighted contrastive loss of any number of views, in memory linear in it.

    Several processes that hold the same arguments share the anchors among them, and all have the result.

    Args:
        embeddings: anchors (N, D), L2-normalised, any floating type.
        pairs: gives W and what is excluded, for any of the rows ``first`` to ``first + N - 1``.
        temperature: tau > 0, unitless; one for all pairs, or a function that gives it for rows, (R, M).
        candidates: as for :func:`weighted_contrastive_loss`.
        first: as there.

    Returns:
        What :func:`weighted_contrastive_loss` does.
    """
    candidates = embeddings if candidates is None else candidates
    part = own_part(len(embeddings))
    divergence, anchors = summed_contrast(
        embeddings[part], pairs, temperature, candidates, first + part.start
    )
    divergence, anchors = add_up(torch.stack([divergence, anchors.to(divergence)]))
    return divergence / anchors.clamp_min(1)


def summed_contrast(
    embeddings: Tensor,
    pairs: Pairs,
    temperature: Temperature,
    candidates: Tensor | None = None,
    first: int = 0,
    block: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sum over A and the number |A| whose quotient is :func:`contrast`.

    Arguments are those there, and ``block``, the most pairs in memory at once (but never less than one row).
    Up to so many pairs the plain form serves, beyond them :class:`ChunkedDivergence`.
    """
    others = embeddings if candidates is None else candidates
    block = block or (CPU_BLOCK if embeddings.device.type == "cpu" else GPU_BLOCK)
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):  # nor shall autocast round label weights
        if len(embeddings) * len(others) <= block:
            rows = slice(first, first + len(embeddings))
            tau = temperature(rows) if callable(temperature) else temperature
            weights, exclude = pairs(rows)
            return summed_divergence(embeddings, weights, tau, candidates, exclude, first)
        z, c = embeddings.to(wide), others.to(wide)
        divergence, anchors = ChunkedDivergence.apply(z, c, pairs, temperature, first, block)
        return divergence, anchors
