"""The summary of an executed notebook that heads its page: facts, answer, key results, parameters."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from papermill.translators import PythonTranslator

from mosaic.report.display import KEY
from mosaic.report.markdown import Markdown, plain
from mosaic.utils.errors import SettingsError
from mosaic.utils.files import require_regular

_REMEDY = "run it again"


@dataclass
class Summary:
    """Summary of an executed notebook."""

    title: str  # its H1 as text
    status: str = "finished"  # or failed, interrupted, unfinished
    error: str = ""  # what stopped it, one line
    answer: str = ""  # HTML; empty when it states none
    key_results: list[dict[str, str]] = field(default_factory=list)  # html, value and detail each
    facts: dict[str, Any] = field(default_factory=dict)  # of its stamp: seed, device, data, ...
    run: dict[str, Any] = field(default_factory=dict)  # of the runner: profile, command, commit, ...
    parameters: list[dict[str, str]] = field(default_factory=list)  # name, meaning, default and value each
    ended: str | None = None  # ISO 8601, UTC
    seconds: float | None = None
    thumbnail: str | None = None  # headline figure as a data URI
    thumbnail_alt: str = ""
    figure: str = ""  # headline figure as HTML, once its page is rendered
    not_run: int = 0  # code cells after the last one executed


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook; SettingsError when it is missing or is none."""
    require_regular(path, SettingsError, _REMEDY)
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises many kinds
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"cannot read {path} as a notebook ({told[:200]}): {_REMEDY}") from error
    return notebook


def title_of(notebook: NotebookNode, default: str) -> str:
    """Return the text of a notebook's first H1."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^# +(.+)$", cell.source, re.MULTILINE)):
            return plain(Markdown()(match.group(1)))
    return default


def summarize(path: Path) -> Summary:
    """Read an executed notebook and summarise it; SettingsError when it is missing or is none."""
    notebook = read_notebook(path)
    timing = notebook.metadata.get("papermill", {})
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    executed = [cell for cell in code if cell.execution_count is not None]
    summary = Summary(
        title=title_of(notebook, path.stem),
        run=notebook.metadata.get(KEY, {}),
        parameters=_parameters(notebook, timing.get("parameters", {})),
        ended=timing.get("end_time"),
        seconds=timing.get("duration"),
        not_run=len(code) - len(executed),
    )
    if summary.not_run or (timing and not summary.ended):
        summary.status = "unfinished"
    if summary.run.get("status", "finished") != "finished":  # a dead kernel leaves no traceback
        summary.status, summary.error = summary.run["status"], summary.run.get("error", "")
    for cell in executed:
        for output in cell.outputs:
            if output.output_type == "error":
                message = strip_ansi(output.evalue)  # type: ignore[no-untyped-call]
                summary.status = "failed"
                summary.error = f"{output.ename}: {message} (cell {cell.execution_count})"
                continue
            content = output.get("metadata", {}).get(KEY, {})
            match content.get("role"):
                case "answer":
                    summary.answer = content["html"]
                case "key_result":
                    summary.key_results.append(content)
                case "stamp":
                    summary.facts.update(content["facts"])
                case "figure" if "thumbnail" in content:
                    summary.thumbnail, summary.thumbnail_alt = content["thumbnail"], content["alt"]
    return summary


def _parameters(notebook: NotebookNode, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what the cell of parameters declares; values are Python literals."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters = []
    for declared in PythonTranslator.inspect(cells[0]) if cells else []:
        default = ast.literal_eval(declared.default)
        shown = {"default": repr(default), "value": repr(given.get(declared.name, default))}
        parameters.append({"name": declared.name, "meaning": declared.help, **shown})
    return parameters
