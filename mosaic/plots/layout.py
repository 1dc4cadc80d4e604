"""Parts that figures share: panels that fit the report's column, estimates with intervals, legends."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mosaic.plots.palette import GREY, method_order, method_style

#: Width in inches of a figure that fills the report's column (880 CSS pixels, 96 an inch, some padding).
WIDTH = 8.8
NOTHING = "nothing to show"
Draw = TypeVar("Draw", bound=Callable[..., Figure])


def needs(*columns: str) -> Callable[[Draw], Draw]:
    """Make a figure refuse a frame without ``columns`` (ValueError) and say so when the frame is empty."""

    def decorate(draw: Draw) -> Draw:
        @functools.wraps(draw)
        def checked(frame: pd.DataFrame, *args: Any, **kwargs: Any) -> Figure:
            if frame.empty:
                return panels(0, 1, 1.5)[0]
            if missing := [column for column in columns if column not in frame]:
                raise ValueError(f"the figure needs columns {missing}; the frame has {list(frame.columns)}")
            return draw(frame, *args, **kwargs)

        return cast(Draw, checked)

    return decorate


def distinct(frame: pd.DataFrame, column: str) -> list[Any]:
    """Return the distinct values of a column in the order they appear."""
    return list(frame[column].dropna().unique())


def methods_of(frame: pd.DataFrame) -> list[str]:
    """Return the methods of a frame in the order of the table of methods."""
    return method_order(distinct(frame, "method"))


def column_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as floats (N,); NaN throughout when the frame lacks it."""
    return frame.reindex(columns=[name])[name].to_numpy(dtype=float, na_value=np.nan)


def panels(
    count: int, columns: int, height: float, *, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` equal panels, filled row by row; rows are kept about equally long.

    At most ``columns`` panels are in a row. ``height`` is that of one row, ``width`` that of full rows
    (inches); ``options`` go to ``plt.subplots``. Without panels the figure says there is nothing to show.
    """
    down = max(1, -(-count // columns))
    across = max(1, -(-count // down))
    size = (width if down > 1 else width * max(across / columns, 0.5), height * down)
    fig, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained", **options)
    axes = list(grid.ravel())
    for i, ax in enumerate(axes[count:], start=count):
        if i >= across:
            axes[i - across].tick_params(labelbottom=True)
        ax.set_axis_off()
    if count == 0:
        write(axes[0], NOTHING)
    return fig, axes[:count]


def write(ax: Axes, text: str) -> None:
    """Write a text in the middle of empty axes."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY)


def whiskers(
    ax: Axes, at: np.ndarray, low: np.ndarray, high: np.ndarray, *, vertical: bool, **options: Any
) -> None:
    """Draw intervals; those with an unknown end are left out. ``at`` is x when ``vertical``, y otherwise."""
    known = np.isfinite(low) & np.isfinite(high)
    draw = ax.vlines if vertical else ax.hlines
    draw(at[known], low[known], high[known], zorder=1.5, **{"linewidth": 1.1} | options)


def estimates(
    ax: Axes,
    frame: pd.DataFrame,
    at: np.ndarray,
    style: Mapping[str, Any],
    *,
    vertical: bool,
    value: str = "value",
    width: float = 1.1,
) -> None:
    """Draw one estimate a row at positions ``at`` (N,), with its interval (``low``, ``high``) if known."""
    values, low, high = (column_of(frame, name) for name in (value, "low", "high"))
    whiskers(ax, at, low, high, vertical=vertical, color=style["color"], linewidth=width)
    ax.plot(*((at, values) if vertical else (values, at)), **style)


def dodge(count: int, spread: float) -> np.ndarray:
    """Return ``count`` offsets centred on 0 that span ``spread``; (count,)."""
    return np.linspace(-spread / 2, spread / 2, count) if count > 1 else np.zeros(count)


def draw_methods(
    ax: Axes,
    frame: pd.DataFrame,
    column: str,
    positions: Mapping[Any, float],
    methods: Sequence[str],
    spread: float,
    *,
    vertical: bool,
) -> None:
    """Draw the estimates of each method, and its seeds, where there are several, as small dots.

    ``frame`` has columns ``method``, ``column`` and ``value``, and ``low``, ``high`` and ``seed`` (-1: all)
    if known. ``positions`` of the values of ``column`` lie on the x axis when ``vertical``, and a line joins
    the estimates of a method; on the y axis otherwise. ``spread`` is the distance from the first method to
    the last, on a logarithmic x axis in decades.

    Raises:
        ValueError: when a method has several seeds and no aggregate.
    """
    for method, offset in zip(methods, dodge(len(methods), spread), strict=True):
        rows = frame[frame["method"] == method]
        if rows.empty:
            continue
        log = vertical and ax.get_xscale() == "log"
        at = {key: x * 10**offset if log else x + offset for key, x in positions.items()}
        style = method_style(method) if vertical else method_style(method, linestyle="none", markersize=6)
        means = pooled(rows).set_index(column)
        if not means.index.is_unique:
            raise ValueError(f"several rows of {method} for one {column}: aggregate over seeds, or filter")
        means = means.reindex(list(positions))
        estimates(ax, means, np.array(list(at.values())), style, vertical=vertical)
        if "seed" in rows and (seeds := rows[rows["seed"] >= 0])["seed"].nunique() > 1:
            x, y = seeds[column].map(at), seeds["value"]
            dots = ax.scatter(*((x, y) if vertical else (y, x)), 11, style["color"], zorder=3.5)
            dots.set(edgecolor="white", linewidth=0.6)  # so that a dot shows on its own interval


def pooled(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that stand for all seeds: the aggregates (seed -1) or, without any, all rows."""
    aggregates = results[results["seed"] == -1] if "seed" in results else results
    return results if aggregates.empty else aggregates


def label_rows(ax: Axes, labels: Sequence[str]) -> np.ndarray:
    """Label one row a name from the top down and return their y (N,): 0, -1, ..."""
    y = -np.arange(len(labels), dtype=float)
    ax.set_yticks(y, labels)
    ax.set_ylim(0.6 - len(labels), 0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return y


def heat_map(
    ax: Axes, values: np.ndarray, texts: Any, rows: Sequence[str], columns: Sequence[str], **options: Any
) -> None:
    """Draw values (R, C) as colours under texts (R, C), column labels on top; NaN is grey, without text."""
    options = {"cmap": "mako_r", "fmt": "", "cbar": False, "annot_kws": {"fontsize": 7.5}} | options
    labels: dict[str, Any] = {"xticklabels": list(columns), "yticklabels": list(rows)}
    sns.heatmap(values, annot=np.asarray(texts, dtype=object), ax=ax, **labels, **options)
    ax.set_facecolor("#EEEEEE")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="left", rotation_mode="anchor", fontsize=8)
    plt.setp(ax.get_yticklabels(), rotation=0, fontsize=8.5)


def name_blocks(ax: Axes, names: Sequence[str], rows: int) -> None:
    """Name blocks of neighbouring columns of a heat map below them, and part them."""
    for name in dict.fromkeys(names):
        first, last = names.index(name), len(names) - 1 - names[::-1].index(name)
        ax.text((first + last + 1) / 2, rows + 0.3, name, ha="center", va="top", fontsize=9.5)
        if first:
            ax.axvline(first, color="white", linewidth=5)


def merit(values: np.ndarray) -> np.ndarray:
    """Scale each column (R, C) from its worst, 0, to its best, 1; NaN where unknown."""
    above_worst = pd.DataFrame(values) - pd.DataFrame(values).min()
    return (above_worst / above_worst.max().replace(0, 1)).to_numpy()


def method_handles(methods: Iterable[str], **changes: Any) -> list[Line2D]:
    """Return legend entries of methods."""
    return [Line2D([], [], **method_style(name, **changes)) for name in methods]


def marker_handles(looks: Mapping[str, tuple[str, str]]) -> list[Line2D]:
    """Return legend entries of markers without a line: label -> (colour, marker)."""
    return [Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, (c, m) in looks.items()]


def color_handles(colors: Mapping[str, str]) -> list[Line2D]:
    """Return legend entries of colours: label -> colour."""
    return [Line2D([], [], color=color, linewidth=5, label=label) for label, color in colors.items()]


def legend(
    fig: Figure, handles: Sequence[Line2D | Patch], *, above: bool = False, most: int = 4, **options: Any
) -> None:
    """Put one legend under or above all panels, at most ``most`` entries in a row; none without handles."""
    if handles:
        rows = -(-len(handles) // most)
        options = {"columnspacing": 1.4, "fontsize": 8.5, "handlelength": 2.8} | options
        options |= {
            "loc": f"outside {'upper' if above else 'lower'} center",
            "ncols": -(-len(handles) // rows),
        }
        fig.legend(handles=list(handles), **options)


def legend_beside(ax: Axes, **options: Any) -> None:
    """Put the legend right of the axes."""
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), **options)
