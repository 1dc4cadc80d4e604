"""What notebooks call to show things, so that JupyterLab and the report both show them well.

Each function emits one notebook output whose metadata holds ``{"mosaic": {"role": ...}}``; the report reads
that and nothing else. No state is kept here.
"""

import base64
import html
import io
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from mosaic.report.markdown import inline, plain, scroll_box
from mosaic.utils import files

#: Key of the output metadata which the report reads.
KEY = "mosaic"
Format = Literal["svg", "png", "jpeg", "webp"]
Best = Literal["max", "min"]
_DPI = 150  # of raster figures
_CSS_DPI = 96  # CSS pixels in an inch
_DIGITS = 3
_LONG = 24  # characters of text above which a column is given room
_THUMBNAIL_WIDTH = 480  # pixels; shown at half of that


def _emit(role: str, text_html: str, text_plain: str, **content: Any) -> None:
    data = {"text/html": text_html, "text/plain": text_plain}
    display(data, raw=True, metadata={KEY: {"role": role, **content}})  # type: ignore[no-untyped-call]


def counted(number: int, noun: str) -> str:
    """Return ``"1 seed"``, ``"3 seeds"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ------------------------------------------------------------------------------------------------ figures


def figure(
    fig: Figure,
    caption: str,
    alt: str,
    *,
    name: str | None = None,
    format: Format = "svg",
    headline: bool = False,
    folder: Path | None = None,
) -> None:
    """Show a figure with its caption, and close it.

    Args:
        fig: a matplotlib figure.
        caption: what the figure shows, as a finding; Markdown and ``$formulas$`` allowed.
        alt: what somebody who cannot see it needs to know of it.
        name: file stem; needed with ``folder``.
        format: ``svg`` for lines and bars, ``png`` (150 dpi) for scatter, ``webp`` or ``jpeg`` for imagery.
        headline: whether it stands for the notebook on the index page.
        folder: where a copy is kept as ``<name>.<format>``; no copy when None.

    Raises:
        ValueError: when caption or alt text is empty, or ``folder`` is given without ``name``.
    """
    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption (the finding) and an alt text (what it shows)")
    content, width, height = _encode(fig, format)
    if folder is not None:
        if name is None:
            raise ValueError("a figure kept in a folder needs a name")
        with files.atomic_path(folder / f"{name}.{format}") as partial:
            partial.write_bytes(content)
    extra = {"thumbnail": _data_uri(_thumbnail(fig), "webp"), "alt": alt} if headline else {}
    plt.close(fig)
    image = (
        f'<img src="{_data_uri(content, format)}" alt="{html.escape(alt)}" width="{width}" height="{height}">'
    )
    _emit(
        "figure",
        f'<figure class="image">{image}<figcaption>{inline(caption)}</figcaption></figure>',
        f"Figure: {caption}",
        **extra,
    )


def _encode(fig: Figure, format: Format) -> tuple[bytes, int, int]:
    """Return the file's bytes and its natural width and height in CSS pixels."""
    buffer = io.BytesIO()
    if format == "svg":
        # A fixed salt and no date: the same figure gives the same bytes.
        with mpl.rc_context({"svg.hashsalt": "mosaic", "svg.fonttype": "path"}):
            fig.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        content = buffer.getvalue()
        box = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', content)  # points
        width, height = (float(side) * _CSS_DPI / 72 for side in box.groups()) if box else (640.0, 480.0)
        return content, round(width), round(height)
    options = {} if format == "png" else {"quality": 85}
    fig.savefig(buffer, format=format, dpi=_DPI, bbox_inches="tight", pil_kwargs=options)
    across, down = Image.open(buffer).size
    return buffer.getvalue(), round(across * _CSS_DPI / _DPI), round(down * _CSS_DPI / _DPI)


def _thumbnail(fig: Figure) -> bytes:
    """Return the figure as a small WebP."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    image = Image.open(buffer).convert("RGB")
    image.thumbnail((_THUMBNAIL_WIDTH, _THUMBNAIL_WIDTH), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.save(small, format="webp", quality=80)
    return small.getvalue()


def _data_uri(content: bytes, format: Format) -> str:
    """Return an image as a data URI; SVG is percent-encoded, which is a fifth smaller than base64."""
    if format == "svg":
        text = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", content.decode("utf-8"), flags=re.DOTALL)
        text = re.sub(r"\s+", " ", text)
        return "data:image/svg+xml," + quote(text.replace('"', "'"), safe=" !$'()*+,-./:;=?@[]_~{}|")
    return f"data:image/{format};base64,{base64.b64encode(content).decode('ascii')}"


# ------------------------------------------------------------------------------------------------- tables


def table(
    frame: pd.DataFrame,
    caption: str,
    *,
    best: Best | Mapping[Any, Best] | None = None,
    by_row: bool = False,
    digits: int | Mapping[Any, int] = _DIGITS,
) -> None:
    """Show a data frame as an accessible table.

    A cell may be a tuple ``(value, low, high)``, shown as ``0.812 [0.790, 0.833]`` and ranked by its value.
    A default index is left out, and the first column names the rows instead.

    Args:
        frame: what to show, one row a line.
        caption: what the table shows, as a finding; Markdown and ``$formulas$`` allowed.
        best: which value of a numeric column is marked, by a star as well as by weight: one word for all
            columns, or one for each column named; nothing is marked when None. Ties are all marked.
        by_row: compare within each row, among the columns that ``best`` covers, not within each column.
        digits: decimals of floating-point numbers: one number for all columns, or one for each column named.

    Raises:
        ValueError: when the caption is empty, or ``best`` names a column that does not exist.
    """
    if not caption.strip():
        raise ValueError("a table needs a caption (the finding)")
    if not isinstance(frame.index, pd.RangeIndex):
        levels = frame.index.nlevels
        frame = frame.reset_index(names=[name or "" for name in frame.index.names])
    else:
        levels = 1
    wanted = best if isinstance(best, Mapping) else dict.fromkeys(frame.columns[levels:], best)
    if unknown := [column for column in wanted if column not in frame.columns]:
        raise ValueError(f"best names {unknown}, but the columns are {list(frame.columns)}")

    places = digits if isinstance(digits, Mapping) else dict.fromkeys(frame.columns, digits)
    values = [[_value(cell) for cell in row] for row in frame.itertuples(index=False, name=None)]
    ranks = np.array(values).reshape(frame.shape)
    is_best = _best(ranks, [wanted.get(name) for name in frame.columns], by_row)
    columns = [
        _column(frame.iloc[:, place], is_best[:, place], ranks[:, place], places.get(name, _DIGITS))
        for place, name in enumerate(frame.columns)
    ]
    head = "".join(
        f'<th scope="col"{style}>{inline(_words(name))}</th>' if _words(name) else "<td></td>"
        for name, (_, style) in zip(frame.columns, columns, strict=True)
    )
    body = ""
    for row in range(len(frame)):
        headers = "".join(f'<th scope="row"{style}>{cells[row]}</th>' for cells, style in columns[:levels])
        body += f"<tr>{headers}"
        body += "".join(f"<td{style}>{cells[row]}</td>" for cells, style in columns[levels:]) + "</tr>"
    title = inline(caption)
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    _emit(
        "table",
        f'<figure class="table"><figcaption>{title}</figcaption>'
        f"{scroll_box(content, f'Table: {plain(title)}')}</figure>",
        f"{caption}\n{frame.to_string()}",
    )


def _words(name: Hashable) -> str:
    return " ".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name)


def _value(cell: Any) -> float:
    """Return the number a cell is ranked by; NaN for text."""
    if isinstance(cell, tuple):
        cell = cell[0]
    return float(cell) if isinstance(cell, Real) and not isinstance(cell, bool | np.bool_) else math.nan


def _best(ranks: np.ndarray, wanted: Sequence[Best | None], by_row: bool) -> np.ndarray:
    """Return which cells are the best of their column, or of their row: booleans shaped like ``ranks``."""
    sign = np.array([{"max": 1.0, "min": -1.0}.get(one or "", math.nan) for one in wanted])
    goodness = np.where(np.isfinite(ranks * sign), ranks * sign, -math.inf)
    best = goodness.max(axis=1 if by_row else 0, keepdims=True, initial=-math.inf)
    return (goodness == best) & np.isfinite(goodness)


def _column(values: pd.Series, is_best: np.ndarray, ranks: np.ndarray, digits: int) -> tuple[list[str], str]:
    """Return the cells of one column as HTML, and the class attribute of its kind."""
    sign = '<span class="sign" role="img" aria-label="best" title="best">★</span>'
    cells = [_cell(cell, digits) for cell in values]
    cells = [
        f"<strong>{cell}</strong>{sign}" if best else cell for cell, best in zip(cells, is_best, strict=True)
    ]
    if np.isfinite(ranks).any():
        return cells, ' class="number"'
    return cells, ' class="long"' if any(len(cell) > _LONG for cell in cells) else ""


def _cell(cell: Any, digits: int) -> str:
    if isinstance(cell, tuple):
        value, low, high = (_cell(part, digits) for part in cell)
        return f'{value} <span class="interval">[{low}, {high}]</span>'
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, Real) and math.isnan(cell)):
        return '<span title="no value">–</span>'
    if isinstance(cell, Integral):
        return f"{cell:,}".replace(",", "\u202f")
    if isinstance(cell, Real):
        return f"{cell:.{digits}f}".replace("-", "\u2212")
    return html.escape(str(cell))


# ------------------------------------------------------------------------------------------- what was found


def answer(text: str) -> None:
    """State in one sentence what the notebook found; the report's header and the index show it.

    When a notebook states several, the last one stands.
    """
    _emit("answer", f"<p><strong>Answer.</strong> {inline(text)}</p>", f"Answer: {text}", html=inline(text))


def key_result(
    text: str,
    value: float | str | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    n_seeds: int | None = None,
    resampled_by: str = "scene",
    digits: int = _DIGITS,
) -> None:
    """State one of the notebook's few key results; the report lists them first.

    Args:
        text: what was found, one sentence; Markdown and ``$formulas$`` allowed.
        value: the number that says it, with its sign where it is a difference.
        low: lower end of the 95 % interval of ``value``.
        high: upper end.
        n_seeds: number of seeds behind ``value``.
        resampled_by: the unit which the bootstrap of the interval resampled.
        digits: decimals of the numbers.
    """
    details = []
    if low is not None and high is not None:
        details.append(
            f"95 % interval {_cell(low, digits)} to {_cell(high, digits)}, resampled by {resampled_by}"
        )
    if n_seeds is not None:
        details.append(f"{n_seeds} seed{'s' if n_seeds > 1 else ''}")
    shown = value if isinstance(value, str) else "" if value is None else _cell(value, digits)
    content = {"html": inline(text), "value": shown, "detail": ", ".join(details)}
    line = " ".join(filter(None, [f"<strong>{shown}</strong>" if shown else "", content["html"]]))
    aside = f" <small>({content['detail']})</small>" if details else ""
    _emit("key_result", f"<p>{line}{aside}</p>", plain(f"{line}{aside}"), **content)


def stamp(*, seed: int, device: str, data: str, **more: str | int | float) -> None:
    """Record what the run stood on; the report's header shows it.

    Args:
        seed: seed of the notebook.
        device: what it computed on, e.g. ``"cpu, 2 threads"``.
        data: fingerprint of the packed data.
        **more: further facts by name; underscores become spaces.
    """
    facts = {"seed": seed, "device": device, "data": data, **more}
    line = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    _emit("stamp", f"<p><small>{html.escape(line)}</small></p>", line, facts=facts)
