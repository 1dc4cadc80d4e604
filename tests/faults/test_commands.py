"""Whole commands that are killed, or that run where something is missing: what they say, leave and resume.

A new stage, signal or surrounding is a row of ``STAGES``, ``SIGNALS`` or ``SURROUNDINGS``. Runs on request
(``make faults``); in CI what needs no notebook.
"""

import contextlib
import ctypes
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from mosaic.utils.files import read_json

Process = subprocess.Popen[str]
pytestmark = [pytest.mark.slow, pytest.mark.faults]
SIMULATE = ("simulate", "--patches", "48", "--folder", "{root}/archives/new")
PACK = ("pack", "{root}/archives/new", "--to", "{root}/packed")
SMALL = ("image_size=16", "steps=30", "batch_scenes=16", "monitor_every=0")
TRAIN = ("train", "{root}/packed", "--to", "{root}/encoder", *(f"-p{each}" for each in SMALL))
PROFILE = (*SMALL, "methods=[random,mosaic]", "label_fractions=[100.0]", "evaluations=[knn]", "patches=48")
PROFILE += ("gallery_patches=2", "spectra_patches=12")
# Some notebooks of the sequence; this profile is not measured first, which takes longer than they do
RUN = ("run", "--profile", "smoke", *(f"-p{each}" for each in PROFILE), "--out", "tiny")
PREPARE, SCORE = ("[01]", *RUN), ("[03]", *RUN)  # the numbers of its notebooks
FEW_NOTEBOOKS = """\
import sys
from mosaic import __main__
from mosaic.report import sequence
run = sequence.run_notebooks
def few(notebooks, *rest, **named):
    return run([path for path in notebooks if path.name[:2] in "{}"], *rest, **named)
sequence.run_notebooks = few
sys.exit(__main__.main())
"""


class Stage(NamedTuple):
    command: tuple[str, ...]
    under_way: str  # pattern of the files that it writes
    result: str  # pattern of the files that must be as if nothing had happened
    kept: tuple[str, ...] = ()  # what earlier stages have left


STAGES = {
    "simulating": Stage(SIMULATE, "archives/.new*/**/*.tif", "archives/new/**/*.tif"),
    "packing": Stage(PACK, "packed/.shard*", "packed/shard-*.bin", ("archives",)),
    "training": Stage(TRAIN, "encoder/.lock", "encoder/encoder.safetensors", ("packed",)),
    "scoring": Stage(SCORE, "data/cache/predictions/*", "reports/tiny/results.parquet", ("data", "reports")),
    "rendering": Stage(("report", "tiny"), "reports/tiny/0*.html", "reports/tiny/0*.html", ("reports",)),
}
#: signal -> exit status, and what is said
SIGNALS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, ""),
    signal.SIGHUP: (129, ""),
    signal.SIGKILL: (-9, ""),
}


class Surrounding(NamedTuple):
    command: tuple[str, ...]
    told: str  # by the error; empty where the command works all the same
    kept: tuple[str, ...] = ()
    before: Callable[[], None] | None = None  # in the process, before the command
    full: str = ""  # folder whose disk holds 1 MB
    environment: tuple[str, str] = ("OF_TEST", "{root}")


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def one_core() -> None:
    os.sched_setaffinity(0, {0})


def bind() -> None:
    """Bind root to permissions, before another program starts: see capabilities(7) and prctl(2)."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


READY = ("data", "reports")
SURROUNDINGS = {
    "full disk, simulating": Surrounding(SIMULATE, "space", full="archives"),
    "full disk, packing": Surrounding(PACK, "space", ("archives",), full="packed"),
    "full disk, training": Surrounding(TRAIN, "space", ("packed",), full="encoder"),
    "full disk, notebooks": Surrounding(PREPARE, "space", ("data",), full="reports"),
    "read-only, packing": Surrounding(PACK, "cannot write to", ("archives",), bind),
    "read-only, training": Surrounding(TRAIN, "cannot write to", ("packed",), bind),
    "read-only, notebooks": Surrounding(SCORE, "cannot write to", ("data",), bind),
    "few open files, packing": Surrounding(PACK, "", ("archives",), few_files),
    "few open files, training": Surrounding(TRAIN, "", ("packed",), few_files),
    "few open files, notebooks": Surrounding(SCORE, "files are open", READY, few_files),
    "one core, no writable home": Surrounding(SCORE, "", READY, one_core, "", ("HOME", "/proc/nowhere")),
    "long TMPDIR": Surrounding(SCORE, "", READY, environment=("TMPDIR", "{root}/" + "a" * 130)),
    "relative MOSAIC_ROOT": Surrounding(SCORE, "", READY, environment=("MOSAIC_ROOT", ".")),
    "out above reports": Surrounding((*RUN, "--out", ".."), "name"),
    "loop of links": Surrounding(("verify", "{root}/loop"), "loop"),
}


def started(root: Path, command: tuple[str, ...], before: Any = None, **environment: str) -> Process:
    chosen, *words = ("", *command) if command[0][0] != "[" else command
    program = ["-c", FEW_NOTEBOOKS.format(chosen)] if chosen else ["-m", "mosaic"]

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores Ctrl-C
        if before:
            before()

    words = [sys.executable, *program, *(word.format(root=root) for word in words)]
    environment = {**os.environ, "MOSAIC_ROOT": str(root), "OF_TEST": str(root), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": root}
    return subprocess.Popen(words, env=environment, start_new_session=True, preexec_fn=prepare, **pipes)


def ended(process: Process) -> str:
    """Return what a process said, once it has ended."""
    return process.communicate(timeout=900)[0]


def finished(root: Path, command: tuple[str, ...]) -> str:
    process = started(root, command)
    said = ended(process)
    assert process.returncode == 0, said
    return said


def processes_of(root: Path) -> list[int]:
    """Return the processes that a test started, and what these started."""
    found, mark = [], f"OF_TEST={root}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def under_way_or_ended(process: Process, root: Path, pattern: str, since: float) -> bool:
    with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
        return process.poll() is not None or any(f.stat().st_mtime > since for f in root.glob(pattern))
    return False


def contents(root: Path, pattern: str) -> dict[str, str]:
    """Return the digests of files; of a table of results, of its values."""

    def digest(path: Path) -> str:
        content = pd.read_parquet(path).to_csv().encode() if path.stem == "results" else path.read_bytes()
        return hashlib.sha256(content).hexdigest()

    return {str(path.relative_to(root)): digest(path) for path in sorted(root.glob(pattern))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of commands that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "Ä root of its own"
    root.mkdir()
    for command in (SIMULATE, PACK, TRAIN):
        finished(root, command)
    return root


@pytest.fixture(scope="module")
def notebooks(whole: Path) -> None:
    """Add what notebooks leave that nothing disturbed."""
    finished(whole, ("[01, 02, 03]", *RUN, "--archive", "{root}/archives/new"))
    shutil.rmtree(whole / "data" / "cache" / "predictions")


@pytest.fixture
def place(whole: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Path]]:
    """Return a function that gives a new root with some of the folders; at the end nothing runs there."""
    root = tmp_path / whole.name

    def make(kept: tuple[str, ...]) -> Path:
        if "data" in kept or "reports" in kept:
            request.getfixturevalue("notebooks")
        root.mkdir()
        (root / "loop").symlink_to(root / "loop")
        for name in kept:
            shutil.copytree(whole / name, root / name)
        return root

    yield make
    for pid in processes_of(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_killed_by_each_signal_leaves_no_process_and_resumes(whole, place, wait_until, stage):
    command, output, result, kept = STAGES[stage]
    root = place(kept)
    for number, (code, told) in SIGNALS.items():
        shutil.rmtree(root / "data" / "cache" / "predictions", ignore_errors=True)
        process = started(root, command)
        wait_until(partial(under_way_or_ended, process, root, output, time.time()), 300)
        process.send_signal(number)
        said = ended(process)
        if process.returncode != 0:  # 0: it was done before the signal came
            assert process.returncode in (code, -number), said
            assert told in said and "Traceback" not in said, said
        wait_until(lambda: not processes_of(root), 20)
        for record in root.glob("reports/*/run.json"):
            assert number == signal.SIGKILL or read_json(record)["status"] != "running"
    said = finished(root, command)
    assert not [path for path in root.rglob("*partial*") if ".lock" not in path.name], said
    assert contents(root, result) == contents(whole, result)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_command_works_or_says_what_is_missing(place, request, name):
    command, told, kept, before, full, (variable, value) = SURROUNDINGS[name]
    root = place(kept)
    value = value.format(root=root)
    if variable == "TMPDIR":
        Path(value).mkdir()
    if full:
        (root / full).mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root / full)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a small disk")
        request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(root / full)], check=True))
    if before is bind:
        root.chmod(0o555)
    process = started(root, command, before, **{variable: value})
    said = ended(process)
    assert (process.returncode == 2) == bool(told), said
    assert told in said and "Traceback" not in said, said
    for record in root.glob("reports/*/run.json"):
        assert read_json(record)["status"] == ("failed" if told else "finished")


def test_two_runs_that_start_together_on_nothing_share_their_work(place):
    root = place(())
    runs = [started(root, (*PREPARE, "--out", out)) for out in ("one", "two")]
    said = [ended(run) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert any("waiting" in each for each in said)
    one, two = (read_json(root / "reports" / out / "archive.json") for out in ("one", "two"))
    assert one == two


def test_the_readme_states_the_number_of_cases():
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    cases = len(STAGES) * len(SIGNALS) + len(SURROUNDINGS) + 1
    assert f" {cases} commands that are killed" in readme
