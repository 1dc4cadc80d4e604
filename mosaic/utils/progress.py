"""One progress helper: a bar for people, a plain line every few seconds for logs, nothing in reports."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_INTERVAL = 5.0  # seconds between two plain lines
PREFIX = "mosaic: "  # by which reports tell progress from warnings


def log(line: str) -> None:
    """Print one line of progress to standard error; the runner passes on what a notebook prints there."""
    sys.stderr.write(f"{PREFIX}{line}\n")  # in one piece, so that no other line comes in between
    sys.stderr.flush()


def _interactive() -> bool:
    """Return whether somebody is watching: at a terminal, or in a notebook of a Jupyter server."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items``, ``total`` where they have no length, and show the time left for ``what``."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _interactive():
        yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True)
        return
    start = told = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= _INTERVAL:
            told = now
            left = f", {(now - start) / done * (total - done):.0f} s left" if total else ""
            log(f"{what}: {done}{f'/{total}' if total else ''}{left}")
