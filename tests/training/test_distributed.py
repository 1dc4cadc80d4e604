import pytest

from mosaic.training.distributed import Processes, join

STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0"}


@pytest.fixture
def slurm(monkeypatch):
    """The environment of an allocation for four tasks on two machines."""
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)


def test_nobody_started_this_process():
    alone = join()
    assert alone == Processes(rank=0, world=1, each=1, environment=None)
    assert alone.first


def test_a_process_that_srun_did_not_start_works_alone(slurm):
    assert join() == Processes()


def test_the_only_task_of_a_step_works_alone(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert join() == Processes()


def test_the_only_process_of_torchrun_works_alone(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join() == Processes()


def test_a_process_of_several_knows_its_place(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NODELIST", "node[07-08]")
    monkeypatch.setattr("mosaic.training.distributed.distributed.is_initialized", lambda: True)
    processes = join()
    assert (processes.rank, processes.world, processes.each, processes.first) == (3, 4, 2, False)
    assert processes.environment.main_address == "node07"
    assert not processes.environment.auto_requeue


def test_alone_it_decides_for_itself():
    def decide():
        raise OSError("no")

    assert Processes().agree(lambda: 3) == 3
    with pytest.raises(OSError, match="no"):
        Processes().agree(decide)
    Processes().wait()
