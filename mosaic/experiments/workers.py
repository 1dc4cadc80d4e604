"""Who runs the trials of a study on this machine: this process, or a pool of processes."""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Any, Protocol

from mosaic.utils.errors import MosaicError, RunError
from mosaic.utils.forked import available_cores

DIED = "its process died, as when memory runs out"


@dataclass(frozen=True)
class Failure:
    """What a trial ended with instead of a result.

    Attributes:
        line: the error in one line.
        trace: all that is known of it.
        again: whether another try may help. It does not where a setting or a file is wrong.
    """

    line: str
    trace: str
    again: bool = True

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Return the failure that an exception stands for."""
        message = (str(error).strip().splitlines() or [""])[0]
        named = isinstance(error, MosaicError)
        return cls(
            message if named else f"{type(error).__name__}: {message}",
            "".join(traceback.format_exception(error)),
            again=not named or isinstance(error, RunError),
        )


@dataclass(frozen=True)
class Attempt:
    """One try of one trial: calling it returns a result or a :class:`Failure`."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        """Run the trial."""
        try:
            return self.function(*self.arguments)
        except Exception as error:
            return Failure.of(error)


class Job(Protocol):
    """An attempt that was handed to workers."""

    def running(self) -> bool:
        """Has it begun?"""

    def done(self) -> bool:
        """Has it ended, one way or another?"""

    def outcome(self) -> Any:
        """Return its result or a failure; to be asked once, when it is done."""


class Workers(Protocol):
    """Whoever runs attempts.

    Attributes:
        room: how many they take at a time.
    """

    room: int

    def submit(self, attempts: Sequence[Attempt]) -> Sequence[Job]:
        """Take attempts, no more than there is room for."""

    def wait(self, jobs: Sequence[Any]) -> None:
        """Wait a moment, or until one of the jobs is done."""

    def close(self, jobs: Sequence[Any]) -> None:
        """End; jobs that are left are not wanted any more."""


class Shares:
    """Shares of this machine for ``room`` processes: as many threads each, and one of the GPUs in turn."""

    def __init__(self, room: int) -> None:
        import torch

        self.threads = max(1, available_cores() // room)
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = [str(i) for i in range(torch.cuda.device_count())] if named is None else named.split(",")
        self._free = [(slot, gpus[slot % len(gpus)] if gpus else None) for slot in reversed(range(room))]

    def take(self) -> tuple[int, str | None]:
        """Return the number of a free share, and its GPU as ``CUDA_VISIBLE_DEVICES`` names it."""
        return self._free.pop()

    def give_back(self, share: tuple[int, str | None]) -> None:
        """Free a share."""
        self._free.append(share)


def set_up(threads: int, device: str | None) -> None:
    """Give this process its share of the machine.

    BLAS is kept to as many threads as torch: with one a core in each of several processes they wait for each
    other, and the short vectors of a linear probe's optimiser wait most.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)  # libraries that are loaded from now on read these, torch among them
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)  # those that were loaded before
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device


class Here:
    """Runs attempts in this process, when their outcome is asked for."""

    room = 1

    def submit(self, attempts: Sequence[Attempt]) -> list["_Here"]:
        """Take attempts."""
        return [_Here(attempt) for attempt in attempts]

    def wait(self, jobs: Sequence["_Here"]) -> None:
        """Return: there is nothing to wait for."""

    def close(self, jobs: Sequence["_Here"]) -> None:
        """Return: nothing is open."""


@dataclass(frozen=True)
class _Here:
    attempt: Attempt

    def running(self) -> bool:
        return True

    def done(self) -> bool:
        return True

    def outcome(self) -> Any:
        return self.attempt()


class Pool:
    """Runs attempts in processes that stay.

    Each is a pool of its own: when one is killed its trial alone is lost, and it is known which.

    Args:
        room: number of processes.
        module: the module whose functions they are going to call.
    """

    def __init__(self, room: int, module: str) -> None:
        self.room = room
        self.shares = Shares(room)
        self.context = _context(module)
        self.processes: dict[int, ProcessPoolExecutor] = {}

    def submit(self, attempts: Sequence[Attempt]) -> list["_Pooled"]:
        """Hand each to a free process."""
        return [self._start(attempt) for attempt in attempts]

    def _start(self, attempt: Attempt) -> "_Pooled":
        slot, device = share = self.shares.take()
        with contextlib.suppress(KeyError, BrokenProcessPool):  # none yet, or one that died while idle
            return _Pooled(self, share, self.processes[slot].submit(attempt))
        settings = (self.shares.threads, device, dict(os.environ))
        self.processes[slot] = ProcessPoolExecutor(1, self.context, _begin, settings)
        return _Pooled(self, share, self.processes[slot].submit(attempt))

    def wait(self, jobs: Sequence["_Pooled"]) -> None:
        """Wait for one of them, a second at most."""
        wait([job.future for job in jobs], timeout=1, return_when=FIRST_COMPLETED)

    def close(self, jobs: Sequence["_Pooled"]) -> None:
        """End the processes, once what they are at has ended."""
        for process in self.processes.values():
            process.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Pooled:
    pool: Pool
    share: tuple[int, str | None]
    future: "Future[Any]"

    def running(self) -> bool:
        return True

    def done(self) -> bool:
        return self.future.done()

    def outcome(self) -> Any:
        try:
            return self.future.result()
        except BrokenProcessPool:
            self.pool.processes.pop(self.share[0]).shutdown()
            return Failure(DIED, DIED)
        except Exception as error:  # arguments or a result that cannot be passed on
            return Failure.of(error)
        finally:
            self.pool.shares.give_back(self.share)


def _context(module: str) -> BaseContext:
    """Return how processes are started.

    Forked from this process they would inherit torch's pools of threads in an undefined state, and started
    afresh each would load torch, for seconds. So they are forked from a server that has loaded ``module``, or
    that of the first stage which needed processes, and has done nothing else.
    """
    if sys.platform != "linux":  # the only system where forking is safe
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def _begin(threads: int, device: str | None, environment: Mapping[str, str]) -> None:
    os.environ.clear()  # the server's may be older
    os.environ.update(environment)
    set_up(threads, device)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop this process once its parent is gone: a killed run must not go on training unseen."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
