"""Who runs the trials of a study as jobs of submitit: processes of this machine, or arrays of SLURM."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mosaic.experiments.launch import Launch
from mosaic.experiments.workers import DIED, Attempt, Failure, Shares, set_up
from mosaic.utils.errors import RunError
from mosaic.utils.files import lock
from mosaic.utils.progress import log

if TYPE_CHECKING:
    import submitit

_MOST_SUBMITTED = 1000  # jobs in the queue at a time: an array has no more, unless SLURM is told otherwise


class Submitit:
    """Runs attempts as jobs of submitit, each in a process of its own.

    Args:
        launch: which cluster, and its options.
        what: name of the stage.
        folder: for what submitit writes.
        room: processes at a time on this machine; a cluster has its own limit.
    """

    def __init__(self, launch: Launch, what: str, folder: Path, room: int) -> None:
        self.cluster, self.folder = launch.cluster, folder
        self.shares = Shares(room) if self.cluster == "local" else None
        self.room = {"local": room, "slurm": _MOST_SUBMITTED, "debug": 1}[self.cluster]
        self.executor = launch.executor(f"mosaic {what}", folder)
        self._open = contextlib.ExitStack()
        self._open.enter_context(lock(folder))  # by which the jobs of this machine know that the study lives
        if threading.current_thread() is threading.main_thread():
            # a runner ends its notebook by SIGTERM: like Ctrl-C, there are jobs to cancel
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._open.callback(signal.signal, signal.SIGTERM, before)

    def submit(self, attempts: Sequence[Attempt]) -> list["_Submitted"]:
        """Submit attempts; those for SLURM become one array.

        Raises:
            RunError: when the queue refuses them.
        """
        shares = [self.shares.take() if self.shares else None for _ in attempts]
        remote = [
            RemoteAttempt(one.function, one.arguments, *self._local(share))
            for one, share in zip(attempts, shares, strict=True)
        ]
        try:
            jobs = self.executor.submit_array(remote)
        except RuntimeError as error:  # submitit's own, with what sbatch said
            if self.cluster != "slurm":
                raise
            raise RunError(
                f"the queue refused the jobs: {str(error).strip()}: change --cluster-options, such as the "
                "partition, account or time, and run again; what finished is kept"
            ) from error
        return [_Submitted(self, job, share) for job, share in zip(jobs, shares, strict=True)]

    def _local(self, share: tuple[int, str | None] | None) -> tuple[Any, ...]:
        return (self.folder, self.shares.threads, share[1]) if self.shares and share else ()

    def wait(self, jobs: Sequence["_Submitted"]) -> None:
        """Wait a moment."""
        time.sleep(1.0 if self.cluster == "slurm" else 0.1)

    def close(self, jobs: Sequence["_Submitted"]) -> None:
        """Cancel the jobs that are left."""
        with self._open:
            if not jobs:
                return
            if self.cluster == "slurm":
                arrays = {one.job.job_id.split("_")[0] for one in jobs}
                # one call, beyond the reach of what ends this notebook: it may leave no time
                subprocess.run(["scancel", *sorted(arrays)], check=False, start_new_session=True)
            for one in jobs if self.cluster == "local" else ():
                one.job.cancel()
            log(f"{len(jobs)} job{'s' * (len(jobs) != 1)} cancelled; what finished is kept")


@dataclass(frozen=True)
class _Submitted:
    by: Submitit
    job: "submitit.Job[Any]"
    share: tuple[int, str | None] | None

    def running(self) -> bool:
        return self.by.cluster != "slurm" or self.job.state == "RUNNING"

    def done(self) -> bool:
        return self.by.cluster == "debug" or self.job.done()

    def outcome(self) -> Any:
        try:
            return self.job.result()
        except Exception as error:  # submitit's own: no result, or a job that could not begin
            trace = str(error)
            if "not produced any output" in trace:
                state = self.job.state
                return Failure(DIED if self.by.cluster == "local" else f"its job ended as {state}", trace)
            errors = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", trace, re.MULTILINE)
            return Failure(errors[-1] if errors else trace.splitlines()[0], trace)
        finally:
            if self.share and self.by.shares:
                self.by.shares.give_back(self.share)


@dataclass(frozen=True)
class RemoteAttempt(Attempt):
    """An attempt in a job of submitit.

    Attributes:
        study: folder that the study holds while it lives, for a job that must end with it; None on a cluster,
            where jobs outlive a study that is killed.
        threads: of torch, where the study shares out its machine.
        device: the GPU, likewise.
    """

    study: Path | None = None
    threads: int = 0
    device: str | None = None

    def __call__(self) -> Any:
        """Run the trial; what it tells goes to the log of the job."""
        if self.study:
            set_up(self.threads, self.device)
            threading.Thread(target=_end_with_study, args=(self.study,), daemon=True).start()
        try:
            outcome = super().__call__()
        except SystemExit as stop:
            if stop.code is None:  # Lightning's on SIGTERM, by which SLURM announces a preemption
                os.kill(os.getpid(), signal.SIGUSR2)  # lets submitit queue this job again
            raise
        if isinstance(outcome, Failure):
            print(outcome.trace, file=sys.stderr, flush=True)
        return outcome

    def checkpoint(self) -> Any:
        """Return what a job does that is queued again: the same, from the trial's own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _end_with_study(folder: Path) -> None:
    with open(folder / ".lock", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # comes when the study lets go or dies
        os._exit(1)
