"""Executing the notebooks of a run in order, with papermill, and a page for each as soon as it ends."""

import contextlib
import datetime
import errno
import functools
import io
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from mosaic.experiments.study import PACKAGE, root
from mosaic.report import provenance
from mosaic.report.display import KEY
from mosaic.report.html import RECORD, duration, public, read_record, render_all
from mosaic.report.summary import read_notebook, summarize, title_of
from mosaic.utils import files
from mosaic.utils.errors import MosaicError, RunError
from mosaic.utils.interrupts import handling
from mosaic.utils.progress import PREFIX

#: Of an error that reached nobody.
_UNTOLD = "its kernel sent no error, as when too many files are open (see `ulimit -n`) or memory is short"
_START_TIMEOUT = 180  # seconds a kernel may take to start on a busy machine
_ENDING = signal.SIGTERM, signal.SIGHUP
_print = functools.partial(print, flush=True)


def run(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    profile: str,
    command: str,
) -> Path:
    """Execute notebooks in order; save and render each as soon as it ends, and return the path of the index.

    The folder ``out`` gets ``<name>.ipynb``, as executed, and ``<name>.html`` for each notebook, the images
    of the pages in ``figures/``, ``index.html`` and ``run.json``; pages of an earlier run are removed.
    ``parameters`` are validated values by the file stem of the notebook; ``profile`` names them, and
    ``command`` reproduces the run.

    Raises:
        RunError: when the folder is in use or cannot be written, or when a notebook fails; its page is
            rendered and named, and the notebooks after it are marked as not run.
    """
    # A kernel "python3" of another environment may be installed for the user: this interpreter's goes first.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    for name in ("asyncio", "papermill"):  # of a kernel's end, which a signal may mean
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ending = [name for name in _ENDING if signal.getsignal(name) is signal.SIG_DFL]
    with files.lock(out), _handed_on(out), handling(ending, _leave):
        record = _Run(notebooks, out, profile, command)
        try:
            for i, notebook in enumerate(notebooks):
                record.execute(i, notebook, dict(parameters.get(notebook.stem, {})))
        except BaseException:
            record.interrupt()
            raise
    _print(out / "index.html")
    return out / "index.html"


def _leave(number: int, _: object) -> None:
    """Raise SystemExit for a signal, so that what it ends is recorded; one is enough."""
    for name in [name for name in _ENDING if signal.getsignal(name) is _leave]:
        signal.signal(name, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _handed_on(out: Path) -> Iterator[None]:
    """Give kernels the library and the folders of this process, which may start elsewhere."""
    before = dict(os.environ)
    os.environ |= {"MOSAIC_RUN": str(out.absolute()), "MOSAIC_PACKAGE": str(PACKAGE)}
    os.environ["MOSAIC_ROOT"] = str(root())
    if (PACKAGE.parent / "pyproject.toml").exists():  # a clone, and perhaps not the one that is installed
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _ProgressLines(io.StringIO):
    """Prints the lines a notebook writes to a stream, behind ``head``: of its output those of progress."""

    def __init__(self, head: str, progress_only: bool) -> None:
        super().__init__()
        self.head, self.kept = head, PREFIX if progress_only else ""

    def flush(self) -> None:
        *lines, rest = self.getvalue().split("\n")
        self.seek(self.truncate(0))
        self.write(rest)
        for line in (line for line in lines if line and line.startswith(self.kept)):
            _print(self.head, line.removeprefix(PREFIX))


def _remove_progress(notebook: NotebookNode) -> None:
    """Remove the lines of progress that cells wrote; results and warnings stay."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "stream":
                lines = output.text.splitlines(keepends=True)
                output.text = "".join(line for line in lines if not line.startswith(PREFIX))
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text", True)]


class _Run:
    """The record of a run, kept in ``run.json`` as it goes on."""

    def __init__(self, notebooks: Sequence[Path], out: Path, profile: str, command: str) -> None:
        self.out = out
        if (out / RECORD).exists():
            files.require_regular(out / RECORD, remedy="delete it")
        self.earlier = _earlier_seconds(out, profile)
        self.started = time.monotonic()
        self.facts: dict[str, Any] = {"profile": profile, "command": command}
        self.facts |= {"commit": provenance.commit(), "packages": provenance.packages()}
        self.entries: list[dict[str, Any]] = [
            {"name": path.stem, "title": title_of(read_notebook(path), path.stem), "status": "not run"}
            for path in notebooks
        ]
        self.record: dict[str, Any] = {**self.facts, "started": _now(), "ended": None, "seconds": None}
        self.record |= {"process": os.getpid(), "host": socket.gethostname(), "device": None, "data": None}
        shutil.rmtree(out / "figures", ignore_errors=True)
        for path in notebooks:
            for old in (f"{path.stem}.ipynb", f"{path.stem}.html", self._partial(path.stem).name):
                (out / old).unlink(missing_ok=True)

    def _partial(self, name: str) -> Path:
        return self.out / f".{name}.partial.ipynb"

    def execute(self, i: int, notebook: Path, parameters: dict[str, Any]) -> None:
        """Execute one notebook; leave it saved and rendered, whatever happens."""
        name, entry, replies = notebook.stem, self.entries[i], [{"ename": "", "evalue": ""}]
        head = f"[{i + 1}/{len(self.entries)} {name}]"
        entry.update(status="running", parameters=parameters, started=_now())
        self._save("running")
        last = f", took {duration(self.earlier[name])} last time" if name in self.earlier else ""
        _print(f"{head} started{last}")
        start, problem = time.monotonic(), ""
        options: dict[str, Any] = {"kernel_name": "python3", "language": "python", "cwd": notebook.parent}
        options |= {"progress_bar": False, "start_timeout": _START_TIMEOUT}
        options["stdout_file"] = _ProgressLines(head, progress_only=True)
        options["stderr_file"] = _ProgressLines(head, progress_only=False)
        options |= {"extra_arguments": ["--log-level=CRITICAL"]}  # a kernel logs its own end as an error
        options |= {"on_cell_error": lambda execute_reply, **_: replies.append(execute_reply["content"])}
        try:
            papermill.execute_notebook(notebook, self._partial(name), parameters, **options)
        except PapermillExecutionError as error:
            ename, evalue = error.ename, error.evalue
            if not evalue and ename == "CellExecutionError":  # the kernel could not send the error itself
                ename, evalue = replies[-1]["ename"] or ename, replies[-1]["evalue"] or _UNTOLD
            problem = f"{ename} in cell {error.exec_count}: {evalue}"
            if f"[Errno {errno.EMFILE}]" in evalue:
                problem += ": allow more, as with `ulimit -n 4096`"
        except DeadKernelError:
            problem = "its kernel died, as when memory runs out (free some, or use a smaller profile) or too "
            problem += "many files are open (allow more, as with `ulimit -n 4096`)"
        except Exception as error:  # a kernel that does not start, a disk that fills, ...
            problem = _in_words(error)
        entry["seconds"] = round(time.monotonic() - start, 1)
        problem = self._close(entry, "failed" if problem else "finished", problem)
        took = duration(entry["seconds"])
        if problem:
            pages = (self.out / f"{name}.html", self.out / "index.html")
            told = f"see {pages[not pages[0].exists()]} for the traceback"
            raise RunError(f"{name} failed after {took}: {problem}\n{told}")
        _print(f"{head} finished in {took}{self._left(i)}")

    def interrupt(self) -> None:
        """Record that the run ended before its end, unless the record already says why."""
        for entry in self.entries:
            if entry["status"] == "running":
                self._close(entry, "interrupted", "")
        if self.record["status"] == "running":
            self._save("interrupted")

    def _close(self, entry: dict[str, Any], status: str, problem: str) -> str:
        """Record how a notebook ended, keep it and render the pages; return what is wrong, if anything."""
        entry.update(status=status, ended=_now(), error=problem)
        goes_on = status == "finished" and any(one["status"] != "finished" for one in self.entries)
        try:
            self._keep(entry)
            self._save("running" if goes_on else status)
        except (MosaicError, OSError) as error:
            self._partial(entry["name"]).unlink(missing_ok=True)  # makes room on a full disk
            problem = problem or _in_words(error)
            entry.update(status="interrupted" if status == "interrupted" else "failed", error=problem)
            with contextlib.suppress(MosaicError, OSError):
                self._save(entry["status"])
        return problem

    def _keep(self, entry: Mapping[str, Any]) -> None:
        """Save the executed notebook under its final name, with the facts its page shows."""
        partial, notebook = self._partial(entry["name"]), self.out / f"{entry['name']}.ipynb"
        if not partial.exists():
            return
        content = read_notebook(partial)
        content.metadata[KEY] = {**self.facts, "status": entry["status"], "error": entry["error"]}
        _remove_progress(content)
        text = nbformat.writes(content)  # type: ignore[no-untyped-call]
        files.write_text(notebook, public(text, {**self.facts, "notebooks": [entry]}))
        partial.unlink()
        summary = summarize(notebook)
        self.record |= {name: summary.facts[name] for name in ("device", "data") if name in summary.facts}
        self.record["answer"] = summary.answer

    def _save(self, status: str) -> None:
        """Write the record, then the pages, which may fail."""
        self.record["status"] = status
        if status != "running":
            self.record.update(ended=_now(), seconds=round(time.monotonic() - self.started, 1))
        files.write_json(self.out / RECORD, {**self.record, "notebooks": self.entries})
        render_all(self.out)

    def _left(self, i: int) -> str:
        """Estimate the time left from how long the last run of this profile took."""
        todo = [self.earlier.get(entry["name"]) for entry in self.entries[i + 1 :]]
        if None in todo:
            return ", time left unknown (no earlier run of this profile)"
        return f", about {duration(sum(filter(None, todo)))} left" if todo else ""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _in_words(error: Exception) -> str:
    """Return what went wrong in a line."""
    if isinstance(error, MosaicError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk{f' of {error.filename}' if error.filename else ''}: free some"
    return f"{type(error).__name__}: {error}"


def _earlier_seconds(out: Path, profile: str) -> dict[str, float]:
    """Return how long each notebook took when this folder's last run, of the same profile, finished it."""
    try:
        record = read_record(out)
        finished = [one for one in record["notebooks"] if one["status"] == "finished"]
        return {one["name"]: one["seconds"] for one in finished if record["profile"] == profile}
    except (MosaicError, KeyError):  # none, or a damaged one, which this run replaces
        return {}
