"""Trials computed by worker processes of this machine, or by jobs of a cluster.

Finished trials are kept on disk and running ones have checkpoints: what was killed or failed goes on when the
run is started again.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pydantic.dataclasses
import submitit
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mosaic.experiments.study import (
    ANALYSIS,
    EDITED,
    EVALUATION,
    IMPORTED,
    TRAINING,
    Study,
    cache_path,
    data_folder,
    imported_code,
    remove_older,
    reusable,
)
from mosaic.utils.errors import MosaicError, RunError, SettingsError
from mosaic.utils.files import write_text
from mosaic.utils.forked import available_cores, end_with_parent, starting_processes
from mosaic.utils.interrupts import handling
from mosaic.utils.plugins import load_plugins
from mosaic.utils.progress import WORKER, log, progress
from mosaic.utils.words import count

_IDLE_S = 60  # after which a worker process without a trial ends
_TIMEOUT_MIN = 240  # of a job; submitit's own default is 5
_REQUEUES = 20  # of a job that reached its time limit
_POLL_S = 1.0  # between two looks at the queue

# loky replaces a worker that grew by 300 MB, as the first training does, or was idle, and then runs its call
warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid"})
class Launch:
    """Where trials run. Notebooks read it from the environment variable ``MOSAIC_LAUNCH``, as JSON."""

    cluster: Literal["pool", "slurm"] = "pool"  # worker processes; "slurm": jobs of submitit
    options: Mapping[str, Any] = field(default_factory=dict)  # parameters of submitit.AutoExecutor
    keep_going: bool = False  # without the trials that failed

    @classmethod
    def current(cls) -> "Launch":
        """Return what this process was started with; ``SettingsError`` when it says something else."""
        given = os.environ.get("MOSAIC_LAUNCH", "{}")
        try:
            return pydantic.TypeAdapter(cls).validate_json(given)
        except pydantic.ValidationError as error:
            why = " ".join([*map(str, error.errors()[0]["loc"]), error.errors()[0]["msg"]])
            example = '{"cluster": "slurm", "options": {"slurm_partition": "gpu"}}'
            raise SettingsError(f"MOSAIC_LAUNCH is {given} ({why}): write such as {example}") from error

    def hand_on(self) -> None:
        """Hand these settings to the processes that this one starts; ``SettingsError`` for what cannot be."""
        if self.cluster == "slurm":
            with tempfile.TemporaryDirectory() as folder:
                self.executor("mosaic", Path(folder))
        elif self.options:
            raise SettingsError("options of a cluster without --cluster: add --cluster slurm")
        os.environ["MOSAIC_LAUNCH"] = json.dumps(asdict(self))

    def executor(self, name: str, folder: Path) -> submitit.AutoExecutor:
        """Return what submits jobs under a name; the machines that run them must see ``folder``."""
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=_REQUEUES)
            executor.update_parameters(**{"name": name, "timeout_min": _TIMEOUT_MIN, **self.options})
        except (RuntimeError, AssertionError, NameError, TypeError, ValueError) as error:
            raise SettingsError(f"--cluster {self.cluster} or one of its options: {error}") from error
        return executor


@dataclass(frozen=True)
class Task:
    """What is computed for one trial."""

    row: Mapping[Any, Any]  # facts of the trial, a row of the table of finished ones
    arguments: tuple[Any, ...]  # of the function that computes it, before ``path``
    path: Path  # the file it writes last, which shows that it has finished


def encoder_task(stage: str, encoder: Mapping[Any, Any], key: Mapping[str, Any], *arguments: Any) -> Task:
    """Return what is computed of an encoder, cached by its content and ``key``; its row comes first."""
    path = cache_path(stage, {"encoder": Path(encoder["folder"]).name, **key}, ".npz")
    return Task(encoder, (encoder, *arguments), path)


def run_trials(
    study: Study, stage: str, function: Callable[..., Any], tasks: Mapping[str, Task], on_gpu: bool = True
) -> pd.DataFrame:
    """Compute the ``tasks`` of a ``stage``, by name, that have not finished; note in the study which failed.

    Return the rows of the finished trials, each with ``path``, and whether it was ``reused``. The function is
    of an importable module; by default as many processes run as fit on the GPUs, or one a core where there
    are none, or where the stage computes little on them. ``RunError`` when trials failed, unless the run
    keeps going and some have finished.
    """
    todo = {name: task for name, task in tasks.items() if not reusable(task.path)}
    log(f"{stage}: {count(len(todo), 'trial')} to run, {len(tasks) - len(todo)} reused")
    for task in todo.values():
        remove_older(task.path)
    calls = {name: (function, *task.arguments, task.path) for name, task in todo.items()}
    jobs = study.settings.jobs
    if on_gpu and not jobs and (devices := gpus()):
        from mosaic.training.memory import trials_per_gpu  # PyTorch, which scoring does without

        training = study if study.notebook == "02_pretrain" else study.earlier("02_pretrain")
        jobs = len(devices) * trials_per_gpu(training.settings)
    outcomes = _run(calls, stage, jobs, Launch.current(), len(tasks), _Call(TRAINING, EVALUATION))
    study.failed.pop(stage, None)  # of an earlier attempt, in a notebook
    if failed := {name: result.line for name, result in outcomes.items() if isinstance(result, _Failure)}:
        study.failed[stage] = failed
    done = [(name, task) for name, task in tasks.items() if name not in failed]
    return pd.DataFrame([{**t.row, "path": str(t.path), "reused": name not in todo} for name, t in done])


def parallel_map(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], stage: str, jobs: int = 0
) -> list[Any]:
    """Return ``[function(*call) for call in calls]``, computed by ``jobs`` processes, by default one a core.

    The function is of an importable module. ``RunError`` names the calls that failed, and their errors.
    """
    numbered = {f"{stage} {number}": (function, *call) for number, call in enumerate(calls, 1)}
    return list(_run(numbered, stage, jobs, Launch(), len(calls), _Call(ANALYSIS)).values())


class _Failure:
    """What a trial ended with instead of a result."""

    def __init__(self, error: BaseException) -> None:
        kind = "" if isinstance(error, MosaicError) else f"{type(error).__name__}: "
        self.line = kind + " ".join(str(error).split())[:300]
        if isinstance(error, TerminatedWorkerError):
            self.line = "its process died, as when memory runs out"
        elif isinstance(error, futures.BrokenExecutor):  # of arguments, such as packed data that went away
            self.line = str(error.__cause__ or error).strip('"\n').rpartition("\n")[2]
            self.line = self.line.removeprefix("mosaic.utils.errors.")
        self.trace = "".join(traceback.format_exception(error))


class _Call:
    """Calls a function and returns its result or failure; elsewhere only by the same code of some rooms."""

    def __init__(self, *code: tuple[str, ...]) -> None:
        self.code = {rooms: imported_code(rooms) for rooms in code}

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            load_plugins()
            if any(IMPORTED[rooms] != code for rooms, code in self.code.items()):
                raise RunError(EDITED)  # while this waited in a queue
            return function(*arguments)
        except Exception as error:
            return _Failure(error)
        except SystemExit:  # Lightning's on SIGTERM, by which SLURM announces a preemption
            if "SUBMITIT_EXECUTOR" in os.environ:
                os.kill(os.getpid(), signal.SIGUSR2)  # submitit queues this job again
            raise

    def checkpoint(self, *call: Any) -> submitit.helpers.DelayedSubmission:
        """Return what submitit queues again: the same, which resumes from the trial's own checkpoint."""
        return submitit.helpers.DelayedSubmission(self, *call)


Calls = Mapping[str, tuple[Any, ...]]  # name -> what is called and its arguments
Outcomes = Generator[tuple[str, Any]]  # name and result or failure, as they end


def _run(calls: Calls, stage: str, jobs: int, launch: Launch, total: int, caller: _Call) -> dict[str, Any]:
    """Return the result or failure of each call; raise where a run of ``total`` trials cannot go on."""
    if not calls:
        return {}
    calls = {name: (caller, *call) for name, call in calls.items()}
    logs = data_folder() / "jobs" / f"{stage.replace(' ', '-')}-{os.getpid()}"
    slurm, workers = launch.cluster == "slurm", min(jobs or available_cores(), len(calls))
    ending = _jobs(calls, launch.executor(f"mosaic {stage}", logs)) if slurm else _pool(calls, stage, workers)
    # SIGTERM is a runner's end of its notebook; what a script starts in the background ignores SIGINT, and so
    # would the trials, which it ends
    interrupts = handling((signal.SIGINT, signal.SIGTERM), signal.default_int_handler)
    with interrupts, contextlib.closing(ending):
        outcomes = dict(progress(ending, stage, len(calls)))
    outcomes = {name: outcomes[name] for name in calls}
    failures = {name: each for name, each in outcomes.items() if isinstance(each, _Failure)}
    if not failures:
        shutil.rmtree(logs, ignore_errors=True)
        return outcomes
    traces = logs / "failures.log"
    write_text(traces, "".join(f"{name}\n{failure.trace}\n" for name, failure in failures.items()))
    if not launch.keep_going or len(failures) == total:
        lines = "".join(f"\n  {name}: {failure.line}" for name, failure in failures.items())
        kept = "What finished is kept: run the same again, or with --keep-going to report without these"
        message = f"{stage}: {len(failures)} of {total} failed{lines}\nMore in {traces}. {kept}."
        raise RunError(message) from RuntimeError(next(iter(failures.values())).trace)
    return outcomes


#: Workers by number and environment. They stay for the next stage, since loading PyTorch takes seconds.
_workers: dict[tuple[int, str], ProcessPoolExecutor] = {}


def _pool(calls: Calls, stage: str, workers: int) -> Outcomes:
    """Compute calls in processes of this machine, or, one at a time, in this process.

    Each has an executor: a process that is killed costs its own call alone, and that runs once again.
    """
    if workers == 1:
        yield from ((name, call(*arguments)) for name, (call, *arguments) in calls.items())
        return
    # on a CPU, two processes of one thread each finish small models sooner than one process of two threads
    threads, devices = str(max(1, available_cores() // workers)), gpus()
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    limits[WORKER] = "1"
    waiting, free, lost = list(calls), list(range(workers)), set[str]()
    running: dict[Future[Any], tuple[str, int]] = {}
    try:
        while waiting or running:
            while waiting and free:
                name, worker = waiting.pop(0), free.pop(0)
                gpu = {}
                if devices:
                    gpu["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
                    gpu["MOSAIC_GPU_PROCESSES"] = str(-(-workers // len(devices)))  # that share it
                running[_submit(calls[name], worker, {**os.environ, **limits, **gpu})] = name, worker
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                name, worker = running.pop(future)
                free.append(worker)
                error = future.exception()
                if isinstance(error, TerminatedWorkerError) and name not in lost:
                    log(f"{stage}: {name}: its process died; it runs once again")
                    lost.add(name)
                    waiting.append(name)
                else:
                    yield name, _Failure(error) if error else future.result()
    finally:
        if running:
            while _workers:
                _workers.popitem()[1].shutdown(kill_workers=True)
            log(f"{stage}: {count(len(running), 'trial')} cancelled; what finished is kept")


def _submit(call: tuple[Any, ...], worker: int, environment: Mapping[str, str]) -> Future[Any]:
    key = worker, json.dumps(environment)
    try:
        with starting_processes():
            if key not in _workers:
                options = {"initializer": end_with_parent, "initargs": (os.getpid(),), "env": environment}
                _workers[key] = ProcessPoolExecutor(1, timeout=_IDLE_S, **options)
            return _workers[key].submit(*call)
    except futures.BrokenExecutor:  # its process was killed during or after the last call
        del _workers[key]
        return _submit(call, worker, environment)


def gpus() -> list[str]:
    """Return the GPUs of this machine, as ``CUDA_VISIBLE_DEVICES`` names them; -1 there names none."""
    import torch  # seconds, which a process that only scores does without

    visible, number = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    return ([str(i) for i in range(number)] if visible is None else visible.split(","))[:number]


def _jobs(calls: Calls, executor: submitit.AutoExecutor) -> Outcomes:
    """Compute calls as arrays of jobs; submitit queues those again that were preempted or timed out."""
    running: dict[submitit.Job[Any], str] = {}
    try:
        with executor.batch():
            jobs = [executor.submit(*call) for call in calls.values()]
        running |= zip(jobs, calls, strict=True)
        for job in submitit.helpers.as_completed(list(running), poll_frequency=_POLL_S):
            error = job.exception()
            yield running.pop(job), _Failure(error) if error else job.result()
    except RuntimeError as error:  # submitit's, with what sbatch said
        remedy = "change --cluster-option, such as the partition or time, and run again"
        raise RunError(f"the queue refused the jobs: {str(error).strip()}: {remedy}") from error
    finally:
        if running:
            arrays = {job.job_id.split("_")[0] for job in running}
            # one call, beyond the reach of what ends this notebook: it may leave no time
            subprocess.run(["scancel", *sorted(arrays)], check=False, start_new_session=True)
