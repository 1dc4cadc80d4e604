"""Apply a function to 0, 1, 2, ... on several cores, in order; why processes cannot be started."""

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from mosaic.utils.errors import RunError

R = TypeVar("R")

_CAUSES = {  # of a process that cannot start
    errno.EMFILE: "too many files are open: allow more, as with `ulimit -n 4096`",
    errno.ENOSPC: "/dev/shm is full: free it (`df /dev/shm`)",
    None: "the path of temporary files is too long: set TMPDIR to a shorter one",  # of a socket, no errno
}
_function: Callable[[int], Any]  # in a forked process: what it applies


def available_cores() -> int:
    """Return how many cores this process may use; on a cluster's node often fewer than it has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def default_workers() -> int:
    """Return the number of reading processes, one a core; 1 where forking is not safe."""
    return available_cores() if sys.platform == "linux" else 1


def forked_map(
    function: Callable[[int], R], count: int, workers: int | None = None, chunk: int = 16
) -> Generator[R]:
    """Yield ``function(0), ..., function(count - 1)``, computed by :func:`default_workers` or ``workers``.

    Forked processes, which take ``chunk`` numbers at once, inherit what the function refers to, TorchGeo
    included, whose import costs more than reading 500 patches; only results are pickled. ``RunError`` when a
    process was killed.
    """
    workers = min(workers or default_workers(), count)
    if workers <= 1:
        yield from map(function, range(count))
        return
    fork, others = multiprocessing.get_context("fork"), set(multiprocessing.active_children())
    with starting_processes():
        pool = ProcessPoolExecutor(workers, fork, _initialize, (function, os.getpid()))
    try:
        with starting_processes():
            results = pool.map(_call, range(count), chunksize=chunk)
        yield from results
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process was killed, perhaps for lack of memory: start again, finished work is kept. "
            "If it happens twice, use fewer workers"
        ) from error
    except (KeyboardInterrupt, SystemExit):
        for child in set(multiprocessing.active_children()) - others:  # a shutdown would wait for them
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Raise ``RunError`` with cause and remedy where no process can be started."""
    try:
        yield
    except (OSError, UnboundLocalError) as error:  # the latter is loky's, when it may open no more files
        number = errno.EMFILE if isinstance(error, UnboundLocalError) else error.errno
        raise RunError(f"no worker process can start: {_CAUSES.get(number, error)}") from error


def end_with_parent(parent: int) -> None:
    """Let this process ignore Ctrl-C, and end soon after the process ``parent``, which started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _initialize(function: Callable[[int], Any], parent: int) -> None:
    global _function
    _function = function
    end_with_parent(parent)


def _call(i: int) -> Any:
    return _function(i)
