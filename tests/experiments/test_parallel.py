"""Trials in this process, in workers and in jobs of submitit: results, failures, and kills."""

import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock

import pytest
import submitit

from mosaic.experiments import parallel
from mosaic.experiments.parallel import Launch, Task, parallel_map, run_trials
from mosaic.experiments.predictions import save_arrays
from mosaic.experiments.study import Study
from mosaic.settings import StudySettings
from mosaic.utils import forked
from mosaic.utils.errors import RunError, SettingsError
from mosaic.utils.files import write_text

CALLS = Path(__file__).parent / "calls"


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The module of calls, found by the processes that run them."""
    paths = [str(CALLS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.syspath_prepend(CALLS)
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)  # for slow network disks
    yield importlib.import_module("trial_calls")
    while parallel._workers:
        parallel._workers.popitem()[1].shutdown(kill_workers=True)


def launch(monkeypatch, *settings):
    monkeypatch.setenv("MOSAIC_LAUNCH", json.dumps(asdict(Launch(*settings))))


def run(function, tasks, jobs=2, study=None, **options):
    """Run calls as trials of a stage; returns the names of those that finished, and why others failed."""
    study = study or Study("02_pretrain", StudySettings(jobs=jobs), Path())
    table = run_trials(study, "pretraining", function, tasks, **options)
    return table["name"].tolist(), study.failed_trials().values.tolist()


def kinds(folder, *names):
    """Trials of ``trial_calls.trial``."""
    return {name: Task({"name": name}, (name, folder), folder / f"{name}.done") for name in names}


def begun(folder, name):
    path = folder / f"{name}.begun"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def ended(pid):
    return not Path(f"/proc/{pid}").exists()


def test_results_come_in_order_from_workers_with_a_gpu_and_threads_each(calls, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(parallel, "available_cores", lambda: 10)
    shares = parallel_map(calls.share, [(tmp_path, 3), (tmp_path, 1)], "sharing", 2)
    assert shares == [(3, "4", 5), (1, "7", 5)]
    workers = {pid for i in (3, 1) for pid in begun(tmp_path, f"share-{i}")}
    assert parallel_map(calls.square, [(tmp_path, 2), (tmp_path, 5)], "squares", 2) == [4, 25]
    assert {pid for i in (2, 5) for pid in begun(tmp_path, f"square-{i}")} == workers  # they stay
    assert not list((tmp_path / "root").rglob("*.log"))


@pytest.mark.parametrize(
    ("devices", "jobs", "on_gpu", "workers"),
    [("4,7", 0, True, 4), ("4,7", 3, True, 3), ("4,7", 0, False, 16), ("-1", 0, True, 16)],
)
def test_as_many_processes_run_as_fit_on_the_gpus_or_one_a_core(
    calls, tmp_path, monkeypatch, devices, jobs, on_gpu, workers
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2 * (devices == "4,7"))  # as CUDA counts them
    monkeypatch.setattr("mosaic.training.memory.trials_per_gpu", lambda settings: settings.trials_per_gpu)
    Study.open("02_pretrain", {"out": "x", "trials_per_gpu": 2}).write()
    for module in (parallel, forked):
        monkeypatch.setattr(module, "available_cores", lambda: 16)
    pool = Mock(side_effect=lambda calls, stage, workers: ((name, None) for name in calls))
    monkeypatch.setattr(parallel, "_pool", pool)
    study = Study.open("05_transfer", {"out": "x", "jobs": jobs})  # declares nothing of encoders
    run_trials(study, "pretraining", calls.trial, kinds(tmp_path, *map(str, range(20))), on_gpu=on_gpu)
    parallel_map(calls.square, [(tmp_path, i) for i in range(20)], "scoring")
    assert [call.args[2] for call in pool.mock_calls] == [workers, 16]
    assert forked.default_workers() == (16 if sys.platform == "linux" else 1)


def test_one_at_a_time_is_this_process(calls, tmp_path):
    assert parallel_map(calls.square, [(tmp_path, i) for i in (3, 1, 2)], "squares", jobs=1) == [9, 1, 4]
    assert parallel_map(calls.square, [], "nothing") == []
    assert {pid for i in (1, 2, 3) for pid in begun(tmp_path, f"square-{i}")} == {os.getpid()}


def test_workers_are_replaced_when_killed_or_when_the_environment_changed(
    calls, tmp_path, monkeypatch, wait_until
):
    two = [(tmp_path, 1), (tmp_path, 2)]
    assert parallel_map(calls.square, two, "squares", 2) == [1, 4]
    for pid in begun(tmp_path, "square-1"):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: ended(pid))
    assert parallel_map(calls.square, two, "squares", 2) == [1, 4]
    monkeypatch.setenv("OF_NOW", "later")
    assert parallel_map(os.getenv, [("OF_NOW",), ("OF_NOW",)], "asking", 2) == ["later", "later"]


def test_a_trial_that_fails_is_named_a_killed_one_runs_again_and_the_others_finish(calls, tmp_path, capfd):
    names = ["always_fails", "wrong_setting", "fine", "killed_once", "always_killed"]
    with pytest.raises(RunError) as caught:
        run(calls.trial, kinds(tmp_path, *names))
    message = str(caught.value)
    assert message.startswith("pretraining: 3 of 5 failed\n")
    assert "\n  always_fails: ZeroDivisionError: never works\n" in message
    assert "\n  wrong_setting: no such thing: choose another\n" in message
    assert "\n  always_killed: its process died, as when memory runs out\n" in message
    assert "run the same again" in message and "--keep-going" in message
    assert [len(begun(tmp_path, name)) for name in names] == [1, 1, 1, 2, 2]
    (traces,) = (tmp_path / "root" / "data" / "jobs").glob("*/failures.log")
    assert str(traces) in message and "in trial" in traces.read_text()
    assert "in trial" in str(caught.value.__cause__)  # of the first, shown with the error's own
    progress = capfd.readouterr().err
    assert "pretraining: 5 trials to run, 0 reused\n" in progress
    assert "killed_once: its process died; it runs once again\n" in progress


class WentAway:
    """Cannot be opened in another process."""

    def __reduce__(self):
        return open, ("/nowhere/manifest.json",)


def test_an_argument_that_cannot_be_passed_on_is_a_failure(calls, tmp_path, capfd):
    arguments = [(tmp_path, 1), (WentAway(), 2), (threading.Lock(), 3)]
    with pytest.raises(RunError) as caught:
        parallel_map(calls.square, arguments, "squares", 2)
    went_away, not_pickled = str(caught.value).splitlines()[1:3]
    assert went_away.startswith("  squares 2: FileNotFoundError: ")
    assert went_away.endswith("'/nowhere/manifest.json'")
    assert not_pickled.startswith("  squares 3: ") and "pickl" in not_pickled.lower()
    assert "runs once again" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(28, "No space left on device"), "/dev/shm is full: free it"),
        (OSError(24, "Too many open files"), "allow more, as with `ulimit -n"),
        (UnboundLocalError("parent_r"), "allow more, as with `ulimit -n"),  # loky's, for the same
        (OSError("AF_UNIX path too long"), "set TMPDIR to a shorter one"),
    ],
)
def test_why_no_worker_can_start_is_said(calls, tmp_path, monkeypatch, error, cause):
    for module, start in {
        parallel: lambda: parallel_map(calls.square, [(tmp_path, 1), (tmp_path, 2)], "squares", 2),
        forked: lambda: list(forked.forked_map(abs, 2, 2)),
    }.items():
        monkeypatch.setattr(module, "ProcessPoolExecutor", Mock(side_effect=error))
        with pytest.raises(RunError, match=f"no worker process can start: .*{cause}"):
            start()


def test_a_run_that_keeps_going_lists_what_is_missing_and_tries_only_that_again(calls, tmp_path, monkeypatch):
    both, bad = kinds(tmp_path, "fine", "always_fails"), kinds(tmp_path, "always_fails")
    missing = [["pretraining", "always_fails", "ZeroDivisionError: never works"]]
    launch(monkeypatch, "pool", {}, True)
    for _ in range(2):
        assert run(calls.trial, both, jobs=1) == (["fine"], missing)
    with pytest.raises(RunError, match="1 of 1 failed"):  # there is nothing to go on with
        run(calls.trial, bad, jobs=1)
    launch(monkeypatch)
    with pytest.raises(RunError, match="1 of 2 failed"):
        run(calls.trial, both, jobs=1)
    assert (len(begun(tmp_path, "fine")), len(begun(tmp_path, "always_fails"))) == (1, 4)
    launch(monkeypatch, "pool", {}, True)
    study = Study("02_pretrain", StudySettings(jobs=1), Path())  # of a notebook whose cell is run again
    assert run(calls.trial, both, study=study) == (["fine"], missing)
    (tmp_path / "always_fails.done").write_text("by another run")
    assert run(calls.trial, both, study=study) == (["fine", "always_fails"], [])


def test_a_killed_study_leaves_no_worker_and_the_next_resumes(calls, tmp_path, wait_until):
    """Of three trials two have finished and one is under way."""
    steps = {"short": 1, "long": 60, "last": 1}
    tasks = {name: Task({"name": name}, (n,), tmp_path / f"{name}.done") for name, n in steps.items()}
    step = tmp_path / "long.last"
    study = multiprocessing.get_context("spawn").Process(target=run, args=(calls.counts, tasks))
    study.start()
    wait_until(lambda: (tmp_path / "last.done").exists() and step.exists() and int(step.read_text()) > 2)
    study.kill()
    study.join()
    wait_until(lambda: all(ended(pid) for pid in begun(tmp_path, "long")))
    assert int(step.read_text()) < 60
    step.write_text("58")  # as if it had been further: the rest would only take time
    assert run(calls.counts, tasks, jobs=1)[0] == ["short", "long", "last"]
    assert (tmp_path / "long.done").read_text() == "58"
    assert [len(begun(tmp_path, name)) for name in steps] == [1, 2, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_ends_what_is_running(calls, tmp_path, number, wait_until):
    """Ctrl-C, and the signal by which a runner ends its notebook."""
    names = ["sleeps_a", "sleeps_b"]

    def end_once_both_have_begun():
        wait_until(lambda: all(begun(tmp_path, name) for name in names))
        os.kill(os.getpid(), number)

    threading.Thread(target=end_once_both_have_begun).start()
    with pytest.raises(KeyboardInterrupt):
        run(calls.trial, kinds(tmp_path, *names))
    wait_until(lambda: all(ended(pid) for name in names for pid in begun(tmp_path, name)))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_jobs_fail_alone_and_preempted_ones_resume(calls, tmp_path, monkeypatch):
    """With processes of submitit in place of SLURM. Preempted, or out of time: it queues the job again."""
    launch(monkeypatch, "slurm")
    monkeypatch.setattr(parallel, "_POLL_S", 0.1)
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    monkeypatch.setattr(Launch, "executor", lambda self, name, folder: executor)
    names = ["preempted_once", "terminated_once", "wrong_setting", "always_killed"]
    with pytest.raises(RunError) as caught:
        run(calls.trial, kinds(tmp_path, *names))
    assert "pretraining: 2 of 4 failed\n  wrong_setting: no such thing" in str(caught.value)
    assert "\n  always_killed: " in str(caught.value)
    assert [len(begun(tmp_path, name)) for name in names] == [2, 2, 1, 1]


def test_jobs_that_an_interrupted_study_leaves_are_cancelled(calls, tmp_path, monkeypatch):
    cancelled = tmp_path / "scancel"
    cancelled.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/cancelled\n')
    cancelled.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="debug")
    outcomes = parallel._jobs({"a": (abs, -1), "b": (abs, -2)}, executor)
    assert next(outcomes) == ("a", 1)
    outcomes.close()
    assert (tmp_path / "cancelled").read_text() == "DEBUG\n"


def test_a_launch_is_handed_on_to_notebooks(monkeypatch):
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    assert Launch.current() == Launch("pool", {}, False)
    Launch(keep_going=True).hand_on()
    assert Launch.current() == Launch(keep_going=True)
    for given in ('{"cluster": "SLURM"}', '{"clutser": "slurm"}', "slurm", '{"keep_going": 2}'):
        monkeypatch.setenv("MOSAIC_LAUNCH", given)  # by hand, for a notebook
        with pytest.raises(SettingsError, match=r"MOSAIC_LAUNCH is .*: write such as {\"cluster"):
            Launch.current()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"slurm_partion": "gpu"}, "slurm_partion"), ({"timeout_min": "long"}, "timeout")],
)
def test_a_mistake_is_named_before_anything_starts(monkeypatch, options, message):
    with pytest.raises(SettingsError, match="srun"):  # which is not installed
        Launch("slurm").hand_on()
    monkeypatch.setattr("submitit.SlurmExecutor.affinity", classmethod(lambda cls: 2))  # as if it were
    with pytest.raises(SettingsError, match=message):
        Launch("slurm", options).hand_on()
    executor = Launch("slurm", {"slurm_partition": "gpu", "timeout_min": 30}).executor("mosaic x", Path())
    script = executor._executor._make_submission_file_text("python", "id")
    assert "--partition=gpu\n" in script and "--time=30\n" in script


def test_a_fresh_run_reuses_nothing(tmp_path, monkeypatch, capsys):
    paths = [tmp_path / name for name in ("done.npz", "killed.npz", "encoder/card.json")]

    def make(path):
        save_arrays(path, {}) if path.suffix == ".npz" else write_text(path, "made")

    def lines():
        run(make, {path.name: Task({"name": "x"}, (), path) for path in paths}, jobs=1)
        return capsys.readouterr().err

    left = [tmp_path / name for name in ("done/finetune-5/scores.npz", "killed/finetune-5/scores.npz")]
    left.append(tmp_path / "encoder/last.ckpt")  # of trials that were killed
    for path in [paths[0], *left]:
        make(path)
    assert "2 trials to run, 1 reused\n" in lines() and all(path.exists() for path in left)
    monkeypatch.setenv("MOSAIC_FRESH", str(time.time() + 9))
    assert "3 trials to run, 0 reused\n" in lines() and not any(path.exists() for path in left)
