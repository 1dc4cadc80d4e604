"""Batch normalisation over the batch of all processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mosaic.utils.distributed import gather


def synchronise(module: nn.Module, device: str) -> None:
    """Make every batch normalisation inside ``module`` see the batch of all processes, in place.

    Parameters, buffers and their names stay, so weights load into modules that were not synchronised. Only
    training communicates: in evaluation mode a process may run the module alone.
    """
    if device.startswith("cuda"):
        from timm.layers.norm_act import convert_sync_batchnorm  # seconds to import

        convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return
    for layer in module.modules():  # torch's SyncBatchNorm, and DistributedDataParallel with it, refuse CPUs
        if isinstance(layer, _BatchNorm):
            layer.__class__ = type(type(layer).__name__, (_Gathered, type(layer)), {})


class _Gathered(_BatchNorm):
    """The computation of ``SyncBatchNorm`` in plain operations."""

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...); every process gives as many values."""
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32)).transpose(1, -1)
        dims = tuple(range(input.ndim - 1))
        means = gather(values.mean(dims)[None])  # (processes, C)
        centred = values - means.mean(0)
        variance = gather(centred.square().mean(dims)[None]).mean(0)
        with torch.no_grad():
            count = len(means) * input.numel() // input.shape[1]
            self.running_mean.lerp_(means.mean(0), self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scaled = centred * ((variance + self.eps).rsqrt() * self.weight) + self.bias
        output = scaled.transpose(1, -1).to(input.dtype)
        for name in ("drop", "act"):  # of timm's BatchNormAct2d
            output = getattr(self, name, nn.Identity())(output)
        return output
