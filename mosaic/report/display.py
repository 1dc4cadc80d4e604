"""What notebooks call to show figures, tables and results, in JupyterLab and in the report.

Each function emits one output with the metadata ``{"mosaic": {"role": ...}}``, from which the report is made.
"""

import base64
import html
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import display
from jinja2 import Template
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from mosaic.evaluation.uncertainty import LEAST_SCENES
from mosaic.report.markdown import inline, plain, scroll_box
from mosaic.utils.words import count

#: Key of the output metadata which the report reads.
KEY = "mosaic"
Format = Literal["svg", "png", "webp"]
Best = Literal["max", "min"]
_DPI = 150  # of raster figures
_CSS_DPI = 96  # CSS pixels in an inch
_DIGITS = 3
_LONG = 24  # characters of text above which a column is given room
_THUMBNAIL_SIDE = 480  # pixels; shown at half of that
_TABLE = Template((Path(__file__).parent / "templates" / "table.html.j2").read_text(encoding="utf-8"))


def _emit(role: str, text_html: str, text_plain: str, **content: Any) -> None:
    data = {"text/html": text_html, "text/plain": text_plain}
    display(data, raw=True, metadata={KEY: {"role": role, **content}})  # type: ignore[no-untyped-call]


def figure(fig: Figure, caption: str, alt: str, *, format: Format = "svg", headline: bool = False) -> None:
    """Show a figure with its caption, and close it; one without panels becomes a note.

    Args:
        fig: a matplotlib figure.
        caption: the finding that the figure shows; Markdown and ``$formulas$`` allowed.
        alt: description for readers who cannot see the figure.
        format: ``svg`` for lines and bars, ``png`` (150 dpi) for scatter, ``webp`` for imagery.
        headline: whether the index page shows this figure for the notebook.

    Raises:
        ValueError: when caption or alt text is empty.

    Example:
        >>> fig, ax = plt.subplots()
        >>> figure(fig, "More labels help.", "A rising line.", headline=True)
    """
    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption (the finding) and an alt text (what it shows)")
    plt.close(fig)
    if not fig.axes:
        return note(f"Nothing to show: {caption}")
    uri, width, height = _encode(fig, format)
    extra = {}
    if headline:
        kind = "webp" if format == "webp" else "png"  # which tells imagery from charts in dark pages
        small = Image.open(io.BytesIO(_raster(fig, kind)))
        small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
        small.save(buffer := io.BytesIO(), kind)
        extra = {"thumbnail": _data_uri(buffer.getvalue(), kind), "alt": alt}
    image = f'<img src="{uri}" alt="{html.escape(alt)}" width="{width:.0f}" height="{height:.0f}">'
    figure_html = f'<figure class="image">{image}<figcaption>{inline(caption)}</figcaption></figure>'
    _emit("figure", figure_html, f"Figure: {caption}", **extra)


def _encode(fig: Figure, format: Format) -> tuple[str, float, float]:
    """Return a data URI, and natural width and height in CSS pixels; SVG is smaller percent-encoded."""
    if format != "svg":
        content = _raster(fig, format)
        columns, rows = Image.open(io.BytesIO(content)).size
        return _data_uri(content, format), columns * _CSS_DPI / _DPI, rows * _CSS_DPI / _DPI
    buffer = io.StringIO()
    # a fixed salt and no date: the same figure gives the same bytes
    with mpl.rc_context({"svg.hashsalt": "mosaic", "svg.fonttype": "path"}):
        fig.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text).replace('"', "'")
    width, height = re.findall(r"viewBox='0 0 ([\d.]+) ([\d.]+)'", text)[0]  # points
    uri = "data:image/svg+xml," + quote(text, safe=" !$'()*+,-./:;=?@[]_~{}|")
    return uri, float(width) * _CSS_DPI / 72, float(height) * _CSS_DPI / 72


def _raster(fig: Figure, format: str) -> bytes:
    buffer, options = io.BytesIO(), {} if format == "png" else {"quality": 85}
    fig.savefig(buffer, format=format, dpi=_DPI, bbox_inches="tight", pil_kwargs=options)
    return buffer.getvalue()


def _data_uri(content: bytes, format: str) -> str:
    return f"data:image/{format};base64,{base64.b64encode(content).decode('ascii')}"


def table(
    frame: pd.DataFrame,
    caption: str,
    *,
    best: Best | Mapping[Any, Best] | None = None,
    by_row: bool = False,
    digits: int | Mapping[Any, int] = _DIGITS,
    signed: Collection[Any] = (),
    among: Sequence[bool] | None = None,
) -> None:
    """Show a data frame as an accessible table; of an empty one only the caption, as a note.

    A value may be a tuple ``(value, low, high)``, shown as ``0.812 [0.790, 0.833]`` and ranked by ``value``.
    The first column names the rows: the index, or the first column of a frame with a default index.

    Args:
        frame: one row a line.
        caption: the finding that the table shows; Markdown and ``$formulas$`` allowed.
        best: what is starred in all numeric columns, or in each column named, ties included.
        by_row: compare within each row, among the columns that ``best`` covers, not within each column.
        digits: decimals of floating-point numbers, for all columns or for each column named.
        signed: columns of differences, whose positive numbers have a plus sign.
        among: for each row, whether it competes for the best; all by default.

    Raises:
        ValueError: when the caption is empty, or ``best`` names a column that does not exist.

    Example:
        >>> table(pd.DataFrame({"method": ["a", "b"], "AP": [0.5, 0.6]}), "b is ahead.", best="max")
    """
    if not caption.strip():
        raise ValueError("a table needs a caption (the finding)")
    if frame.empty:
        return note(caption)
    levels = 1
    if not isinstance(frame.index, pd.RangeIndex):
        levels = frame.index.nlevels
        frame = frame.reset_index(names=[name or "" for name in frame.index.names])
    columns = list(frame.columns)
    directions = best if isinstance(best, Mapping) else dict.fromkeys(columns[levels:], best)
    if unknown := [name for name in directions if name not in columns]:
        raise ValueError(f"best names {unknown}, but the columns are {columns}")
    decimals = digits if isinstance(digits, Mapping) else dict.fromkeys(columns, digits)
    numbers = pd.DataFrame([[_number(value) for value in row] for row in frame.itertuples(index=False)])
    merit = numbers * [{"max": 1, "min": -1}.get(directions.get(name) or "", math.nan) for name in columns]
    merit = merit if among is None else merit.mul(np.where(among, 1, math.nan), axis=0)
    is_best = (merit.T.eq(merit.max(axis=1)).T if by_row else merit.eq(merit.max())).to_numpy()
    shown = []
    for i, name in enumerate(columns):
        sign = "+" if name in signed else ""
        cells = [_cell(value, decimals.get(name, _DIGITS), sign) for value in frame[name]]
        is_long = any(len(cell) > _LONG for cell in cells)
        kind = "number" if numbers[i].notna().any() else "long" if is_long else "text"
        heading = " ".join(filter(None, map(str, name))) if isinstance(name, tuple) else str(name)
        shown.append({"heading": inline(heading), "kind": kind, "cells": cells, "best": is_best[:, i]})
    title, content = inline(caption), _TABLE.render(columns=shown, rows=len(frame))
    box = scroll_box(content, f"Table: {plain(title)}")
    figure_html = f'<figure class="table"><figcaption>{title}</figcaption>{box}</figure>'
    _emit("table", figure_html, f"{caption}\n{frame.to_string()}")


def _number(value: Any) -> float:
    """Return the number a table cell is ranked by; NaN for text."""
    if isinstance(value, tuple):
        value = value[0]
    return float(value) if isinstance(value, Real) and not isinstance(value, bool | np.bool_) else math.nan


def _cell(value: Any, digits: int, sign: str = "") -> str:
    if isinstance(value, tuple):
        center, low, high = (_cell(part, digits, sign) for part in value)
        if not math.isfinite(value[1]):
            return center
        return f'{center} <span class="interval">[{low}, {high}]</span>'
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, Real) and math.isnan(value)):
        return '<span title="no value">–</span>'
    if isinstance(value, Integral):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, Real):
        return f"{value:{sign}.{digits}f}".replace("-", "\u2212")
    # a minus sign before a number, where a line does not break
    return re.sub(r"(?<![\w.)])-(?=[\d.])", "\u2212", html.escape(str(value)))


def sampled(n_seeds: int | None) -> str:
    """Return what the intervals of a run cover: scenes of the one seed it has, or scenes and seeds."""
    return "scenes, for one seed" if n_seeds == 1 else "scenes and seeds"


def spans(rows: pd.DataFrame, title: str = "95 % interval") -> str:
    """Return for a caption what the intervals of rows cover, and where there is none for want of scenes."""
    known, few = rows["low"].notna(), rows["n_scenes"].between(1, LEAST_SCENES - 1)  # 0: not tested
    if not known.any():
        return f"no interval: fewer than {LEAST_SCENES} scenes" if few.any() else "no interval"
    rest = f", none of fewer than {LEAST_SCENES} scenes" if (few & ~known).any() else ""
    return f"{title} over {sampled(int(rows['n_seeds'].max()))}{rest}"


def answer(text: str) -> None:
    """State the notebook's finding in one sentence, for the header of its page and the index."""
    _emit("answer", f"<p><strong>Answer.</strong> {inline(text)}</p>", f"Answer: {text}", html=inline(text))


def note(text: str) -> None:
    """State in a paragraph what limits the data set, or why a figure is left out; Markdown allowed."""
    display({"text/markdown": text, "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def key_result(
    text: str,
    value: float | str,
    *,
    low: float | None = None,
    high: float | None = None,
    n_seeds: int | None = None,
    digits: int = _DIGITS,
) -> None:
    """State one of the notebook's few key results, in one sentence; the report lists them first.

    ``low`` and ``high`` are the ends of a 95 % interval (NaN where there is none), ``n_seeds`` the number of
    seeds behind ``value`` and ``digits`` the decimals. Markdown and ``$formulas$`` are allowed in ``text``.

    Example:
        >>> key_result("macro AP gained at 5 %", 0.21, low=0.19, high=0.23, n_seeds=3)
    """
    details = []
    if low is not None and high is not None and math.isfinite(low):
        ends = f"{_cell(low, digits)} to {_cell(high, digits)}"
        details.append(f"95 % interval {ends} over {sampled(n_seeds)}")
    if n_seeds is not None:
        details.append(count(n_seeds, "seed"))
    shown, detail = _cell(value, digits), ", ".join(details)
    line = f"<strong>{shown}</strong> {inline(text)}" + (f" <small>({detail})</small>" if detail else "")
    _emit("key_result", f"<p>{line}</p>", plain(line), html=inline(text), value=plain(shown), detail=detail)


def stamp(*, seed: int, device: str, data: str, **more: str | int | float) -> None:
    """Record what the run was made with, for the report's header; underscores of names become spaces.

    ``device`` is the hardware, e.g. ``"cpu, 2 threads"``, ``data`` the fingerprint of the packed data.
    """
    facts = {"seed": seed, "device": device, "data": data, **more}
    line = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    _emit("stamp", f"<p><small>{html.escape(line)}</small></p>", line, facts=facts)
