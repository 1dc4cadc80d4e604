"""Finished pages: one self-contained HTML file for each executed notebook, and the index of a run.

A page needs no network and no script: styles, images and formulas are inside it.
"""

import datetime
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from nbconvert.exporters import TemplateExporter

from mosaic.report.markdown import Heading, Prose
from mosaic.report.summary import Digest, digest, shown
from mosaic.utils import files
from mosaic.utils.errors import RunError

TEMPLATES = Path(__file__).parent / "templates"
#: A page above this is hard to send and slow on a phone.
MAX_BYTES = 2_000_000
#: The record of a run, beside its pages.
RECORD = "run.json"


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


def _date(stamp: str | None) -> str:
    """Return an ISO 8601 time as ``2026-05-01 12:30 UTC``."""
    if not stamp:
        return ""
    return f"{datetime.datetime.fromisoformat(stamp).astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _environment(environment: jinja2.Environment) -> jinja2.Environment:
    """Give an environment what both templates use."""
    environment.autoescape = True
    environment.filters.update(duration=duration, date=_date, shown=shown)
    environment.globals.update(css=(TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment


def render(
    notebook: Path,
    page: Path,
    *,
    previous: str | None = None,
    following: str | None = None,
    index: bool = False,
) -> Digest:
    """Render an executed notebook, finished or failed.

    Args:
        notebook: the executed notebook.
        page: the HTML file to write, atomically.
        previous: stem of the page before it, in the same folder; no link when None.
        following: stem of the page after it.
        index: whether ``index.html`` lies beside it.

    Returns:
        What the notebook holds.

    Warns:
        UserWarning: when the page is larger than 2 MB.

    Raises:
        SettingsError: when the file is no notebook.
    """
    found = digest(notebook)
    prose = Prose()
    for cell in found.cells:
        if cell.cell_type == "markdown":
            cell.source = prose(cell.source)
    contents = [heading for heading in prose.headings if heading.level in (2, 3)]
    exporter = TemplateExporter(  # type: ignore[no-untyped-call]
        template_paths=[str(TEMPLATES)], template_file="notebook.html.j2", file_extension=".html"
    )
    _environment(exporter.environment)
    shell = nbformat.v4.new_notebook(cells=found.cells)  # type: ignore[no-untyped-call]
    text, _ = exporter.from_notebook_node(
        shell,
        resources={
            "page": found,
            "contents": _contents(found, contents),
            "links": {"index": index, "previous": previous, "following": following},
        },
    )
    files.write_text(page, text)
    if (size := page.stat().st_size) > MAX_BYTES:
        warnings.warn(
            f"{page.name} is {size / 1e6:.1f} MB, above {MAX_BYTES / 1e6:.0f} MB: "
            "show fewer or smaller images, or figures as png or webp instead of svg",
            stacklevel=2,
        )
    return found


def _contents(found: Digest, headings: list[Heading]) -> list[Heading]:
    """Return the table of contents: what the page adds itself stands around the notebook's own headings."""
    before = [Heading(2, "Key results", "key-results")] if found.key_results else []
    after = [Heading(2, "Parameters", "parameters")] if found.settings else []
    after += [Heading(2, "Environment", "environment")] if found.run.get("packages") else []
    after += [Heading(2, "Reproduce", "reproduce")] if found.run.get("command") else []
    return [*before, *headings, *after]


def _in_use(out: Path) -> bool:
    """Whether a run holds the folder."""
    try:
        with files.lock(out):
            return False
    except RunError:
        return True


def render_all(out: Path, names: Collection[str] | None = None) -> Path:
    """Render the pages of a run from its executed notebooks, and the index.

    Args:
        out: folder of the run.
        names: stems of the notebooks whose pages are wanted; all that were executed when None.

    Returns:
        The path of the index.

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
    rows = []
    for entry in planned:
        name = entry["name"]
        if name not in executed:
            rows.append({"title": name, "status": "not run", **entry, "page": None})
            continue
        notebook = out / f"{name}.ipynb"
        if names is None or name in names:
            place = executed.index(name)
            found = render(
                notebook,
                out / f"{name}.html",
                previous=executed[place - 1] if place else None,
                following=executed[place + 1] if place + 1 < len(executed) else None,
                index=True,
            )
        else:
            found = digest(notebook)
        rows.append({**entry, "name": name, "title": found.title, "status": found.status, "page": found})
    loader = jinja2.FileSystemLoader(TEMPLATES)
    template = _environment(jinja2.Environment(loader=loader)).get_template("index.html.j2")
    files.write_text(
        out / "index.html",
        template.render(run={"seconds": None, "ended": None, **record}, rows=rows, folder=out.name),
    )
    return out / "index.html"
