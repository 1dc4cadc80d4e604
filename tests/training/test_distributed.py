import pytest
import torch

from mosaic.training.distributed import Processes, join
from mosaic.utils.devices import resolve_precision

STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0"}


ALONE = {
    "started by hand": {},
    "allocation without a step": STEP,  # for four tasks on two machines, but not started by srun
    "step of one task": STEP | {"SLURM_STEP_NUM_TASKS": "1"},
    "torchrun of one process": {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "1"},
}


@pytest.mark.parametrize("environment", ALONE.values(), ids=ALONE)
def test_a_process_works_alone(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert join() == Processes(rank=0, world=1, per_node=1, environment=None)


def test_a_process_of_several_knows_its_rank(monkeypatch):
    several = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_NODELIST": "node[07-08]"}
    for name, value in (STEP | several).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mosaic.training.distributed.distributed.is_initialized", lambda: True)
    processes = join()
    assert (processes.rank, processes.world, processes.per_node) == (3, 4, 2)
    assert processes.environment.main_address == "node07"
    assert not processes.environment.auto_requeue


def test_automatic_precision_is_float32_without_a_gpu_that_has_bf16(monkeypatch):
    assert resolve_precision("bf16-mixed") == "bf16-mixed"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_precision("auto") == "32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, expected in (((7, 5), "32"), ((9, 0), "bf16-mixed")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert resolve_precision("auto") == expected
