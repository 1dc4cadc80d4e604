"""One batch over several processes: what each holds of it, joined. The only communication of the method.

A contrastive loss needs all scenes of a batch, so projections, logits and labels are gathered. Its work grows
with the square of the batch, so it is shared out: each process takes its part of the anchors against all
candidates, and the parts are added up. What is linear in the batch every process computes as a whole.

The factor comes out right. With W processes the backward pass of :func:`gather` adds the gradients of W equal
losses, so each process has W times its part of the gradient of the one loss; averaging over the processes, as
DistributedDataParallel does, adds the parts and divides by W. So :func:`add_up` gives each part W times its
gradient. Parameters that are used after gathering come out right by the same average.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """Join the tensors of all processes, in their order; with gradient.

    Args:
        tensor: of the same shape and type in every process.
        dim: along which to join; not negative.

    Returns:
        As long along ``dim`` as all together; ``tensor`` itself where no process group was initialised.
    """
    return _Gather.apply(tensor, dim) if _several() else tensor


def own_part(number: int) -> slice:
    """Return which of ``number`` items this process takes; all where no process group was initialised."""
    if not _several():
        return slice(0, number)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return slice(number * rank // world, number * (rank + 1) // world)


def add_up(part: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; with gradient, W times that of a sum.

    Args:
        part: of the same shape and type in every process.
    """
    return _AddUp.apply(part) if _several() else part


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _AddUp(torch.autograd.Function):
    """Sum forward; backward the factor that averaging over the processes takes away again."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * distributed.get_world_size()


class _Gather(torch.autograd.Function):
    """Gather forward, sum and scatter backward: gloo exchanges and we sum, in a fraction of the time."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, tensor)
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        parts = torch.stack(gradients[0].chunk(distributed.get_world_size(), ctx.dim))
        own = torch.empty_like(parts)
        distributed.all_to_all_single(own, parts)
        return own.sum(0), None
