"""One progress helper: a bar for people, a plain line every few seconds for logs, nothing in reports."""

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm

T = TypeVar("T")

_INTERVAL = 5.0  # seconds between two plain lines
WORKER = "MOSAIC_WORKER"  # environment variable of processes that compute trials, which show no bars
PREFIX = "mosaic: "  # by which reports tell progress from results and warnings


def log(line: str) -> None:
    """Print one line of progress: to standard error, or in a notebook, which shows that in red, to output."""
    stream = sys.stdout if _in_notebook() else sys.stderr
    stream.write(f"{PREFIX}{line}\n")  # in one piece, so that no other line comes in between
    stream.flush()


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class _Lines(plain_tqdm):
    """A progress bar as plain lines."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print a line, but for nothing done and for the empty message that clears a bar."""
        facts, done = self.format_dict, self.n - self.initial
        if not done or msg is not None:
            return
        left = f", {facts['elapsed'] / done * (self.total - self.n):.0f} s left" if self.total else ""
        told = f", {facts['postfix']}" if facts["postfix"] else ""
        log(f"{self.desc}: {self.n}{f'/{self.total}' if self.total else ''}{told}{left}")


def bar(
    what: str, total: int | None, items: Iterable[Any] | None = None, initial: int = 0, shown: bool = True
) -> Any:
    """Return a tqdm bar for ``what``; where nobody watches, at a terminal or in Jupyter, it prints lines."""
    options: dict[str, Any] = {"desc": what, "total": total, "initial": initial, "leave": False}
    options["disable"] = not shown or WORKER in os.environ
    watched = "JPY_SESSION_NAME" in os.environ if _in_notebook() else sys.stderr.isatty()
    if watched:
        return tqdm(items, dynamic_ncols=True, **options)
    return _Lines(items, file=io.StringIO(), mininterval=_INTERVAL, miniters=1, **options)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items``, ``total`` where they have no length, and show the time left for ``what``."""
    yield from bar(what, len(items) if total is None and isinstance(items, Sized) else total, items)
