"""The weighted contrastive loss in blocks of anchors: memory grows with the views, not with their pairs.

One pass: a block's gradient is taken right after its value, and only its products with the embeddings are
kept. With s_ia = z_i . c_a / tau, the gradient of sum_a q_ia (log q_ia - log p_ia) by s_ia is p_ia - q_ia.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mosaic.losses.pairs import Pairs

Temperature = float | Callable[[slice], Tensor]


class ChunkedDivergence(Function):
    """Sum of divergences over the anchors, and the number of anchors.

    Arguments are those of :func:`mosaic.losses.contrastive.summed_contrast`, with embeddings in the type of
    the sum. There is no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, c: Tensor, pairs: Pairs, temperature: Temperature, first: int, block: int
    ) -> tuple[Tensor, Tensor]:
        """Go through the blocks, and keep the gradients of the sum."""
        needs_z, needs_c = ctx.needs_input_grad[:2]
        grad_z = torch.empty_like(z) if needs_z else None
        grad_c = torch.zeros_like(c) if needs_c else None
        divergence, anchors = z.new_zeros(()), torch.zeros((), dtype=torch.long, device=z.device)
        step = max(1, block // len(c))
        for start in range(0, len(z), step):
            ours = slice(start, min(start + step, len(z)))
            rows = slice(first + ours.start, first + ours.stop)
            tau = temperature(rows) if callable(temperature) else temperature
            logits = (z[ours] @ c.T).div_(tau)
            value, number, grad = _block(logits, *pairs(rows), itself=rows.start)
            divergence += value
            anchors += number
            grad.div_(tau)
            if grad_z is not None:
                torch.mm(grad, c, out=grad_z[ours])
            if grad_c is not None:
                grad_c.addmm_(grad.T, z[ours])
        ctx.save_for_backward(grad_z, grad_c)
        ctx.mark_non_differentiable(anchors)
        return divergence, anchors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the kept gradients."""
        grads = (None if grad is None else grad * scale for grad in ctx.saved_tensors)
        return (*grads, None, None, None, None)


def _block(
    logits: Tensor, weights: Tensor, exclude: Tensor | None, itself: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the divergence of a block, its number of anchors, and the gradient by the logits in their place.

    At this size passes over memory take the time, so they are few and in place.
    """
    limits = torch.finfo(logits.dtype)
    weights = weights.to(logits.dtype, copy=True)  # they may be rows of a matrix that somebody keeps
    # not -inf: its product with a weight of 0 is no number, and its exponential is 0 as well
    for values, nothing in ((weights, 0.0), (logits, limits.min / 2)):
        values.diagonal(itself).fill_(nothing)
        if exclude is not None:
            values.masked_fill_(exclude, nothing)
    total = weights.sum(1, keepdim=True)
    anchor = total > 0
    q = weights.div_(torch.where(anchor, total, 1.0))
    logits -= logits.amax(1, keepdim=True)
    # sum_a q (log q - s); torch.xlogy would take about as long as all three matrix products
    value = torch.linalg.vecdot(q, q.clamp_min(limits.tiny).log_().sub_(logits))
    p = logits.exp_()
    norm = p.sum(1, keepdim=True)
    value = (value + norm.squeeze(1).log()).masked_fill(~anchor.squeeze(1), 0.0)
    return value.sum(), anchor.sum(), p.mul_(anchor / norm).sub_(q)
