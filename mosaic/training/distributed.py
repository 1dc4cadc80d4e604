"""The processes that ``torchrun`` or ``srun`` started for one run, and which of them this is."""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

if TYPE_CHECKING:
    from lightning.fabric.plugins import ClusterEnvironment

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: number of this one, counted from 0. The first one looks, writes and decides.
        world: how many there are.
        each: how many there are on each machine, one on each of its devices.
        environment: how Lightning learns all that; None for a process alone.
    """

    rank: int = 0
    world: int = 1
    each: int = 1
    environment: "ClusterEnvironment | None" = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def agree(self, decide: Callable[[], T]) -> T:
        """Return in every process what ``decide`` returns in the first; raise everywhere what it raises."""
        if self.world == 1:
            return decide()
        outcome: list[object] = [None, None]
        if self.first:
            try:
                outcome[0] = decide()
            except Exception as error:
                outcome[1] = error
        distributed.broadcast_object_list(outcome)
        if isinstance(outcome[1], Exception):
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            distributed.barrier()


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
    each = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ["SLURM_NTASKS_PER_NODE"])
    return Processes(rank, world, each, environment)


def _environment() -> "ClusterEnvironment | None":
    """Return Lightning's account of who started this process; None when nobody did.

    The variables are looked at first: Lightning takes seconds to import. Within an allocation of SLURM, a
    process that ``srun`` did not start has the job's number of tasks but no step, and works alone.
    """
    if distributed.is_available() and distributed.is_torchelastic_launched():
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        return TorchElasticEnvironment()
    if "SLURM_STEP_NUM_TASKS" in os.environ and int(os.environ["SLURM_STEP_NUM_TASKS"]) > 1:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        # Lightning's own requeueing would save beside our checkpoints, and resume from neither
        return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
    return None
