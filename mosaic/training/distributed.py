"""The processes that train one encoder, started by ``torchrun`` or ``srun``."""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

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
