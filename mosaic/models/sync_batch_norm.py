"""Batch normalisation over the batch of all processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mosaic.utils.distributed import gather
from mosaic.utils.errors import SettingsError


def synchronise(module: nn.Module, device: str) -> None:
    """Let every batch normalisation inside ``module`` see the batch of all processes.

    Parameters, buffers and their names stay, so weights load into modules that were not synchronised. Only
    training communicates: in evaluation mode a process may run the module alone.

    Args:
        module: changed in place.
        device: where it will run; torch's ``SyncBatchNorm`` runs on GPUs only.

    Raises:
        SettingsError: for a batch normalisation with an activation of its own, which would be lost.
    """
    if device.startswith("cuda"):
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            if type(part) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise SettingsError(
                    f"{type(part).__name__} does more than normalise: an encoder with it cannot be shared by "
                    "several processes; take another encoder, or one process"
                )
            part.__class__ = GatheredBatchNorm


class GatheredBatchNorm(_BatchNorm):
    """What ``SyncBatchNorm`` computes, of plain operations: for CPUs."""

    # torch also has batch normalisation without these; ours has them
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...); every process gives as many values."""
        if not self.training:
            return super().forward(input)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [dim for dim in range(input.ndim) if dim != 1]
        parts = gather(torch.stack(torch.var_mean(wide, dims, correction=0))[None])  # (processes, 2, C)
        # equal parts: the variance of all is the mean of those within the parts and the one between them
        mean = parts[:, 1].mean(0)
        variance = parts[:, 0].mean(0) + parts[:, 1].var(0, correction=0)
        self._track(mean, variance, count=len(parts) * input.numel() // input.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        offset = self.bias - mean * scale
        shape = [1, -1, *[1] * (input.ndim - 2)]
        return (wide * scale.view(shape) + offset.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as torch does: that of the variance is without bias."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        self.num_batches_tracked.add_(1)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""
