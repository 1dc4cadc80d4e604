"""Signals: Ctrl-C, the interrupt of a notebook, and those that end a process."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Handle signals by ``handler`` meanwhile; in a thread that is not the main one, which cannot, do not."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if main}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def after_import() -> Iterator[None]:
    """Hold an interrupt back until what the block imports is whole.

    A library of which half was imported fails in other ways until the process ends. Where interrupts are
    ignored, or end the process, they still do.
    """
    pressed: list[int] = []
    held = (signal.SIGINT,) if callable(signal.getsignal(signal.SIGINT)) else ()
    try:
        with handling(held, lambda number, frame: pressed.append(number)):
            yield
    finally:
        if pressed:
            signal.raise_signal(signal.SIGINT)
