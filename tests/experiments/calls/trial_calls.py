"""What workers of the tests compute; each call notes how often it was begun, and by which process."""

import os
import signal
import time

from mosaic.utils.errors import SettingsError
from mosaic.utils.files import write_text


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


def trial(kind, folder, path):
    """Write a file, unless something happens to this kind of trial."""
    first = begun(folder, kind) == 1
    if kind == "always_fails":
        raise ZeroDivisionError("never works")
    if kind == "wrong_setting":
        raise SettingsError("no such thing: choose another")
    if kind == "always_killed" or (first and kind == "killed_once"):
        os.kill(os.getpid(), signal.SIGKILL)
    if first and kind == "terminated_once":  # as Lightning leaves on SIGTERM
        raise SystemExit
    if first and kind == "preempted_once":
        os.kill(os.getpid(), signal.SIGUSR2)  # by which submitit knows of a preemption or time limit
        time.sleep(60)
    if kind.startswith("sleeps"):
        time.sleep(120)
    write_text(path, "fine")


def counts(steps, done):
    """Count to ``steps`` slowly, with a checkpoint each, and write from where."""
    last = done.with_suffix(".last")
    begun(done.parent, done.stem)
    first = int(last.read_text()) if last.exists() else 0
    for step in range(first, steps):
        time.sleep(0.1)
        write_text(last, str(step + 1))
    write_text(done, str(first))
