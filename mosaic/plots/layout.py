"""What the figures share: panels that fit the report's column, intervals, legends, checks of their input."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mosaic.plots.palette import GREY, MethodStyle, method_order, method_style

#: Width in inches of a figure that fills the report's column (880 CSS pixels, 96 an inch, some padding).
WIDTH = 8.8
NOTHING = "nothing to show"


def require(frame: pd.DataFrame, *columns: str) -> None:
    """Check that a frame has the columns a figure draws; an empty frame may lack them.

    Raises:
        ValueError: names the missing columns and those found.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing and not frame.empty:
        raise ValueError(f"the figure needs columns {missing}; the frame has {list(frame.columns)}")


def distinct(frame: pd.DataFrame, column: str) -> list[Any]:
    """Return the distinct values of a column in the order they appear; none for an empty frame."""
    return [] if frame.empty else list(frame[column].dropna().unique())


def distinct_of(values: Iterable[Any]) -> list[Any]:
    """Return distinct values in the order they appear."""
    return list(dict.fromkeys(values))


def methods_of(frame: pd.DataFrame) -> list[str]:
    """Return the methods of a frame in the order of the table of methods."""
    return method_order(distinct(frame, "method"))


def panels(
    count: int, columns: int, height: float, *, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of equal panels, filled row by row; rows are kept about equally long.

    Args:
        count: number of panels; 0 gives a figure that says there is nothing to show.
        columns: most panels in a row.
        height: of one row, inches.
        width: of the figure when its rows are full, inches.
        **options: for ``plt.subplots``.

    Returns:
        The figure and ``count`` axes.
    """
    down = max(1, -(-count // columns))
    across = max(1, -(-count // down))
    size = (width if down > 1 else width * max(across / columns, 0.5), height * down)
    fig, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained", **options)
    axes = list(grid.ravel())
    for place, ax in enumerate(axes[count:], start=count):
        if place >= across:
            axes[place - across].tick_params(labelbottom=True)
        ax.set_axis_off()
    if count == 0:
        say_nothing(axes[0])
    return fig, axes[:count]


def canvas(
    ax: Axes | None, frame: pd.DataFrame | None = None, size: tuple[float, float] = (5.6, 3.6)
) -> Axes:
    """Return ``ax``, or the axes of a new figure of ``size`` inches; marked when ``frame`` is empty."""
    if ax is None:
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    if frame is not None and frame.empty:
        say_nothing(ax)
    return ax


def say_nothing(ax: Axes, words: str = NOTHING) -> None:
    """Write on empty axes that there is nothing to show, and hide their frame."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color=GREY)
    ax.set_axis_off()


def figure_of(ax: Axes) -> Figure:
    """Return the figure that ``ax`` lies in."""
    fig = ax.get_figure(root=True)
    if fig is None:
        raise ValueError("the axes belong to no figure")
    return fig


def column_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as floats (N,); NaN throughout when the frame lacks it."""
    if name not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[name].to_numpy(dtype=float, na_value=np.nan)


def whiskers(
    ax: Axes,
    at: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    color: str,
    *,
    vertical: bool,
    width: float = 1.1,
) -> None:
    """Draw intervals; those with an unknown end are left out. ``at`` is x when ``vertical``, y otherwise."""
    known = np.isfinite(low) & np.isfinite(high)
    draw = ax.vlines if vertical else ax.hlines
    draw(at[known], low[known], high[known], color=color, linewidth=width, zorder=1.5)


def dodge(count: int, spread: float) -> np.ndarray:
    """Return ``count`` offsets centred on 0 that span ``spread``; (count,)."""
    return np.linspace(-spread / 2, spread / 2, count) if count > 1 else np.zeros(count)


def point_style(style: MethodStyle, size: float = 6.0) -> dict[str, Any]:
    """Return keywords for ``Axes.plot`` that draw the method's marker without a line."""
    return style.line() | {"linestyle": "none", "markersize": size}


def method_handles(methods: Iterable[str], *, line: bool = True) -> list[Line2D]:
    """Return legend entries of methods, with or without their line."""
    styles = [method_style(name) for name in methods]
    return [Line2D([], [], label=one.label, **(one.line() if line else point_style(one))) for one in styles]


def legend(
    fig: Figure, handles: Sequence[Line2D | Patch], *, above: bool = False, most: int = 4, **options: Any
) -> None:
    """Put one legend under or above all panels, at most ``most`` entries in a row; none without handles."""
    if handles:
        rows = -(-len(handles) // most)
        fig.legend(
            handles=list(handles),
            loc="outside upper center" if above else "outside lower center",
            ncols=-(-len(handles) // rows),
            columnspacing=1.4,
            fontsize=8.5,
            **{"handlelength": 2.8} | options,
        )


def seed_dots(ax: Axes, x: Any, y: Any, color: str) -> None:
    """Draw single seeds as small dots, rimmed so that they show on an interval of their own colour."""
    ax.scatter(x, y, 11, color, edgecolors="white", linewidths=0.6, zorder=2.5)


def percent(share: float) -> str:
    """Return a percentage for a tick label: 0.1 %, 5 %, 100 %."""
    return f"{share:g} %"
