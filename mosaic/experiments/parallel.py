"""Calls that worker processes share."""

from collections.abc import Callable, Sequence
from typing import Any

from mosaic.experiments.jobs import run_jobs


def parallel_map(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], what: str, jobs: int = 0
) -> list[Any]:
    """Return ``[function(*call) for call in calls]``, computed by several processes."""
    return run_jobs(function, calls, what, jobs, submit=False)
