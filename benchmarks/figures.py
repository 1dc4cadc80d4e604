"""Figures of the benchmark report: rates on a logarithmic axis, and growth over size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation

from mosaic.plots.layout import estimates, legend, marker_handles, panels
from mosaic.plots.palette import GREY, OKABE_ITO

_OURS, _OTHERS = OKABE_ITO["vermillion"], OKABE_ITO["blue"]
_LINES = ("vermillion", "blue", "bluish green", "orange", "reddish purple", "sky blue")
_MARKS = "osD^vP"


def rate_dots(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Show every row of a result: one panel a group, on a logarithmic axis; what was not measured says so.

    Args:
        rows: of :func:`common.row`.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    parts = [[row for row in rows if row["group"] == group] for group in groups]
    heights = [len(part) + 1.6 for part in parts]
    fig, axes = panels(
        len(groups), 1, 0.29 * sum(heights) / len(groups), gridspec_kw={"height_ratios": heights}
    )
    for ax, group, part in zip(axes, groups, parts, strict=True):
        known = [row["value"] for row in part if row["value"]]
        for place, row in enumerate(part):
            if row["value"] is None:
                words = row.get("note", "not measured")
                ax.text(
                    0.01,
                    -place,
                    words,
                    transform=ax.get_yaxis_transform(),
                    va="center",
                    fontsize=8,
                    color=GREY,
                )
                continue
            color, marker = (_OURS, "o") if row["ours"] else (_OTHERS, "s")
            style = {"color": color, "marker": marker, "markersize": 7}
            estimates(ax, pd.DataFrame([row]), np.array([-place]), style, vertical=False, width=2)
            ax.annotate(
                f"{row['value']:,.3g}" if row["value"] < 1000 else f"{row['value']:,.0f}",
                (row["high"], -place),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        ax.set_yticks(-np.arange(len(part)), [row["name"] for row in part], fontsize=8.5)
        ax.set(title=f"{group}, {part[0]['unit']}", ylim=(0.6 - len(part), 0.6))
        if known:
            ax.set_xscale("log")
            ax.set_xlim(min(known) / 2, max(known) * 6)
            ax.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=True))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    looks = {"this project": (_OURS, "o"), "others": (_OTHERS, "s")}
    legend(fig, marker_handles(looks), above=True)
    return fig


def growth_curves(rows: Sequence[Mapping[str, Any]], size: str, label: str) -> Figure:
    """Show how rows grow with a size, one panel a group, both axes logarithmic.

    Args:
        rows: of :func:`common.row`, each with the number ``size``; those without a value are left out.
        size: key of the size.
        label: of its axis.
    """
    groups, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("group", "name"))
    fig, axes = panels(len(groups), 2, 3.4, sharex=True)
    looks = {
        name: (OKABE_ITO[_LINES[i % len(_LINES)]], _MARKS[i % len(_MARKS)]) for i, name in enumerate(names)
    }
    for ax, group in zip(axes, groups, strict=True):
        for name, (color, marker) in looks.items():
            own = [r for r in rows if r["group"] == group and r["name"] == name and r["value"] is not None]
            own.sort(key=lambda row: row[size])
            ax.plot(
                [r[size] for r in own], [r["value"] for r in own], marker=marker, color=color, markersize=5
            )
        unit = next(row["unit"] for row in rows if row["group"] == group)
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel=unit, title=group)
        ax.grid()
    handles = [Line2D([], [], color=c, marker=m, label=name) for name, (c, m) in looks.items()]
    legend(fig, handles)
    return fig
