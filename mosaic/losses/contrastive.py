"""The weighted contrastive loss, of which every contrastive term of every method is a case.

Each term has its own weight matrix W:

    L(Z, W, tau) = 1/|A| sum_{i in A} sum_a q_ia (log q_ia - log p_ia),
    q_ia = W_ia / sum_b W_ib,    p_ia = softmax_a(z_i . z_a / tau),    A = {i : sum_b W_ib > 0}.

The KL form has a zero floor, so values compare across kernels; its gradient is that of the cross-entropy.
Anchors may also weigh in proportion to m_i = sum_b W_ib, with sum_i m_i in place of |A|, as in MulSupCon.

It is computed in blocks of anchors, so that memory grows with the number of views, not of pairs. A block's
gradient is taken right after its value, and only its products with the embeddings are kept: with
s_ia = z_i . z_a / tau the gradient by s_ia is p_ia - q_ia.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mosaic.losses.pairs import Pairs
from mosaic.utils.distributed import own_shard, sum_over_processes

Temperature = float | Callable[[slice], Tensor]

# Pairs in memory at once. On a CPU larger blocks leave the cache, smaller ones read the candidates too often.
# A GPU wants few large kernels: these are 128 MiB each in float32.
CPU_BLOCK, GPU_BLOCK = 2**21, 2**25


def contrastive_loss(
    embeddings: Tensor,
    pairs: Pairs | Tensor,
    temperature: Temperature,
    candidates: Tensor | None = None,
    by_mass: bool = False,
) -> Tensor:
    """Return the weighted contrastive loss; it has no second derivative.

    Several processes that hold the same arguments share the anchors among them, and all have the result.

    Example:
        >>> z = functional.normalize(torch.randn(6, 128), dim=1)  # two views of three scenes
        >>> contrastive_loss(z, instance_pairs(torch.tensor([0, 1, 2, 0, 1, 2])), temperature=0.5)

    The result is >= 0, float32 (float64 for float64 embeddings) whatever autocast says; exactly 0, with zero
    gradient, when no anchor has a positive.

    Args:
        embeddings: anchors (N, D), L2-normalised, any floating type.
        pairs: W (N, M) >= 0, how much of a positive each candidate is to each anchor; or a function that
            gives rows of it and the pairs to leave out. An anchor is never paired with itself.
        temperature: tau > 0, unitless; one for all pairs, or a function that gives it for rows, (R, M).
        candidates: (M, D), L2-normalised; the first N show the anchors themselves. By default only these.
        by_mass: anchors weigh in proportion to the sum of their row of W, otherwise all alike.
    """
    candidates = embeddings if candidates is None else candidates
    weights = pairs
    rows_of: Pairs = (lambda rows: (weights[rows], None)) if isinstance(weights, Tensor) else weights
    shard, wide = own_shard(len(embeddings)), torch.promote_types(embeddings.dtype, torch.float32)
    block = CPU_BLOCK if embeddings.device.type == "cpu" else GPU_BLOCK
    # half precision would lose the differences between logits that the softmax lives on, and round weights
    with torch.autocast(embeddings.device.type, enabled=False):
        divergence, mass = _BlockedDivergence.apply(
            embeddings[shard].to(wide), candidates.to(wide), rows_of, temperature, shard.start, block, by_mass
        )
    divergence, mass = sum_over_processes(torch.stack([divergence, mass]))
    return divergence / torch.where(mass > 0, mass, 1.0)


class _BlockedDivergence(Function):
    """Weighted sum over anchors z, shown by candidates ``first`` to ``first + N - 1``, and sum of weights."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        c: Tensor,
        pairs: Pairs,
        temperature: Temperature,
        first: int,
        block: int,
        by_mass: bool,
    ) -> tuple[Tensor, Tensor]:
        needs_z, needs_c = ctx.needs_input_grad[:2]
        grad_z = torch.empty_like(z) if needs_z else None
        grad_c = torch.zeros_like(c) if needs_c else None
        divergence, mass = z.new_zeros(()), z.new_zeros(())
        step = max(1, block // max(1, len(c)))
        for start in range(0, len(z), step):
            local = slice(start, min(start + step, len(z)))
            rows = slice(first + local.start, first + local.stop)
            tau = temperature(rows) if callable(temperature) else temperature
            logits = (z[local] @ c.T).div_(tau)
            value, added, grad = _divergence(logits, *pairs(rows), rows.start, by_mass)
            divergence += value
            mass += added
            grad.div_(tau)
            if grad_z is not None:
                torch.mm(grad, c, out=grad_z[local])
            if grad_c is not None:
                grad_c.addmm_(grad.T, z[local])
        ctx.save_for_backward(grad_z, grad_c)
        ctx.mark_non_differentiable(mass)
        return divergence, mass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grads = (None if grad is None else grad * scale for grad in ctx.saved_tensors)
        return (*grads, *[None] * 5)


def _divergence(
    logits: Tensor, weights: Tensor, exclude: Tensor | None, first: int, by_mass: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the divergence of a block, the weight of its anchors, and the gradient by the logits, in place.

    At this size passes over memory take the time, so they are few and in place.
    """
    limits = torch.finfo(logits.dtype)
    weights = weights.to(logits.dtype, copy=True)  # they may be rows of a matrix that the caller keeps
    # not -inf: its product with a weight of 0 is no number, and its exponential is 0 as well
    for values, nothing in ((weights, 0.0), (logits, limits.min / 2)):
        values.diagonal(first).fill_(nothing)
        if exclude is not None:
            values.masked_fill_(exclude, nothing)
    total = weights.sum(1, keepdim=True)
    mass = total if by_mass else (total > 0).to(logits.dtype)
    q = weights.div_(torch.where(total > 0, total, 1.0))
    logits -= logits.amax(1, keepdim=True)
    # sum_a q (log q - s); torch.xlogy would take about as long as all three matrix products
    value = torch.linalg.vecdot(q, q.clamp_min(limits.tiny).log_().sub_(logits))
    p = logits.exp_()
    norm = p.sum(1, keepdim=True)
    value = (value + norm.squeeze(1).log()) * mass.squeeze(1)
    return value.sum(), mass.sum(), p.mul_(mass / norm).sub_(q.mul_(mass) if by_mass else q)
