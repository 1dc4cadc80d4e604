"""Pages that need no network: one HTML file an executed notebook, the index of a run, the list of runs."""

import base64
import contextlib
import functools
import hashlib
import os
import re
import shlex
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from nbconvert.exporters import TemplateExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor, Preprocessor
from nbformat import NotebookNode

from mosaic.experiments.study import PACKAGE, root
from mosaic.report.display import KEY
from mosaic.report.markdown import Markdown, mathml, scroll_box
from mosaic.report.summary import Summary, read_notebook, summarize
from mosaic.utils import files
from mosaic.utils.errors import MosaicError, RunError

TEMPLATES = Path(__file__).parent / "templates"
#: A page above this is hard to send and slow on a phone.
MAX_BYTES = 2_000_000
#: The record of a run, beside its pages: the only one of its files that holds absolute paths.
RECORD = "run.json"
#: Files of a run that its pages link to, where they exist.
_TABLES = ("results.parquet", "claims.json", RECORD)
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


def public(text: str, record: Mapping[str, Any]) -> str:
    """Return a text without absolute paths.

    What lies in the project is named relative to it, and another path that the run of a ``record`` was given
    by its last folder.
    """

    def without(folder: str, instead: str) -> str:
        if folder not in text:  # a pattern takes long to search megabytes of images
            return text
        pattern = rf"(?<![\w.~-]){re.escape(folder)}(/|(?![\w.-]))"
        return re.sub(pattern, lambda found: instead + found[1] if instead else "" if found[1] else ".", text)

    for folder in dict.fromkeys([str(root()), str(PACKAGE.parent)]):
        text = without(folder, "")
    given = [word.rpartition("=")[2] for word in shlex.split(record.get("command") or "")]
    for entry in record.get("notebooks", []):
        for value in entry.get("parameters", {}).values():
            given += value if isinstance(value, list) else [value]
    for path in sorted({str(one).rstrip("/") for one in given if str(one).startswith("/")}, key=len)[::-1]:
        text = without(path, Path(path).name)
    return without(os.path.expanduser("~"), "~")


class _PagePreprocessor(Preprocessor):
    """Keep the cells that a page shows, render their Markdown and collect their headings."""

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
        outputs = (output for cell in nb.cells for output in cell.get("outputs", []))
        figures = (one for one in outputs if one.get("metadata", {}).get(KEY, {}).get("role") == "figure")
        for i, one in enumerate(figures, 1):
            one.data["text/html"] = _with_file(one.data["text/html"], f"{resources['path']}-{i}")
            if "thumbnail" in one.metadata[KEY]:
                summary.figure = one.data["text/html"]
        resources["headings"] = [heading for heading in markdown.headings if heading.level in (2, 3)]
        return nb, resources


def _with_file(figure: str, path: str) -> str:
    """Write the image of a figure to ``figures/`` beside its page, and link it."""
    match = re.search(r'src="data:image/(\w+)(?:\+xml)?(;base64)?,([^"]*)"', figure)
    if match is None:
        return figure
    kind, is_base64, content = match.groups()
    file = Path(path).parent / "figures" / f"{Path(path).name}.{kind}"
    with files.atomic_path(file) as partial:
        partial.write_bytes(base64.b64decode(content) if is_base64 else unquote_to_bytes(content))
    href = f'href="figures/{file.name}"'
    figure = re.sub("(<img[^>]*>)", rf'<a class="enlarge" {href}>\1</a>', figure, count=1)
    return figure.replace(
        "</figcaption>", f' <a class="file" {href} download>{kind.upper()}</a></figcaption>'
    )


@functools.cache  # templates are compiled once
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
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    exporter.environment.globals.update(css=css, script=script, digest=digest)
    return exporter


def render(
    notebook: Path, links: Mapping[str, str | None] | None = None, record: Mapping[str, Any] | None = None
) -> Summary:
    """Render an executed notebook, finished or failed, as an HTML file beside it, and return its summary.

    ``links`` are the stems of the ``previous`` and the ``following`` page of the run, None where there is no
    such page; a page without ``links`` belongs to no run. ``record`` is that of its run. ``UserWarning`` for
    a page above 2 MB, ``SettingsError`` for a file that is no notebook.
    """
    summary, page = summarize(notebook), notebook.with_suffix(".html")
    tables = [name for name in _TABLES if (notebook.parent / name).exists()]
    resources = {"page": summary, "links": links, "path": str(page.with_suffix("")), "tables": tables}
    text, made = _exporter().from_notebook_node(read_notebook(notebook), resources=resources)
    summary.figure = made["page"].figure  # the exporter copies its resources
    files.write_text(page, public(text, record or {}))
    if (size := page.stat().st_size) > MAX_BYTES:
        told = f"{page.name} is {size / 1e6:.1f} MB, above {MAX_BYTES / 1e6:.0f} MB: show fewer or smaller"
        warnings.warn(f"{told} images, or figures as png or webp instead of svg", stacklevel=2)
    return summary


def read_record(out: Path) -> dict[str, Any]:
    """Return the record of the run in folder ``out``, {} without one; ``RunError`` when it is damaged.

    That of a run which was killed is corrected.
    """
    if not (out / RECORD).exists():
        return {}
    keys, remedy = {"status": str, "notebooks": list}, "run it again, or delete the file"
    record: dict[str, Any] = files.read_json(out / RECORD, keys=keys, build=_checked, remedy=remedy)
    if record["status"] == "running" and record.get("host") in (None, socket.gethostname()):
        with contextlib.suppress(RunError), files.lock(out):  # no run holds the folder: it was killed
            for entry in [record, *record["notebooks"]]:
                entry["status"] = entry["status"].replace("running", "interrupted")
            files.write_json(out / RECORD, record)
    return record


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    for entry in record["notebooks"]:
        entry["name"], entry["status"]
    return record


def render_all(out: Path) -> Path:
    """Render the pages of the run in folder ``out`` and their index, and return the path of the index.

    ``RunError`` when the folder holds no executed notebook, or the record of the run is damaged.
    """
    record = read_record(out)
    planned = record.get("notebooks") or [{"name": path.stem} for path in sorted(out.glob("*.ipynb"))]
    if not planned:
        raise RunError(f"{out} holds no executed notebook: make some with `make study`")
    executed = [entry["name"] for entry in planned if (out / f"{entry['name']}.ipynb").exists()]
    pages = {}
    for previous, name, following in zip([None, *executed], executed, [*executed[1:], None], strict=False):
        pages[name] = render(out / f"{name}.ipynb", {"previous": previous, "following": following}, record)
    rows = [{"title": entry["name"], "status": "not run", **entry, "page": None} for entry in planned]
    for row in rows:
        if page := pages.get(row["name"]):
            row.update(title=page.title, status=page.status, page=page)
    run = {"seconds": None, "ended": None, **record}
    template, listed = _exporter().environment.get_template("index.html.j2"), out.parent.name == "reports"
    index = template.render(run=run, rows=rows, folder=out.name, listed=listed)
    files.write_text(out / "index.html", public(index, record))
    if listed:
        _list_runs(out.parent)
    return out / "index.html"


def _list_runs(reports: Path) -> None:
    """Write the page that lists all runs; the pages of one that was killed are made anew."""
    runs = []
    for path in reports.glob(f"*/{RECORD}"):
        with contextlib.suppress(MosaicError, OSError):
            runs.append({"name": path.parent.name, "started": "", "profile": ""} | read_record(path.parent))
            index = path.parent / "index.html"
            told = index.exists() and index.stat().st_mtime >= path.stat().st_mtime
            if runs[-1]["status"] == "interrupted" and not told:
                render_all(path.parent)
    runs.sort(key=lambda run: str(run["started"]), reverse=True)
    template = _exporter().environment.get_template("runs.html.j2")
    files.write_text(reports / "index.html", template.render(runs=runs))
