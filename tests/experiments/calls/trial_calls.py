"""What workers of the tests compute; each call notes how often it was begun, and by which process."""

import os
import signal
import time

from mosaic.utils.errors import SettingsError
from mosaic.utils.files import lock, write_text


def begun(folder, name):
    """Note a beginning; return how many there are."""
    with open(folder / f"{name}.begun", "a+") as file:
        file.write(f"{os.getpid()}\n")
        file.seek(0)
        return len(file.readlines())


def square(folder, number):
    begun(folder, f"square-{number}")
    return number**2


def share(folder, number):
    begun(folder, f"share-{number}")
    while len(list(folder.glob("share-*.begun"))) < 2:  # until both workers are at it
        time.sleep(0.01)
    return number, os.environ.get("CUDA_VISIBLE_DEVICES"), int(os.environ["OMP_NUM_THREADS"])


def fails_once(folder):
    if begun(folder, "fails_once") == 1:
        raise OSError("the disk was away\nfor a moment")
    return "fine"


def killed_once(folder):
    if begun(folder, "killed_once") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "fine"


def kills(folder):
    begun(folder, "kills")
    os.kill(os.getpid(), signal.SIGKILL)


def preempted_once(folder):
    """Get the signal by which submitit knows of a time limit."""
    if begun(folder, "preempted_once") == 1:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(60)
    return "fine"


def terminated_once(folder):
    """Leave as Lightning does on SIGTERM."""
    if begun(folder, "terminated_once") == 1:
        raise SystemExit
    return "fine"


def always_fails(folder):
    begun(folder, "always_fails")
    raise ZeroDivisionError("never works")


def wrong_setting(folder):
    begun(folder, "wrong_setting")
    raise SettingsError("no such thing: choose another")


def sleeps(folder, name):
    begun(folder, name)
    time.sleep(120)


def call(function, folder, *arguments):
    """Run one of the above."""
    return globals()[function](folder, *arguments)


def written(function, folder, path):
    """Run one of the above and write its result, as trials of the study do."""
    write_text(path, str(globals()[function](folder)))


def counts(steps, done):
    """Count to ``steps`` slowly, with a checkpoint each, and write from where; or wait for whoever does."""
    folder, name, last = done.parent, done.stem, done.with_suffix(".last")
    with lock(folder / name, wait=True):
        if not done.exists():
            begun(folder, name)
            first = int(last.read_text()) if last.exists() else 0
            for step in range(first, steps):
                time.sleep(0.1)
                write_text(last, str(step + 1))
            write_text(done, str(first))
    return int(done.read_text())
