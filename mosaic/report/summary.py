"""What an executed notebook holds, sorted for its page: facts, answer, key results, cells worth showing."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from mosaic.report.display import KEY
from mosaic.report.markdown import Prose, mathml, plain, scroll_box
from mosaic.report.parameters import parameters_of, read_notebook

#: Tags of cells whose content the page shows elsewhere, or that papermill adds around an error.
_LEFT_OUT = {"parameters", "injected-parameters", "papermill-error-cell-tag"}
_HOISTED = {"answer", "key_result", "stamp"}
_BAR = re.compile(r"\d+%\|.*\|")  # a progress bar of tqdm


@dataclass(frozen=True)
class Setting:
    """One row of the table of parameters, its values as Python literals."""

    name: str
    meaning: str
    annotation: str
    default: str
    value: str

    @property
    def changed(self) -> bool:
        """Whether the run's value differs from the notebook's default."""
        return self.value != self.default


@dataclass
class Digest:
    """An executed notebook, sorted.

    Attributes:
        name: file stem.
        title: its H1 as text.
        status: ``finished``, ``failed``, ``interrupted`` or ``unfinished``.
        error: what stopped it, one line; empty unless failed.
        answer: its one-sentence answer, HTML; empty when it states none.
        key_results: ``{"html", "value", "detail"}`` each.
        facts: what its stamp recorded: seed, device, data, ...
        run: what the runner recorded: profile, command, commit, packages, ...
        settings: its parameters.
        ended: when it ended, ISO 8601 in UTC, or None.
        seconds: how long it ran, or None.
        thumbnail: headline figure as a data URI, or None.
        thumbnail_alt: its alt text.
        cells: the cells that the page shows, in order.
        not_run: number of code cells after the last one executed.
    """

    name: str
    title: str
    status: str = "finished"
    error: str = ""
    answer: str = ""
    key_results: list[dict[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    settings: list[Setting] = field(default_factory=list)
    ended: str | None = None
    seconds: float | None = None
    thumbnail: str | None = None
    thumbnail_alt: str = ""
    cells: list[NotebookNode] = field(default_factory=list)
    not_run: int = 0


def title_of(notebook: NotebookNode, default: str) -> str:
    """Return the text of a notebook's first H1."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^# +(.+)$", cell.source, re.MULTILINE)):
            return plain(Prose()(match.group(1)))
    return default


def digest(path: Path) -> Digest:
    """Read an executed notebook and sort what it holds.

    Raises:
        SettingsError: when the file is no notebook.
    """
    notebook = read_notebook(path)
    timing = notebook.metadata.get("papermill", {})
    found = Digest(
        name=path.stem,
        title=title_of(notebook, path.stem),
        run=notebook.metadata.get(KEY, {}),
        settings=_settings(notebook, timing.get("parameters", {})),
        ended=timing.get("end_time"),
        seconds=timing.get("duration"),
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    executed = [cell for cell in code if cell.execution_count is not None]
    found.not_run = len(code) - len(executed)
    last = notebook.cells.index(executed[-1]) if found.not_run and executed else len(notebook.cells) - 1
    found.cells = [
        cell
        for cell in notebook.cells[: last + 1]
        if cell.source.strip() and not _LEFT_OUT & set(cell.metadata.get("tags", []))
    ]
    if found.not_run or (timing and not found.ended):
        found.status = "unfinished"
    for cell in executed:
        for output in cell.outputs:
            _note(found, cell, output)
    recorded = found.run.get("status", "finished")
    if not found.error and recorded != "finished":  # a dead kernel or an interruption leaves no traceback
        found.status, found.error = recorded, found.run.get("error", "")
    return found


def _settings(notebook: NotebookNode, given: Mapping[str, Any]) -> list[Setting]:
    return [
        Setting(name, own.comment, own.annotation, repr(own.default), repr(given.get(name, own.default)))
        for name, own in parameters_of(notebook).items()
    ]


def _note(found: Digest, cell: NotebookNode, output: NotebookNode) -> None:
    """Take from one output what belongs to the head of the page."""
    if output.output_type == "error":
        found.status = "failed"
        found.error = f"{output.ename}: {_plain(output.evalue)} (cell {cell.execution_count})"
        return
    content = output.get("metadata", {}).get(KEY, {})
    match content.get("role"):
        case "answer":
            found.answer = content["html"]
        case "key_result":
            found.key_results.append(content)
        case "stamp":
            found.facts.update(content["facts"])
        case "figure" if "thumbnail" in content:
            found.thumbnail, found.thumbnail_alt = content["thumbnail"], content["alt"]


def shown(output: NotebookNode) -> str:
    """Return one output as HTML; empty for what a reader does not need.

    Left out are standard error, progress bars, widgets, and what the head of the page shows already.
    """
    if output.output_type == "error":
        return f'<pre class="error" tabindex="0">{html.escape(_plain(chr(10).join(output.traceback)))}</pre>'
    if output.output_type == "stream":
        return _block(_settled(output.text)) if output.name == "stdout" else ""
    if output.get("metadata", {}).get(KEY, {}).get("role") in _HOISTED:
        return ""
    data = output.data
    if "application/vnd.jupyter.widget-view+json" in data:
        return ""
    if "text/html" in data:
        content = str(data["text/html"])
        return content if content.startswith("<figure") else scroll_box(content, "Output")
    if "text/markdown" in data:
        return Prose()(data["text/markdown"])
    if "text/latex" in data:
        return mathml(data["text/latex"].strip("$ \n"), block=True)
    alt = "A figure without description"
    if "image/svg+xml" in data:
        return f'<img alt="{alt}" src="data:image/svg+xml,{quote(data["image/svg+xml"])}">'
    for kind in ("image/png", "image/jpeg", "image/webp"):
        if kind in data:
            return f'<img alt="{alt}" src="data:{kind};base64,{data[kind].replace(chr(10), "")}">'
    return _block(data.get("text/plain", ""))


def _settled(text: str) -> str:
    """Return what a terminal would show in the end: carriage returns overwrite, bars vanish."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in _plain(text).split("\n"))
    return "\n".join(line for line in lines if not _BAR.search(line)).strip("\n")


def _plain(text: str) -> str:
    """Return text without the escape codes of a terminal."""
    return strip_ansi(text)  # type: ignore[no-untyped-call]


def _block(text: str) -> str:
    return f'<pre class="text">{html.escape(text)}</pre>' if text.strip() else ""
