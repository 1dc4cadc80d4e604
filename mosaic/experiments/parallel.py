"""Trials computed by worker processes of this machine, or by jobs of a cluster.

A trial that fails is tried again while the others go on. Finished trials are kept on disk and running ones
have checkpoints, so a run that was killed continues when it is started again.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import submitit
from joblib.externals.loky import ProcessPoolExecutor

from mosaic.experiments.study import Study, cache_path, data_folder, made_by_other_code, reusable
from mosaic.utils.errors import MosaicError, RunError, SettingsError, suggest
from mosaic.utils.files import write_text
from mosaic.utils.forked import available_cores
from mosaic.utils.plugins import load_plugins
from mosaic.utils.progress import log, progress
from mosaic.utils.words import count

RETRIES = 2  # of a trial that failed
_IDLE_S = 60  # after which a worker process without a trial ends
_TIMEOUT_MIN = 240  # of a job; submitit's own default is 5
_REQUEUES = 20  # of a job that reached its time limit
_MOST_JOBS = 1000  # in the queue at a time: SLURM takes no larger array, unless it is told otherwise


@dataclass(frozen=True)
class Launch:
    """Where trials run. Notebooks read it from the environment variable ``MOSAIC_LAUNCH``, as JSON."""

    cluster: str = "pool"  # worker processes; "slurm": jobs of submitit; "local": these as processes
    options: Mapping[str, Any] = field(default_factory=dict)  # parameters of submitit.AutoExecutor
    keep_going: bool = False  # without the trials that failed

    @classmethod
    def current(cls) -> "Launch":
        """Return what this process was started with."""
        return cls(**json.loads(os.environ.get("MOSAIC_LAUNCH", "{}")))

    def hand_on(self) -> None:
        """Hand these settings to the processes that this one starts.

        Raises:
            SettingsError: for an unknown cluster, or an unknown or impossible option.
            RunError: when SLURM is not installed.
        """
        clusters = ("pool", "slurm", "local")
        if self.cluster not in clusters:
            raise SettingsError(f"no cluster {self.cluster!r}{suggest(self.cluster, clusters)}")
        if self.cluster != "pool":
            with tempfile.TemporaryDirectory() as folder:
                self.executor("mosaic", Path(folder))
        elif self.options:
            raise SettingsError("options of a cluster without --cluster: add --cluster slurm or local")
        os.environ["MOSAIC_LAUNCH"] = json.dumps(asdict(self))

    def executor(self, name: str, folder: Path) -> submitit.AutoExecutor:
        """Return what submits jobs under a name; the machines that run them must see ``folder``."""
        if several := {"nodes", "tasks_per_node"} & set(self.options):
            raise SettingsError(f"a trial is one task on one machine: leave out {', '.join(sorted(several))}")
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=_REQUEUES)
            executor.update_parameters(**{"name": name, "timeout_min": _TIMEOUT_MIN, **self.options})
        except RuntimeError as error:  # no srun
            raise RunError(f"{error} Start the run where `sbatch` works, or with --cluster pool") from error
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise SettingsError(f"--cluster-option for {self.cluster}: {error}") from error
        return executor


@dataclass(frozen=True)
class Task:
    """What is computed for one trial."""

    row: Mapping[Any, Any]  # facts of the trial, a row of the table of finished ones
    arguments: tuple[Any, ...]  # of the function that computes it, before ``path``
    path: Path  # the file it writes last, which shows that it has finished


def encoder_task(stage: str, encoder: Mapping[Any, Any], key: Mapping[str, Any], *arguments: Any) -> Task:
    """Return what is computed of a trained encoder, cached by its content and ``key``.

    The function receives the encoder's row (trial, method, seed, budget, folder) before the arguments.
    """
    path = cache_path(stage, {"encoder": Path(encoder["folder"]).name, **key}, ".npz")
    return Task(encoder, (encoder, *arguments), path)


def run_trials(
    study: Study, stage: str, function: Callable[..., Any], tasks: Mapping[str, Task]
) -> pd.DataFrame:
    """Compute the ``tasks`` of a ``stage``, by name, that have not finished; note in the study which failed.

    The function is of an importable module; the study's settings give the number of processes.

    Returns:
        The rows of the finished trials, each with ``path``, and whether it was ``reused``.

    Raises:
        RunError: when trials failed, unless the run keeps going and some have finished.
    """
    todo = {name: task for name, task in tasks.items() if not reusable(task.path)}
    changed = sum(made_by_other_code(task.path) for task in todo.values())
    note = f"; code changed since: {changed} of them anew" if changed else ""
    log(f"{stage}: {count(len(todo), 'trial')} to run, {len(tasks) - len(todo)} reused{note}")
    for path in [task.path for task in todo.values() if task.path.exists()]:  # made before a --fresh run
        path.unlink()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # what fine-tuning keeps
    attempts = {name: _Attempt(function, (*task.arguments, task.path)) for name, task in todo.items()}
    outcomes = _run(attempts, stage, study.settings.jobs, Launch.current(), len(tasks))
    if failed := {name: result.line for name, result in outcomes.items() if isinstance(result, _Failure)}:
        study.failed[stage] = failed
    done = [(name, task) for name, task in tasks.items() if name not in failed]
    return pd.DataFrame([{**t.row, "path": str(t.path), "reused": name not in todo} for name, t in done])


def parallel_map(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], stage: str, jobs: int = 0
) -> list[Any]:
    """Return ``[function(*call) for call in calls]``, computed by processes of this machine.

    There are ``jobs`` of them, by default one a GPU, or one a core; the function is of an importable module.

    Raises:
        RunError: when calls failed; names them, with ``stage``, and their errors.
    """
    attempts = {f"{stage} {number}": _Attempt(function, call) for number, call in enumerate(calls, 1)}
    return list(_run(attempts, stage, jobs, Launch(), len(calls)).values())


class _Failure:
    """What a trial ended with instead of a result."""

    def __init__(self, error: BaseException) -> None:
        user_error = isinstance(error, MosaicError)
        self.retry = not user_error or isinstance(error, RunError)  # not where a setting or a file is wrong
        self.line = ("" if user_error else f"{type(error).__name__}: ") + " ".join(str(error).split())[:300]
        if isinstance(error, BrokenExecutor):
            self.line = "its process died, as when memory runs out"
        self.trace = "".join(traceback.format_exception(error))


@dataclass(frozen=True)
class _Attempt:
    """One try of one trial: calling it returns a result or a failure."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        try:
            load_plugins()
            return self.function(*self.arguments)
        except Exception as error:
            return _Failure(error)
        except SystemExit:  # Lightning's on SIGTERM, by which SLURM announces a preemption
            if "SUBMITIT_EXECUTOR" in os.environ:
                os.kill(os.getpid(), signal.SIGUSR2)  # lets submitit queue this job again
            raise

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what submitit queues again: the same, which resumes from the trial's own checkpoint."""
        return submitit.helpers.DelayedSubmission(self)


def _run(
    attempts: Mapping[str, "_Attempt"], stage: str, jobs: int, launch: Launch, total: int
) -> dict[str, Any]:
    """Return the result or failure of each attempt; raise where a run of ``total`` trials cannot go on."""
    if not attempts:
        return {}
    logs = data_folder() / "jobs" / f"{stage.replace(' ', '-')}-{os.getpid()}"
    # on a CPU, two processes of one thread each finish small models sooner than one process of two threads
    room = min(jobs or len(_gpus()) or available_cores(), len(attempts))
    pool = _Workers(room) if launch.cluster == "pool" else _Jobs(launch, stage, logs, room)
    # SIGTERM is a runner's end of its notebook; what a script starts in the background ignores SIGINT, and so
    # would the trials, which it ends
    handlers = {n: signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.closing(_outcomes(pool, attempts, stage)) as ended:
            outcomes = dict(progress(ended, stage, len(attempts)))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    failures = {name: outcomes[name] for name in attempts if isinstance(outcomes[name], _Failure)}
    for name, failure in failures.items():
        write_text(logs / (re.sub(r"[^\w.-]+", "-", name) + ".log"), failure.trace + "\n")
    if not failures:
        shutil.rmtree(logs, ignore_errors=True)
    elif not launch.keep_going or len(failures) == total:
        lines = "".join(f"\n  {name}: {failure.line}" for name, failure in failures.items())
        raise RunError(
            f"{stage}: {len(failures)} of {total} failed{lines}\n"
            f"More in {logs}. What finished is kept: run the same again to try these, "
            "or with --keep-going to report without them."
        ) from RuntimeError(next(iter(failures.values())).trace)
    return {name: outcomes[name] for name in attempts}


def _outcomes(
    pool: "_Workers | _Jobs", attempts: Mapping[str, _Attempt], stage: str
) -> Generator[tuple[str, Any]]:
    """Yield the name of each trial with its result or, after the last try, its failure."""
    waiting, running, tries = list(attempts), dict[str, Any](), Counter[str]()
    try:
        while waiting or running:
            room = pool.room - len(running)
            names, waiting = waiting[:room], waiting[room:]
            if names:
                running |= zip(names, pool.submit([attempts[name] for name in names]), strict=True)
            for name in [name for name, job in running.items() if job.done()]:
                job = running.pop(name)
                outcome = _Failure(job.exception()) if job.exception() else job.result()
                tries[name] += 1
                if isinstance(outcome, _Failure) and outcome.retry and tries[name] <= RETRIES:
                    log(f"{stage}: {name}: {outcome.line}; retry {tries[name]} of {RETRIES}")
                    waiting.append(name)
                else:
                    yield name, outcome
            time.sleep(pool.interval)
    finally:
        if running:
            pool.cancel(list(running.values()))
            log(f"{stage}: {len(running)} trials cancelled; what finished is kept")


#: Workers by number and environment. They stay for the next stage, since loading PyTorch takes seconds.
_workers: dict[tuple[int, str], ProcessPoolExecutor] = {}


class _Workers:
    """Processes of this machine, each with an executor: one that is killed costs its own trial alone.

    One at a time is this process itself.
    """

    def __init__(self, room: int) -> None:
        self.room, self.interval, self.gpus = room, 0.02 * (room > 1), _gpus() if room > 1 else []
        self.futures: dict[int, Future[Any]] = {}
        threads = str(max(1, available_cores() // room))
        self.limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)

    def submit(self, attempts: Sequence[_Attempt]) -> list[Future[Any]]:
        return list(map(self._start, attempts))

    def _start(self, attempt: _Attempt) -> Future[Any]:
        if self.room == 1:
            future = Future[Any]()
            future.set_result(attempt())
            return future
        number = next(i for i in range(self.room) if i not in self.futures or self.futures[i].done())
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {}
        environment = {**os.environ, **self.limits, **gpu}
        key = number, json.dumps(environment)
        if key not in _workers:
            options = {"initializer": _end_with, "initargs": (os.getpid(),), "env": environment}
            _workers[key] = ProcessPoolExecutor(1, timeout=_IDLE_S, **options)
        try:
            self.futures[number] = _workers[key].submit(attempt)
        except BrokenExecutor:  # its process was killed during or after the last trial
            del _workers[key]
            return self._start(attempt)
        return self.futures[number]

    def cancel(self, jobs: Sequence[Future[Any]]) -> None:
        while _workers:
            _workers.popitem()[1].shutdown(kill_workers=True)


def _gpus() -> list[str]:
    """Return the GPUs of this machine, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch  # seconds, which a process that only scores does without

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(torch.cuda.device_count())) if visible is None else visible.split(",")
    return [name for name in names if name]


def _end_with(parent: int) -> None:
    """End this worker once its parent is gone: a killed run must not go on training unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Jobs:
    """Jobs of submitit: arrays of SLURM, or up to ``room`` processes of this machine."""

    def __init__(self, launch: Launch, stage: str, folder: Path, room: int) -> None:
        self.slurm = launch.cluster == "slurm"
        self.room, self.interval = (_MOST_JOBS, 1.0) if self.slurm else (room, 0.1)
        self.executor = launch.executor(f"mosaic {stage}", folder)

    def submit(self, attempts: Sequence[_Attempt]) -> list[submitit.Job[Any]]:
        try:
            return self.executor.submit_array(attempts)
        except RuntimeError as error:  # submitit's, with what sbatch said
            remedy = "change --cluster-option, such as the partition or time, and run again"
            raise RunError(f"the queue refused the jobs: {str(error).strip()}: {remedy}") from error

    def cancel(self, jobs: Sequence[submitit.Job[Any]]) -> None:
        if self.slurm:
            arrays = {job.job_id.split("_")[0] for job in jobs}
            # one call, beyond the reach of what ends this notebook: it may leave no time
            subprocess.run(["scancel", *sorted(arrays)], check=False, start_new_session=True)
        else:
            for job in jobs:
                job.cancel()
