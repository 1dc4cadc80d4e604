import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from mosaic.utils.interrupts import after_import


@pytest.fixture(autouse=True)
def default_handler():
    """Interrupts raise KeyboardInterrupt; a shell's background job, such as this may be, ignores them."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


def test_an_interrupt_waits_until_an_import_is_whole():
    done, handler = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), after_import():
        signal.raise_signal(signal.SIGINT)
        done.append("imported")
    assert done == ["imported"] and signal.getsignal(signal.SIGINT) is handler


def test_an_error_of_an_import_is_told_and_later_interrupts_are_not_held_back():
    with pytest.raises(ImportError, match="no such"), after_import():
        raise ImportError("no such")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_interrupts_that_are_ignored_or_handled_otherwise_stay_so():
    pressed = []
    for other in (signal.SIG_IGN, lambda number, frame: pressed.append(number)):
        signal.signal(signal.SIGINT, other)
        with after_import():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is other
    assert pressed == [signal.SIGINT]


def test_other_threads_import_as_ever():
    def work():
        with after_import():
            return "imported"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == "imported"
