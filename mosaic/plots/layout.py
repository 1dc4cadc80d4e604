"""Parts that figures share: panels that fit the report's column, dots with intervals, heat maps, legends."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mosaic.plots.palette import GREY, method_label, method_order, method_style

#: Width in inches of a figure that fills the report's column (880 CSS pixels, 96 an inch, some padding).
WIDTH = 8.8
#: Series -> keywords of ``Axes.plot``.
Looks = Mapping[Any, Mapping[str, Any]]


def of_table(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make a figure of a table return one without panels where the table is empty."""

    @functools.wraps(draw)
    def checked(frame: pd.DataFrame, *args: Any, **kwargs: Any) -> Figure:
        return plt.figure() if frame.empty else draw(frame, *args, **kwargs)

    return checked


def distinct(frame: pd.DataFrame, column: str) -> list[Any]:
    """Return the distinct values of a column in the order they appear."""
    return list(frame[column].dropna().unique())


def methods_of(frame: pd.DataFrame) -> list[str]:
    """Return the methods of a frame in the order of the table of methods."""
    return method_order(distinct(frame, "method"))


def with_seeds(table: pd.DataFrame) -> tuple[list[str], pd.Series]:
    """Return the names of the methods of a table, and method -> whether it has all seeds of the table.

    The names of the others tell how many they have: means over fewer seeds do not compare.
    """
    seeds = table.groupby("method")["n_seeds"].max().astype(int)[methods_of(table)]
    most = seeds.max()
    names = [method_label(str(m)) + (f" ({n} of {most} seeds)" if n < most else "") for m, n in seeds.items()]
    return names, seeds == most


def method_looks(frame: pd.DataFrame, **changes: Any) -> dict[str, dict[str, Any]]:
    """Return the styles of the methods of a frame, with changes."""
    return {name: method_style(name, **changes) for name in methods_of(frame)}


def panels(
    count: int, columns: int, height: float, *, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` equal panels, filled row by row; rows are kept about equally long.

    At most ``columns`` panels are in a row. ``height`` is that of one row, ``width`` that of full rows
    (inches); ``options`` go to ``plt.subplots``.
    """
    down = max(1, -(-count // columns))
    across = max(1, -(-count // down))
    size = (width if down > 1 else width * max(across / columns, 0.5), height * down)
    fig, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained", **options)
    axes = list(grid.flat)
    for i, ax in enumerate(axes[count:], start=count):
        if i >= across:
            axes[i - across].tick_params(labelbottom=True)
        ax.remove()
    return fig, axes[:count]


def dots(
    ax: Axes,
    frame: pd.DataFrame,
    column: str,
    titles: Mapping[Any, str],
    looks: Looks,
    by: str = "method",
    *,
    spread: float = 0.0,
    vertical: bool = False,
    value: str = "value",
    width: float = 1.1,
) -> np.ndarray:
    """Draw the estimates of each series side by side, and its seeds, where there are several, as small dots.

    ``titles`` of the values of ``column`` name the rows from the top down, or the x axis if ``vertical``;
    ``looks`` are the styles of the series, values of ``by``, whose first and last are ``spread`` apart where
    rows are 1 apart. ``frame`` may hold ``low`` and ``high``, drawn ``width`` points wide, and ``seed``
    (-1: all). Returns the positions of the titles (N,). ValueError when a series has several rows for one
    value of ``column``: aggregate over seeds.
    """
    sign = 1.0 if vertical else -1.0
    at, middle = sign * np.arange(len(titles)), (len(looks) - 1) / 2
    for i, (name, style) in enumerate(looks.items()):
        shift = sign * spread * (i - middle) / (2 * middle or 1)
        rows = frame[frame[by] == name]
        means = pooled(rows).set_index(column).reindex(index=list(titles), columns=[value, "low", "high"])
        values, low, high = means.to_numpy(dtype=float, na_value=np.nan).T
        (ax.vlines if vertical else ax.hlines)(at + shift, low, high, style["color"], zorder=1.5, lw=width)
        ax.plot(*((at + shift, values) if vertical else (values, at + shift)), **style)
        if "seed" in rows and (seeds := rows[rows["seed"] >= 0])["seed"].nunique() > 1:
            place, values = at[[*map(list(titles).index, seeds[column])]] + shift, seeds[value]
            x, y = (place, values) if vertical else (values, place)
            small = ax.scatter(x, y, 11, style["color"])
            small.set(edgecolor="white", linewidth=0.6, zorder=3.5)  # so that it shows on its own interval
    if not vertical:
        return label_rows(ax, list(titles.values()))
    ax.set_xticks(at, list(titles.values()))
    ax.set_xlim(-0.3, len(titles) - 0.7)
    ax.grid(axis="y")
    return at


def curves(
    parts: Mapping[str, pd.DataFrame], column: str, titles: Mapping[Any, str], y_label: str, columns: int = 2
) -> tuple[Figure, list[Axes]]:
    """Show the scores of methods over values of ``column`` (value -> title), one panel a part."""
    looks = method_looks(pd.concat(parts.values()))
    fig, axes = panels(len(parts), columns, 3.2, sharex=True, sharey=True)
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        dots(ax, part, column, titles, looks, spread=0.16, vertical=True)
        ax.set_title(textwrap.fill(title, 90 // columns), fontsize=9.5)
    fig.supylabel(y_label, fontsize=10)
    legend(fig, above=True)
    return fig, axes


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


def bars(ax: Axes, frame: pd.DataFrame, texts: Sequence[str], color: Any, title: str) -> None:
    """Draw a bar a row (``value``, ``low`` and ``high`` if known), named by the index, a text at its end."""
    y = label_rows(ax, list(frame.index))
    values, low, high = frame.reindex(columns=["value", "low", "high"]).to_numpy(float, na_value=np.nan).T
    spans = np.nan_to_num([values - low, high - values])
    drawn = ax.barh(y, np.nan_to_num(values), 0.65, color=color, alpha=0.85, xerr=spans)
    ax.bar_label(drawn, texts, padding=4, fontsize=9)
    ax.set_xlim(0, 1.3 * max(np.nanmax([values, high], initial=0), 1e-9))
    ax.set_title(title, fontsize=9.5)


def heat_map(
    values: Any,
    texts: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_height: float = 0.28,
    blocks: Sequence[str] = (),
    **options: Any,
) -> tuple[Figure, Axes]:
    """Draw values (R, C) as colours under texts (R, C), column labels on top; NaN is grey, without text.

    ``blocks`` names each column's block, below and parted from the next; ``row_height`` is in inches.
    """
    fig, (ax,) = panels(1, 1, row_height * len(rows) + 1.8)
    options = {"cmap": "mako_r", "fmt": "", "cbar": False, "annot_kws": {"fontsize": 7.5}} | options
    labels: dict[str, Any] = {"xticklabels": list(columns), "yticklabels": list(rows)}
    sns.heatmap(np.asarray(values, float), annot=np.asarray(texts, object), ax=ax, **labels, **options)
    ax.set_facecolor("#EEEEEE")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="left", rotation_mode="anchor", fontsize=8)
    plt.setp(ax.get_yticklabels(), rotation=0, fontsize=8.5)
    for name in dict.fromkeys(blocks):
        first, last = blocks.index(name), len(blocks) - 1 - blocks[::-1].index(name)
        ax.text((first + last + 1) / 2, len(rows) + 0.3, name, ha="center", va="top", fontsize=9.5)
        if first:
            ax.axvline(first, color="white", linewidth=5)
    return fig, ax


def numbers(values: Any, format: str, starred: Any, sign: str = " ★") -> np.ndarray:
    """Return values (R, C) as texts; those ``starred`` carry a sign."""
    texts = np.char.mod(format, np.asarray(values, float))
    texts = np.char.rstrip(np.char.replace(texts, "-", "−"), ".")  # that "%#.3g" leaves behind 123
    return np.char.add(texts, np.where(starred, sign, ""))


def merit(values: Any) -> np.ndarray:
    """Scale each column (R, C) from its worst, 0, to its best, 1; NaN where unknown."""
    above_worst = pd.DataFrame(values) - pd.DataFrame(values).min()
    return (above_worst / above_worst.max().replace(0, 1)).to_numpy()


def legend(
    fig: Figure, looks: Mapping[str, Any] | None = None, *, above: bool = False, most: int = 4, **options: Any
) -> None:
    """Put one legend of all panels under or above them, at most ``most`` entries in a row.

    It shows what the panels label, or ``looks``: label -> keywords of ``Axes.plot``, or a colour.
    """
    square = {"marker": "s", "markersize": 9, "markeredgecolor": GREY, "linestyle": ""}
    shown: dict[Any, Any] = {}
    for name, look in (looks or {}).items():
        shown[name] = Line2D([], [], **{**square, "color": look} if isinstance(look, str) else look)
    for ax in fig.axes if looks is None else ():
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    if shown:
        rows = -(-len(shown) // most)
        fig.set_figheight(fig.get_figheight() + 0.2 * max(0, rows - 2))  # or it takes the panels' room
        options = {"columnspacing": 1.4, "fontsize": 8.5, "handlelength": 2.8} | options
        options |= {"loc": f"outside {'upper' if above else 'lower'} center", "ncols": -(-len(shown) // rows)}
        fig.legend(handles=list(shown.values()), labels=list(shown), **options)
