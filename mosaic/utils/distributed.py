"""One batch over several processes: what each holds of it, joined. The only communication of the losses.

A contrastive loss needs all scenes of a batch, so projections, logits and labels are gathered. Its work grows
with the square of the batch, so it is shared out: each process takes its shard of the anchors against all
candidates, and the sums are added up. What is linear in the batch every process computes as a whole.

With W processes the backward pass of :func:`gather` adds the gradients of W equal losses, so each process has
W times its share of the gradient of the one loss. DistributedDataParallel averages over the processes: it
adds the shares and divides by W. Parameters that are used after gathering come out right by the same average.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """Concatenate equally shaped tensors of all processes along ``dim``, not negative, with gradient.

    Without a process group that is the tensor itself.
    """
    return _Gather.apply(tensor, dim) if _several() else tensor


def own_shard(number: int) -> slice:
    """Return which of ``number`` items this process takes; all where no process group was initialised."""
    if not _several():
        return slice(0, number)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return slice(number * rank // world, number * (rank + 1) // world)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, with gradient."""
    return gather(tensor[None]).sum(0) if _several() else tensor


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Gather(torch.autograd.Function):
    """Gather forward, sum and scatter backward.

    As ``torch.distributed.nn.functional.all_gather``, which is deprecated since torch 2.14.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        tensor = tensor.contiguous()
        shards = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(shards, tensor)
        return torch.cat(shards, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # gloo has no reduce_scatter: exchange, then sum
        shards = torch.stack(gradients[0].chunk(distributed.get_world_size(), ctx.dim))
        received = torch.empty_like(shards)
        distributed.all_to_all_single(received, shards)
        return received.sum(0), None
