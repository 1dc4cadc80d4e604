"""Finished pages: one self-contained HTML file for each executed notebook, and the index of a run.

A page needs no network and no script: styles, images and formulas are inside it.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbconvert.exporters import TemplateExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor, Preprocessor
from nbformat import NotebookNode

from mosaic.report.markdown import Heading, Markdown, mathml, scroll_box
from mosaic.report.summary import Summary, read_notebook, summarize
from mosaic.utils import files
from mosaic.utils.errors import RunError

TEMPLATES = Path(__file__).parent / "templates"
#: A page above this is hard to send and slow on a phone.
MAX_BYTES = 2_000_000
#: The record of a run, beside its pages.
RECORD = "run.json"
#: Tags of cells whose content the page shows elsewhere, or that papermill adds around an error.
_HIDDEN_TAGS = {"parameters", "injected-parameters", "papermill-error-cell-tag"}


def duration(seconds: float | None) -> str:
    """Return seconds in words: ``41 s``, ``12 min 03 s``, ``1 h 05 min``."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _PagePreprocessor(Preprocessor):
    """Keep the cells that a page shows, render their Markdown and collect the table of contents."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        summary: Summary = resources["page"]
        executed = [i for i, cell in enumerate(nb.cells) if cell.get("execution_count") is not None]
        end = max(executed) + 1 if summary.not_run and executed else None
        nb.cells = [
            cell
            for cell in nb.cells[:end]
            if cell.source.strip() and not _HIDDEN_TAGS & set(cell.metadata.get("tags", []))
        ]
        markdown = Markdown()
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = markdown(cell.source)
        sections = {
            "Parameters": summary.parameters,
            "Environment": summary.run.get("packages"),
            "Reproduce": summary.run.get("command"),
        }
        resources["contents"] = [
            *([Heading(2, "Key results", "key-results")] if summary.key_results else []),
            *(heading for heading in markdown.headings if heading.level in (2, 3)),
            *(Heading(2, title, title.lower()) for title, content in sections.items() if content),
        ]
        return nb, resources


def _exporter() -> TemplateExporter:
    exporter = TemplateExporter(  # type: ignore[no-untyped-call]
        template_paths=[str(TEMPLATES)],
        template_file="notebook.html.j2",
        preprocessors=[CoalesceStreamsPreprocessor, _PagePreprocessor],
        filters={
            "duration": duration,
            "markdown": lambda source: Markdown()(source),
            "mathml": lambda tex: mathml(tex.strip("$ \n"), block=True),
            "scroll_box": scroll_box,
        },
    )
    exporter.environment.autoescape = True
    exporter.environment.globals.update(css=(TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return exporter


def render(notebook: Path, links: Mapping[str, str | None] | None = None) -> Summary:
    """Render an executed notebook, finished or failed, as an HTML file beside it.

    Args:
        notebook: the executed notebook.
        links: stems of the ``previous`` and the ``following`` page of the run, or None where there is no
            such page; a page without ``links`` belongs to no run.

    Returns:
        The summary of the notebook.

    Warns:
        UserWarning: when the page is larger than 2 MB.

    Raises:
        SettingsError: when the file is no notebook.
    """
    summary, page = summarize(notebook), notebook.with_suffix(".html")
    text, _ = _exporter().from_notebook_node(
        read_notebook(notebook), resources={"page": summary, "links": links}
    )
    files.write_text(page, text)
    if (size := page.stat().st_size) > MAX_BYTES:
        warnings.warn(
            f"{page.name} is {size / 1e6:.1f} MB, above {MAX_BYTES / 1e6:.0f} MB: "
            "show fewer or smaller images, or figures as png or webp instead of svg",
            stacklevel=2,
        )
    return summary


def _in_use(out: Path) -> bool:
    """Return whether a run holds the folder."""
    try:
        with files.lock(out):
            return False
    except RunError:
        return True


def render_all(out: Path) -> Path:
    """Render the pages of the run in folder ``out`` and their index, and return the path of the index.

    Raises:
        RunError: when the folder holds no executed notebook.
    """
    record: dict[str, Any] = files.read_json(out / RECORD) if (out / RECORD).exists() else {}
    if record.get("status") == "running" and not _in_use(out):  # the runner was killed
        for entry in [record, *record["notebooks"]]:
            entry["status"] = entry["status"].replace("running", "interrupted")
    planned = record.get("notebooks") or [{"name": path.stem} for path in sorted(out.glob("*.ipynb"))]
    if not planned:
        raise RunError(f"{out} holds no executed notebook: make some with `make study`")
    executed = [entry["name"] for entry in planned if (out / f"{entry['name']}.ipynb").exists()]
    neighbours = [None, *executed, None]
    rows = []
    for entry in planned:
        name = entry["name"]
        if name not in executed:
            rows.append({"title": name, "status": "not run", **entry, "page": None})
            continue
        i = executed.index(name)
        links = {"previous": neighbours[i], "following": neighbours[i + 2]}
        summary = render(out / f"{name}.ipynb", links)
        rows.append({**entry, "title": summary.title, "status": summary.status, "page": summary})
    template = _exporter().environment.get_template("index.html.j2")
    run = {"seconds": None, "ended": None, **record}
    files.write_text(out / "index.html", template.render(run=run, rows=rows, folder=out.name))
    return out / "index.html"
