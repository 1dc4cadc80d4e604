"""Run independent cells of the study, several at a time, each in its own process."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import torch

from mosaic.common.progress import progress

R = TypeVar("R")


def workers(jobs: int, cells: int) -> int:
    """Return how many processes to use: ``jobs``, or by default one a core on a CPU and one on a GPU."""
    if jobs == 0:
        jobs = 1 if torch.cuda.is_available() else (os.cpu_count() or 1)
    return max(1, min(jobs, cells))


def run_jobs(
    function: Callable[..., R], calls: Sequence[tuple[Any, ...]], what: str, jobs: int = 0
) -> list[R]:
    """Return ``[function(*call) for call in calls]``, computed by several processes.

    On a CPU, two processes of one thread each finish small models sooner than one process of two threads.
    The first failure stops the rest; what other cells finished stays in the cache.

    Args:
        function: a function of an importable module.
        calls: its arguments, one tuple a cell.
        what: name of the stage, for the progress line.
        jobs: number of processes; 0 for the default of :func:`workers`.
    """
    if not calls:
        return []
    count = workers(jobs, len(calls))
    if count == 1:
        return [function(*call) for call in progress(calls, what)]
    threads = max(1, (os.cpu_count() or 1) // count)
    results: dict[int, R] = {}
    # "spawn": a forked child would inherit torch's thread pools in an undefined state
    with ProcessPoolExecutor(count, get_context("spawn"), _begin, (threads,)) as pool:
        futures = {pool.submit(function, *call): index for index, call in enumerate(calls)}
        try:
            for future in progress(as_completed(futures), what, total=len(futures)):
                results[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[index] for index in range(len(calls))]


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop this process once its parent is gone: a killed run must not go on training unseen."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
