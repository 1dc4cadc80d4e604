"""One progress helper: a bar for people, a plain line every few seconds for logs, nothing in reports."""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_INTERVAL = 5.0  # seconds between two plain lines


def log(line: str) -> None:
    """Print one line of progress to standard error; the runner passes on what a notebook prints there."""
    print(line, file=sys.stderr, flush=True)


def _interactive() -> bool:
    """Return whether somebody is watching: at a terminal, or in a notebook of a Jupyter server."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items`` and show how far it is and how long it will take.

    Args:
        items: what to iterate over.
        what: the stage, e.g. ``"packing"``.
        total: number of items; taken from ``items`` when it has a length.
    """
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


class Board:
    """Lines about work that goes on elsewhere: rewritten in place for people, one plain line for logs.

    A plain line is told when it has changed, at most every few seconds, and once a minute when it has not.
    """

    _UNCHANGED = 60.0  # seconds between two plain lines that say the same

    def __init__(self) -> None:
        self._told, self._when = "", time.monotonic()
        self._height = 0  # lines now on the terminal
        self._output: Any = None  # of a notebook

    def show(self, lines: Sequence[str], summary: str, more: str = "") -> None:
        """Show how things stand.

        Args:
            lines: for people.
            summary: the same in one line, for logs.
            more: its end, which always changes: not news by itself.
        """
        if _interactive():
            self._rewrite(lines)
            return
        since = time.monotonic() - self._when
        if since >= (_INTERVAL if summary != self._told else self._UNCHANGED):
            self._told, self._when = summary, time.monotonic()
            log(summary + more)

    def clear(self) -> None:
        """Take the lines away."""
        if self._height or self._output:
            self._rewrite([])

    def _rewrite(self, lines: Sequence[str]) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1  # a broken line would count as two
            up = f"\x1b[{self._height}F" if self._height else ""
            print(up + "\x1b[J" + "".join(f"{line[:width]}\n" for line in lines), end="", file=sys.stderr)
            sys.stderr.flush()
            self._height = len(lines)
            return
        from IPython.display import display

        content = {"text/plain": "\n".join(lines)}
        if self._output is None:
            self._output = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._output.update(content, raw=True)
