"""Run independent trials of the study, several at a time; one that fails does not stop the others."""

import os
import re
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mosaic.experiments.launch import Launch
from mosaic.experiments.study import Study, data_folder
from mosaic.experiments.workers import Attempt, Failure, Here, Job, Pool, Workers
from mosaic.utils.errors import RunError
from mosaic.utils.files import write_text
from mosaic.utils.forked import available_cores
from mosaic.utils.progress import Board, log

R = TypeVar("R")
#: What trials are told apart by -> their arguments; a plain sequence is numbered.
Calls = Mapping[str, tuple[Any, ...]] | Sequence[tuple[Any, ...]]

RETRIES = 2  # of a trial that failed
_SHOWN = 5  # trials that failed, on the board


def workers(jobs: int, trials: int) -> int:
    """Return how many processes to use: ``jobs``, or by default one a core on a CPU and one a GPU."""
    if jobs == 0:
        import torch  # seconds, which a process that only scores does without

        jobs = torch.cuda.device_count() or available_cores()
    return max(1, min(jobs, trials))


def run_jobs(
    function: Callable[..., R], calls: Calls, what: str, jobs: int = 0, submit: bool = True
) -> list[R]:
    """Return ``[function(*call) for call in calls]``, computed by several processes or a cluster's jobs.

    On a CPU, two processes of one thread each finish small models sooner than one process of two threads.
    A trial that fails is tried again while the others go on; what they finished stays in the cache.

    Args:
        function: a function of an importable module.
        calls: its arguments, one tuple a trial.
        what: name of the stage, for the progress line.
        jobs: number of processes on this machine; 0 for the default of :func:`workers`.
        submit: whether to use the cluster of the run, if it has one; not for work of seconds.

    Raises:
        RunError: when all that can be done is done and trials have failed; it names them and their errors.
    """
    results, failures, logs = _run(function, calls, what, jobs, Launch.current() if submit else Launch())
    if failures:
        raise _failed(what, failures, len(calls), logs)
    return results


def run_trials(
    study: Study,
    function: Callable[..., Any],
    calls: Mapping[str, tuple[Any, ...]],
    what: str,
    verb: str,
    proof: str = "",
) -> list[str]:
    """Run the trials that are not there yet, and note in the run which failed.

    Args:
        study: at a notebook whose settings have ``jobs``.
        function: a function of an importable module; its last argument is the file or folder it writes.
        calls: its arguments, by what trials are told apart by.
        what: name of the stage.
        verb: what is done to an encoder.
        proof: the file in that folder which shows that it is whole.

    Returns:
        The names of the trials that are there, in order.

    Raises:
        RunError: when trials have failed, unless the run keeps going and some are there.
    """
    launch = Launch.current()
    todo = {name: call for name, call in calls.items() if not (call[-1] / proof).exists()}
    log(f"{what}: {len(todo)} encoders to {verb}, {len(calls) - len(todo)} reused")
    _, failures, logs = _run(function, todo, what, study.settings.jobs, launch)
    if failures and (not launch.keep_going or len(failures) == len(calls)):
        raise _failed(what, failures, len(calls), logs)
    if failures:
        study.failed[what] = {name: failure.line for name, failure in failures.items()}
    return [name for name in calls if name not in failures]


def _run(
    function: Callable[..., R], calls: Calls, what: str, jobs: int, launch: Launch
) -> tuple[list[R], dict[str, Failure], Path]:
    """Return results in the order of the calls, the trials that failed, and the folder of their logs."""
    named = calls if isinstance(calls, Mapping) else {f"{what} {i}": call for i, call in enumerate(calls, 1)}
    logs = data_folder() / "jobs" / f"{what.replace(' ', '-')}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    if not named:
        return [], {}, logs
    stage = _Stage(what, named)
    crew = _crew(launch, what, logs, workers(jobs, len(named)), function.__module__)
    try:
        while stage.waiting or stage.running:
            names = stage.next(crew.room)
            if names:
                jobs_of = crew.submit([Attempt(function, named[name]) for name in names])
                stage.running.update(zip(names, jobs_of, strict=True))
            stage.show()
            stage.take()
            if stage.running:
                crew.wait(list(stage.running.values()))
        stage.show()
    finally:
        stage.board.clear()
        crew.close(list(stage.running.values()))
    for name, failure in stage.failures.items():
        write_text(logs / (re.sub(r"[^\w.-]+", "-", name) + ".log"), failure.trace + "\n")
    if not stage.failures:
        shutil.rmtree(logs, ignore_errors=True)
    return [stage.results[name] for name in named if name in stage.results], stage.failures, logs


def _crew(launch: Launch, what: str, folder: Path, room: int, module: str) -> Workers:
    if launch.cluster != "pool":
        from mosaic.experiments.cluster import Submitit

        return Submitit(launch, what, folder, room)
    return Pool(room, module) if room > 1 else Here()


def _failed(what: str, failures: Mapping[str, Failure], total: int, logs: Path) -> RunError:
    trials = "".join(f"\n  {name}: {failure.line}" for name, failure in failures.items())
    error = RunError(
        f"{what}: {len(failures)} of {total} failed{trials}\n"
        f"More in {logs}. What finished is kept: run the same again to try these, "
        "or with --keep-going to report without them."
    )
    error.__cause__ = RuntimeError(next(iter(failures.values())).trace)
    return error


class _Stage:
    """Where each trial of a stage stands."""

    def __init__(self, what: str, trials: Mapping[str, tuple[Any, ...]]) -> None:
        self.what, self.total = what, len(trials)
        self.waiting = deque(trials)
        self.running: dict[str, Job] = {}
        self.results: dict[str, Any] = {}
        self.failures: dict[str, Failure] = {}
        self.tries: Counter[str] = Counter()
        self.trouble: dict[str, str] = {}  # of trials that failed or are tried again
        self.board = Board()
        self.started = time.monotonic()

    def next(self, room: int) -> list[str]:
        """Take the next trials there is room for off the queue."""
        return [self.waiting.popleft() for _ in range(min(len(self.waiting), room - len(self.running)))]

    def take(self) -> None:
        """Take what has ended; put a trial that failed at the end of the queue while another try may help."""
        for name in [name for name, job in self.running.items() if job.done()]:
            outcome = self.running.pop(name).outcome()
            if not isinstance(outcome, Failure):
                self.results[name] = outcome
                self.trouble.pop(name, None)
                continue
            self.tries[name] += 1
            if outcome.again and self.tries[name] <= RETRIES:
                self.waiting.append(name)
                self.trouble[name] = f"{outcome.line}; retry {self.tries[name]} of {RETRIES}"
            else:
                self.failures[name] = outcome
                self.trouble[name] = outcome.line

    def show(self) -> None:
        """Tell how many trials wait, run, are done, failed and are tried again, and what went wrong."""
        begun = [name for name, job in self.running.items() if job.running()]
        done, failed = len(self.results), len(self.failures)
        again = len(self.trouble) - failed
        counts = {
            "waiting": self.total - done - failed - len(begun),
            "running": len(begun),
            "done": done,
            "retried": again,
            "failed": failed,
        }
        told = {name: count for name, count in counts.items() if count or name == "done"}
        trouble = [f"{name}: {line}" for name, line in self.trouble.items()]
        summary = f"{self.what}: " + ", ".join(f"{count} {name}" for name, count in told.items())
        summary += f" ({'; '.join(trouble[-_SHOWN:])})" if trouble else ""
        rate = (time.monotonic() - self.started) / max(done, 1)
        left = f", {rate * (self.total - done - failed):.0f} s left" if done else ""
        lines = [
            f"{self.what:24}" + "".join(f"{name:>10}" for name in counts),
            f"{left.removeprefix(', '):24}" + "".join(f"{count:>10}" for count in counts.values()),
            f"  running  {', '.join(begun)}",
            *(
                f"  {'failed ' if name in self.failures else 'retried'}  {name}: {line}"
                for name, line in list(self.trouble.items())[-_SHOWN:]
            ),
        ]
        self.board.show(lines, summary, left)
