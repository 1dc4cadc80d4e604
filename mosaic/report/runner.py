"""Executing the notebooks of a run in order, with papermill, and a page for each as soon as it ends."""

import contextlib
import datetime
import functools
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from mosaic.report.html import RECORD, duration, render_all
from mosaic.report.summary import read_notebook, summarize, title_of
from mosaic.utils import files
from mosaic.utils.errors import RunError
from mosaic.utils.progress import PREFIX

_START_TIMEOUT = 180  # seconds a kernel may take to start on a busy machine
Log = Callable[[str], None]
_PRINT = functools.partial(print, flush=True)


def run(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    profile: str,
    command: str,
    log: Log = _PRINT,
) -> Path:
    """Execute notebooks in order; save and render each as soon as it ends, and return the path of the index.

    The folder ``out`` holds, for each notebook, ``<name>.ipynb`` as executed and ``<name>.html``; and
    ``index.html`` and ``run.json`` for the run. Pages of an earlier run are removed when this one starts.
    ``parameters`` are validated values by the file stem of the notebook; the pages show ``profile``, the name
    of the settings, and ``command``, which reproduces the run; ``log`` receives each line of progress.

    Raises:
        RunError: when the folder is in use or cannot be written, or when a notebook fails; its page is
            rendered and named, and the notebooks after it are marked as not run.
    """
    # A kernel "python3" of another environment may be installed for the user: this interpreter's goes first.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    with files.lock(out), _handed_on(out):
        run = _Run(notebooks, out, profile, command, log)
        for i, notebook in enumerate(notebooks):
            run.execute(i, notebook, dict(parameters.get(notebook.stem, {})))
        index = run.save("finished")
    log(str(index))
    return index


@contextlib.contextmanager
def _handed_on(out: Path) -> Iterator[None]:
    """Give kernels the library and the folders of this process, which may start elsewhere."""
    handed = {"MOSAIC_RUN": str(out.absolute()), "MOSAIC_PACKAGE": str(PACKAGE), "MOSAIC_ROOT": str(root())}
    if (PACKAGE.parent / "pyproject.toml").exists():  # a clone, and perhaps not the one that is installed
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        handed["PYTHONPATH"] = os.pathsep.join(paths)
    before = {name: os.environ.get(name) for name in handed}
    os.environ.update(handed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


class _ProgressLines(io.StringIO):
    """Passes on what a notebook writes to standard error, line by line."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def flush(self) -> None:
        *lines, rest = self.getvalue().split("\n")
        self.seek(self.truncate(0))
        self.write(rest)
        for line in filter(None, lines):
            self.log(line.removeprefix(PREFIX))


def _remove_progress(notebook: NotebookNode) -> None:
    """Remove the lines of progress that cells wrote to standard error; warnings stay."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                lines = output.text.splitlines(keepends=True)
                output.text = "".join(line for line in lines if not line.startswith(PREFIX))
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text", True)]


class _Run:
    """The record of a run, kept in ``run.json`` as it goes on."""

    def __init__(self, notebooks: Sequence[Path], out: Path, profile: str, command: str, log: Log) -> None:
        self.out, self.log = out, log
        self.earlier = _earlier_seconds(out, profile)
        self.started = time.monotonic()
        self.facts: dict[str, Any] = {"profile": profile, "command": command}
        self.facts |= {"commit": provenance.commit(), "packages": provenance.packages()}
        self.entries: list[dict[str, Any]] = [
            {"name": path.stem, "title": title_of(read_notebook(path), path.stem), "status": "not run"}
            for path in notebooks
        ]
        self.record: dict[str, Any] = {**self.facts, "started": _now()}
        self.record |= {"ended": None, "seconds": None, "device": None, "data": None}
        for path in notebooks:
            for old in (f"{path.stem}.ipynb", f"{path.stem}.html", f".{path.stem}.partial.ipynb"):
                (out / old).unlink(missing_ok=True)

    def execute(self, i: int, notebook: Path, parameters: dict[str, Any]) -> None:
        """Execute one notebook; leave it saved and rendered, whatever happens."""
        name, entry = notebook.stem, self.entries[i]
        head = f"[{i + 1}/{len(self.entries)} {name}]"
        partial = self.out / f".{name}.partial.ipynb"
        entry.update(status="running", parameters=parameters, started=_now())
        self.save("running")
        last = f", took {duration(self.earlier[name])} last time" if name in self.earlier else ""
        self.log(f"{head} started{last}")
        start = time.monotonic()
        status, problem = "failed", ""
        options = {"kernel_name": "python3", "language": "python", "cwd": notebook.parent}
        options |= {"progress_bar": False, "start_timeout": _START_TIMEOUT}
        options |= {"stderr_file": _ProgressLines(lambda line: self.log(f"{head} {line}"))}
        options |= {"extra_arguments": ["--log-level=CRITICAL"]}  # a kernel logs its own end as an error
        try:
            papermill.execute_notebook(notebook, partial, parameters, **options)
            status = "finished"
        except PapermillExecutionError as error:
            problem = f"{error.ename} in cell {error.exec_count}: {error.evalue}"
        except DeadKernelError:
            problem = "its kernel died, as when memory runs out: free some or use a smaller profile"
        except Exception as error:  # a kernel that does not start, a disk that fills, ...
            problem = f"{type(error).__name__}: {error}"
        except BaseException:
            status = "interrupted"
            raise
        finally:
            seconds = round(time.monotonic() - start, 1)
            entry.update(status=status, seconds=seconds, ended=_now(), error=problem)
            self._keep(partial, entry)
            index = self.save("running" if status == "finished" else status)
        if problem:
            page = self.out / f"{name}.html"
            told = f"see {page if page.exists() else index} for the traceback"
            raise RunError(f"{name} failed after {duration(seconds)}: {problem}\n{told}")
        self.log(f"{head} finished in {duration(seconds)}{self._left(i)}")

    def _keep(self, partial: Path, entry: Mapping[str, Any]) -> None:
        """Save the executed notebook under its final name, with the facts its page shows."""
        if not partial.exists():
            return
        content = read_notebook(partial)
        content.metadata[KEY] = {**self.facts, "status": entry["status"], "error": entry["error"]}
        _remove_progress(content)
        notebook = self.out / f"{entry['name']}.ipynb"
        files.write_text(notebook, nbformat.writes(content))  # type: ignore[no-untyped-call]
        partial.unlink()
        facts = summarize(notebook).facts
        self.record |= {name: facts[name] for name in ("device", "data") if name in facts}

    def save(self, status: str) -> Path:
        """Write the record and render the pages."""
        self.record["status"] = status
        if status != "running":
            self.record.update(ended=_now(), seconds=round(time.monotonic() - self.started, 1))
        files.write_json(self.out / RECORD, {**self.record, "notebooks": self.entries})
        return render_all(self.out)

    def _left(self, i: int) -> str:
        """Estimate the time left from how long the last run of this profile took."""
        todo = [self.earlier.get(entry["name"]) for entry in self.entries[i + 1 :]]
        if None in todo:
            return ", time left unknown (no earlier run of this profile)"
        return f", about {duration(sum(filter(None, todo)))} left" if todo else ""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _earlier_seconds(out: Path, profile: str) -> dict[str, float]:
    """Return how long each notebook took when this folder's last run, of the same profile, finished it."""
    record = files.read_json(out / RECORD) if (out / RECORD).exists() else {}
    if record.get("profile") != profile:
        return {}
    return {entry["name"]: entry["seconds"] for entry in record["notebooks"] if entry["status"] == "finished"}
