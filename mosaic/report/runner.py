"""Executing the notebooks of a run in order, with papermill, and a page for each as soon as it ends."""

import contextlib
import datetime
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from mosaic.report import provenance
from mosaic.report.display import KEY
from mosaic.report.html import RECORD, duration, render_all
from mosaic.report.parameters import read_notebook, validate
from mosaic.report.summary import digest, title_of
from mosaic.utils import files
from mosaic.utils.errors import RunError
from mosaic.utils.progress import PROGRESS_FILE

__all__ = ["render_all", "run"]

_START_TIMEOUT = 180  # seconds a kernel may take to start on a busy machine
_LOOK_EVERY = 0.3  # seconds between two looks at the progress file
Tell = Callable[[str], None]


def _say(line: str) -> None:
    print(line, flush=True)


def run(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    profile: str,
    command: str,
    tell: Tell = _say,
) -> Path:
    """Execute notebooks in order; save and render each as soon as it ends.

    The folder holds, for each notebook, ``<name>.ipynb`` as executed and ``<name>.html``; and ``index.html``
    and ``run.json`` for the run. Pages of an earlier run are removed when this one starts.

    Args:
        notebooks: in the order of execution.
        parameters: for each notebook, by file stem, the values that replace its defaults.
        out: folder of the run.
        profile: name of the settings, shown on the pages.
        command: what reproduces the run, shown on the pages.
        tell: receives each line of progress; the last is the path of the index.

    Returns:
        The path of the index.

    Raises:
        SettingsError: before anything runs, when a parameter is unknown or of the wrong type.
        RunError: when the folder is in use or cannot be written, or when a notebook fails; its page is
            rendered and named, and the notebooks after it are marked as not run.
    """
    validate(parameters, notebooks)
    with files.lock(out):
        run = _Run(notebooks, out, profile, command, tell)
        with _kernel_environment() as progress_file:
            for place, notebook in enumerate(notebooks):
                run.execute(place, notebook, dict(parameters.get(notebook.stem, {})), progress_file)
        index = run.close("finished")
    tell(str(index))
    return index


class _Run:
    """The record of a run, kept in ``run.json`` as it goes on."""

    def __init__(self, notebooks: Sequence[Path], out: Path, profile: str, command: str, tell: Tell) -> None:
        self.out, self.tell = out, tell
        self.names = [notebook.stem for notebook in notebooks]
        self.expected = _earlier_seconds(out, profile)
        self.started = time.monotonic()
        self.record: dict[str, Any] = {
            "profile": profile,
            "command": command,
            "commit": provenance.commit(),
            "status": "running",
            "started": _now(),
            "ended": None,
            "seconds": None,
            "device": None,
            "packages": provenance.packages(),
            "notebooks": [
                {
                    "name": notebook.stem,
                    "title": title_of(read_notebook(notebook), notebook.stem),
                    "status": "not run",
                }
                for notebook in notebooks
            ],
        }
        for name in self.names:
            for old in (out / f"{name}.ipynb", out / f"{name}.html", self._partial(name)):
                old.unlink(missing_ok=True)

    def _partial(self, name: str) -> Path:
        return self.out / f".{name}.partial.ipynb"

    def execute(self, place: int, notebook: Path, parameters: dict[str, Any], progress_file: Path) -> None:
        """Execute one notebook; leave it saved and rendered, whatever happens."""
        name = notebook.stem
        entry = self.record["notebooks"][place]
        entry.update(status="running", parameters=parameters, started=_now())
        self._save(place)
        head = f"[{place + 1}/{len(self.names)} {name}]"
        known = self.expected.get(name)
        self.tell(f"{head} started" + (f", took {duration(known)} last time" if known else ""))
        start = time.monotonic()
        status, problem = "failed", ""
        try:
            with _follow(progress_file, lambda line: self.tell(f"{head} {line}")):
                papermill.execute_notebook(
                    notebook,
                    self._partial(name),
                    parameters,
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    start_timeout=_START_TIMEOUT,
                    cwd=notebook.parent,
                )
            status = "finished"
        except PapermillExecutionError as error:
            problem = f"{error.ename} in cell {error.exec_count}: {error.evalue}"
        except DeadKernelError:
            problem = (
                "its kernel died, as when memory runs out: close other programs or use a smaller profile"
            )
        except Exception as error:  # a kernel that does not start, a disk that fills, ...
            problem = f"{type(error).__name__}: {error}"
        except BaseException:
            status = "interrupted"
            raise
        finally:
            seconds = time.monotonic() - start
            entry.update(status=status, seconds=round(seconds, 1), ended=_now(), error=problem)
            self._keep(name, entry)
            index = self._save(place) if status == "finished" else self.close(status)
        if problem:
            page = self.out / f"{name}.html"
            raise RunError(
                f"{name} failed after {duration(seconds)}: {problem}\n"
                f"see {page if page.exists() else index} for the traceback and what was finished before"
            )
        self.tell(f"{head} finished in {duration(seconds)}{self._left(place)}")

    def _keep(self, name: str, entry: Mapping[str, Any]) -> None:
        """Save the executed notebook under its final name, with the facts its page shows."""
        partial = self._partial(name)
        if not partial.exists():
            return
        content = read_notebook(partial)
        facts = {key: self.record[key] for key in ("profile", "command", "commit", "packages")}
        content.metadata[KEY] = {**facts, "status": entry["status"], "error": entry["error"]}
        files.write_text(self.out / f"{name}.ipynb", nbformat.writes(content))  # type: ignore[no-untyped-call]
        partial.unlink()
        self.record["device"] = digest(self.out / f"{name}.ipynb").facts.get("device", self.record["device"])

    def _save(self, place: int) -> Path:
        """Write the record and render this page, the one before (its link forward is new) and the index."""
        files.write_json(self.out / RECORD, self.record)
        return render_all(self.out, self.names[max(0, place - 1) : place + 1])

    def close(self, status: str) -> Path:
        """Write the final record and render everything."""
        seconds = round(time.monotonic() - self.started, 1)
        self.record.update(status=status, ended=_now(), seconds=seconds)
        files.write_json(self.out / RECORD, self.record)
        return render_all(self.out)

    def _left(self, place: int) -> str:
        """Estimate the time left from how long the last run of this profile took."""
        todo = [self.expected.get(name) for name in self.names[place + 1 :]]
        if not todo:
            return ""
        if None in todo:
            return ", time left unknown (no earlier run of this profile)"
        return f", about {duration(sum(filter(None, todo)))} left"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _earlier_seconds(out: Path, profile: str) -> dict[str, float]:
    """Return how long each notebook took when this folder's last run, of the same profile, finished it."""
    if not (out / RECORD).exists():
        return {}
    record = files.read_json(out / RECORD)
    if record.get("profile") != profile:
        return {}
    return {
        entry["name"]: entry["seconds"] for entry in record["notebooks"] if entry.get("status") == "finished"
    }


@contextlib.contextmanager
def _kernel_environment() -> Iterator[Path]:
    """Let notebooks run in this interpreter and tell their progress; yield the file they tell it to.

    A kernel named ``python3`` of another environment may be installed for the user: ours goes first.
    """
    with tempfile.TemporaryDirectory(prefix="mosaic-") as folder:
        spec = {
            "argv": [
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
                "--log-level=CRITICAL",  # it logs its own end as an error; those of cells come another way
            ],
            "display_name": "Python 3",
            "language": "python",
        }
        home = Path(folder, "kernels", "python3")
        home.mkdir(parents=True)
        (home / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        progress_file = Path(folder, "progress")
        progress_file.touch()
        path = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        ours = {"JUPYTER_PATH": path, PROGRESS_FILE: str(progress_file)}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield progress_file
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextlib.contextmanager
def _follow(path: Path, tell: Tell) -> Iterator[None]:
    """Pass on each line that is appended to a file meanwhile."""
    over = threading.Event()

    def watch() -> None:
        with open(path, encoding="utf-8") as file:
            file.seek(0, os.SEEK_END)
            started.set()
            while True:
                last_look = over.wait(_LOOK_EVERY)
                for line in file.read().splitlines():
                    tell(line)
                if last_look:
                    return

    started = threading.Event()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
