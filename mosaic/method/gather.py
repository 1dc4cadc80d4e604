"""One batch over several processes: what each holds of it, joined. The only communication of the method.

A contrastive loss needs all scenes of a batch, so projections, logits and labels are gathered and every
process computes the same loss of the whole batch. The work is repeated as often as there are processes: it
is small beside that of the encoder unless batches are very large. To share it out, let each process compute
the anchors of its own part with ``summed_contrast`` and add up sums and counts; candidates are
already whole, and nothing else would change.

The factor comes out right. With W processes the backward pass of :func:`gather` adds the gradients of W equal
losses, so each process has W times its part of the gradient of the one loss; averaging over the processes, as
DistributedDataParallel does, adds the parts and divides by W. Parameters that are used after gathering have
the whole gradient in every process, and the average is the same again.
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
    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    return _Gather.apply(tensor, dim)


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
