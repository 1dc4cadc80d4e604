"""Pages that need no network and no script: one HTML file an executed notebook, and the index of a run."""

import contextlib
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
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


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
        run = summary.run
        sections = {"Parameters": summary.parameters, "Environment": run.get("packages")}
        sections["Reproduce"] = run.get("command")
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
    """Render an executed notebook, finished or failed, as an HTML file beside it, and return its summary.

    ``links`` are the stems of the ``previous`` and the ``following`` page of the run, None where there is no
    such page; a page without ``links`` belongs to no run.

    Warns:
        UserWarning: when the page is larger than 2 MB.

    Raises:
        SettingsError: when the file is no notebook.
    """
    summary, page = summarize(notebook), notebook.with_suffix(".html")
    resources = {"page": summary, "links": links}
    text, _ = _exporter().from_notebook_node(read_notebook(notebook), resources=resources)
    files.write_text(page, text)
    if (size := page.stat().st_size) > MAX_BYTES:
        told = f"{page.name} is {size / 1e6:.1f} MB, above {MAX_BYTES / 1e6:.0f} MB: show fewer or smaller"
        warnings.warn(f"{told} images, or figures as png or webp instead of svg", stacklevel=2)
    return summary


def render_all(out: Path) -> Path:
    """Render the pages of the run in folder ``out`` and their index, and return the path of the index.

    Raises:
        RunError: when the folder holds no executed notebook.
    """
    record: dict[str, Any] = files.read_json(out / RECORD) if (out / RECORD).exists() else {}
    if record.get("status") == "running":
        with contextlib.suppress(RunError), files.lock(out):  # no run holds the folder: it was killed
            for entry in [record, *record["notebooks"]]:
                entry["status"] = entry["status"].replace("running", "interrupted")
    planned = record.get("notebooks") or [{"name": path.stem} for path in sorted(out.glob("*.ipynb"))]
    if not planned:
        raise RunError(f"{out} holds no executed notebook: make some with `make study`")
    executed = [entry["name"] for entry in planned if (out / f"{entry['name']}.ipynb").exists()]
    pages = {}
    for previous, name, following in zip([None, *executed], executed, [*executed[1:], None], strict=False):
        pages[name] = render(out / f"{name}.ipynb", {"previous": previous, "following": following})
    rows = [{"title": entry["name"], "status": "not run", **entry, "page": None} for entry in planned]
    for row in rows:
        if page := pages.get(row["name"]):
            row.update(title=page.title, status=page.status, page=page)
    template = _exporter().environment.get_template("index.html.j2")
    run = {"seconds": None, "ended": None, **record}
    files.write_text(out / "index.html", template.render(run=run, rows=rows, folder=out.name))
    return out / "index.html"
