"""Ctrl-C, and the interrupt of a notebook."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def after_import() -> Iterator[None]:
    """Hold an interrupt back until what the block imports is whole.

    A library of which half was imported fails in other ways until the process ends. Where interrupts are
    ignored, or end the process, they still do.
    """
    in_main = threading.current_thread() is threading.main_thread()  # no other is interrupted
    if not (in_main and callable(signal.getsignal(signal.SIGINT))):
        yield
        return
    pressed: list[int] = []
    earlier = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
        if pressed:
            signal.raise_signal(signal.SIGINT)
