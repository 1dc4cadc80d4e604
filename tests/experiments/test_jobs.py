"""Cells of a study by every kind of worker: results, failures, retries, what is told, what a kill leaves."""

import importlib
import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mosaic.experiments.jobs import run_jobs, run_trials, workers
from mosaic.experiments.launch import Launch
from mosaic.experiments.study import Study
from mosaic.experiments.workers import Attempt, Pool
from mosaic.utils import progress
from mosaic.utils.errors import RunError

HELPERS = Path(__file__).parent / "jobs"


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The module of cells, found by the processes that run them."""
    paths = [str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.syspath_prepend(HELPERS)
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)  # for slow network disks
    return importlib.import_module("job_cells")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of the states of a SLURM whose nodes are processes of this machine."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "slurm").mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {HELPERS}/fake_slurm.py {name} "$@"\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    return tmp_path / "slurm"


def begun(folder, name):
    path = folder / f"{name}.begun"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.05)


@pytest.mark.parametrize("cluster", ["pool", "local"])
def test_results_come_in_order_from_processes_with_a_gpu_each(cells, tmp_path, monkeypatch, cluster):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(10)))
    with Launch(cluster).handed_on():
        shares = run_jobs(cells.share, [(tmp_path, 3), (tmp_path, 1)], "sharing", 2)
    assert shares == [(3, "4", 5), (1, "7", 5)]
    assert not list((tmp_path / "root").rglob("*.pkl"))  # nothing is left of jobs that were fine


def test_a_process_that_died_while_idle_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    pool = Pool(1, "os")
    try:
        (first,) = pool.submit([Attempt(os.getpid, ())])
        pid = first.outcome()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: next(iter(pool.processes.values()))._broken)
        (second,) = pool.submit([Attempt(os.getpid, ())])
        assert second.outcome() not in (pid, os.getpid())
    finally:
        pool.close([])


def test_processes_have_the_environment_of_when_they_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    for value in ("earlier", "later"):
        monkeypatch.setenv("OF_NOW", value)
        assert run_jobs(os.getenv, [("OF_NOW",), ("OF_NOW",)], "asking", 2) == [value, value]


@pytest.mark.parametrize("cluster", ["pool", "debug"])
def test_results_come_in_order_from_this_process(cells, tmp_path, cluster):
    with Launch(cluster).handed_on():
        assert run_jobs(cells.square, [(tmp_path, i) for i in (3, 1, 2)], "squares", jobs=1) == [9, 1, 4]
        assert run_jobs(cells.square, [], "nothing") == []
    assert {pid for i in (1, 2, 3) for pid in begun(tmp_path, f"square-{i}")} == {os.getpid()}


def test_a_cell_that_fails_is_tried_again_alone_and_the_others_finish(cells, tmp_path):
    names = ["always_fails", "wrong_setting", "fails_once", "killed_once"]
    calls = {name.replace("_", " "): (name, tmp_path) for name in names}
    calls |= {"the square": ("square", tmp_path, 3), "no pickle": ("square", lambda: tmp_path, 3)}
    with pytest.raises(RunError) as caught:
        run_jobs(cells.call, calls, "trying", jobs=2)
    told = str(caught.value)
    assert told.startswith("trying: 3 of 6 failed\n")
    assert "\n  always fails: ZeroDivisionError: never works\n" in told
    assert "\n  wrong setting: no such thing: choose another\n" in told
    assert re.search(r"\n  no pickle: .*pickle", told)
    assert "run the same again" in told and "--keep-going" in told
    tries = {name: len(begun(tmp_path, name)) for name in [*names, "square-3"]}
    assert tries == dict(zip(tries, (3, 1, 2, 2, 1), strict=True))
    (logs,) = (tmp_path / "root" / "data" / "jobs").iterdir()
    assert str(logs) in told
    assert "in always_fails" in (logs / "always-fails.log").read_text()
    assert "in wrong_setting" in str(caught.value.__cause__)  # of the first, shown beside the error's own


def test_a_run_that_keeps_going_lists_what_is_missing_and_tries_only_that_again(cells, tmp_path):
    calls = {
        "good": ("fails_once", tmp_path, tmp_path / "good"),
        "bad": ("always_fails", tmp_path, tmp_path / "bad"),
    }

    def pretraining(**those):
        run = Study("02_pretrain", SimpleNamespace(jobs=1), tmp_path)
        there = run_trials(run, cells.written, those or calls, "pretraining", "train")
        return there, run.failed_trials().values.tolist()

    with Launch(keep_going=True).handed_on():
        missing = [["pretraining", "bad", "ZeroDivisionError: never works"]]
        assert pretraining() == (["good"], missing)
        assert pretraining() == (["good"], missing)
        with pytest.raises(RunError, match="1 of 1 failed"):  # there is nothing to go on with
            pretraining(bad=calls["bad"])
    assert (len(begun(tmp_path, "fails_once")), len(begun(tmp_path, "always_fails"))) == (2, 9)
    with pytest.raises(RunError, match="1 of 2 failed"):
        pretraining()
    (tmp_path / "bad").write_text("by another run")
    assert pretraining() == (["good", "bad"], [])


def test_lines_name_the_cells_and_their_states(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    calls = {"iai seed 0": ("fails_once", tmp_path), "mosaic seed 2": ("wrong_setting", tmp_path)}
    with pytest.raises(RunError):
        run_jobs(cells.call, calls, "pretraining", jobs=1)
    assert capsys.readouterr().err.splitlines() == [
        "pretraining: 1 waiting, 1 running, 0 done",
        "pretraining: 1 waiting, 1 running, 0 done, 1 retried "
        "(iai seed 0: OSError: the disk was away; retry 1 of 2)",
        "pretraining: 1 running, 0 done, 1 retried, 1 failed (iai seed 0: OSError: the disk was away; "
        "retry 1 of 2; mosaic seed 2: no such thing: choose another)",
        "pretraining: 1 done, 1 failed (mosaic seed 2: no such thing: choose another), 0 s left",
    ]


def test_as_many_processes_as_cores_but_no_more_than_jobs():
    assert workers(0, 1) == 1
    assert workers(3, 10) == 3
    assert 1 <= workers(0, 1000) <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("cluster", ["pool", "local"])
def test_a_killed_study_leaves_no_process_and_the_next_resumes(cells, tmp_path, cluster):
    """Of three cells two are finished and one is under way."""
    run = Study("02_pretrain", SimpleNamespace(jobs=2), tmp_path)
    steps = {"short": 1, "long": 60, "last": 1}
    calls = {name: (count, tmp_path / f"{name}.done") for name, count in steps.items()}
    start = (run, cells.counts, calls, "counting", "count")
    step = tmp_path / "long.last"
    with Launch(cluster).handed_on():
        study = multiprocessing.get_context("spawn").Process(target=run_trials, args=start)
        study.start()
        wait_until(lambda: (tmp_path / "last.done").exists() and step.exists() and int(step.read_text()) > 2)
        study.kill()
        study.join()
        wait_until(lambda: all(ended(pid) for pid in begun(tmp_path, "long")))
        reached = int(step.read_text())
        assert reached < 60
        step.write_text("58")  # as if it had been further: the rest would only take time
        assert run_trials(*start) == ["short", "long", "last"]
    assert (tmp_path / "long.done").read_text() == "58"
    assert [len(begun(tmp_path, name)) for name in steps] == [1, 2, 1]


def test_a_cell_that_another_process_is_at_is_waited_for(cells, tmp_path):
    call = (20, tmp_path / "a.done")
    other = multiprocessing.get_context("fork").Process(target=cells.counts, args=call)
    other.start()
    wait_until(lambda: (tmp_path / "a.last").exists())
    assert run_jobs(cells.counts, [call], "counting", jobs=1) == [0]
    other.join()
    assert len(begun(tmp_path, "a")) == 1


def test_jobs_of_slurm_are_an_array_whose_lost_and_preempted_ones_run_again(cells, tmp_path, slurm):
    """Killed: tried again as a job of its own. Out of time or preempted: SLURM is asked to queue it again."""
    names = ["killed_once", "preempted_once", "terminated_once", "wrong_setting"]
    options = {"partition": "gpu", "gpus_per_node": 1, "timeout_min": 30}
    with Launch("slurm", options).handed_on(), pytest.raises(RunError) as caught:
        run_jobs(cells.call, {name: (name, tmp_path) for name in names}, "pretraining")
    assert "pretraining: 1 of 4 failed\n  wrong_setting: no such thing" in str(caught.value)
    tries = [len(begun(tmp_path, name)) for name in names]
    assert tries == [2, 2, 2, 1]
    script, retried = ((slurm / f"{job}.sh").read_text() for job in (1, 2))
    flags = dict(re.findall(r"#SBATCH --([\w-]+)=(.*)", script))
    assert flags["array"] == "0-3%4"
    assert (flags["partition"], flags["gpus-per-node"], flags["time"]) == ("gpu", "1", "30")
    assert flags["job-name"] == "'mosaic pretraining'"
    assert "--array" not in retried
    assert not (slurm / "3.sh").exists()


def test_what_the_queue_refuses_is_told_in_its_words(cells, tmp_path, slurm):
    with Launch("slurm", {"partition": "closed"}).handed_on(), pytest.raises(RunError) as caught:
        run_jobs(cells.square, [(tmp_path, 1), (tmp_path, 2)], "squares")
    assert "sbatch: error: invalid partition specified: closed" in str(caught.value)
    assert "change --cluster-options" in str(caught.value)


def test_an_interrupted_study_cancels_its_jobs_in_the_queue(cells, tmp_path, slurm):
    def end_once_both_have_begun(*_):
        if begun(tmp_path, "a") and begun(tmp_path, "b"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, end_once_both_have_begun)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        with Launch("slurm").handed_on(), pytest.raises(KeyboardInterrupt):
            run_jobs(cells.call, [("sleeps", tmp_path, name) for name in "ab"], "sleeping")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (slurm / "cancelled.json").read_text() == '["1"]'
    wait_until(lambda: all(ended(pid) for name in "ab" for pid in begun(tmp_path, name)))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
