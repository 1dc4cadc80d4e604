"""Processes that train one encoder, started by ``torchrun`` or ``srun``, and their batch normalisation."""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mosaic.utils.distributed import gather

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a run; the first one evaluates, writes and decides."""

    rank: int = 0  # number of this one
    world: int = 1  # how many there are
    per_node: int = 1  # how many there are on each machine, one on each of its devices
    environment: Any = None  # Lightning's ClusterEnvironment; None for a process alone

    def agree(self, decide: Callable[[], T]) -> T:
        """Return in every process what ``decide`` returns in the first; raise everywhere what it raises."""
        if self.world == 1:
            return decide()
        outcome: list[Any] = [None]
        if self.rank == 0:
            try:
                outcome = [decide()]
            except Exception as error:
                outcome = [error]
        distributed.broadcast_object_list(outcome)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]


def join() -> Processes:
    """Join the other processes of the run, by nccl on GPUs and by gloo elsewhere; they part at exit."""
    environment = _environment()
    if environment is None or environment.world_size() == 1:
        return Processes()
    rank, world = environment.global_rank(), environment.world_size()
    if not distributed.is_initialized():
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(environment.local_rank())
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        distributed.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=world)
        atexit.register(distributed.destroy_process_group)
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ["SLURM_NTASKS_PER_NODE"])
    return Processes(rank, world, per_node, environment)


def _environment() -> Any:
    """Return Lightning's account of what started this process; None for a process alone."""
    # Lightning takes seconds to import, so the variables are read first
    if distributed.is_available() and distributed.is_torchelastic_launched():
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        return TorchElasticEnvironment()
    # a worker of a study within an allocation of SLURM has the job's number of tasks, but is no step of srun
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        # Lightning's own requeueing would save a second checkpoint, and resume from neither
        return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
    return None


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
