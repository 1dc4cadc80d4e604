"""Figures of the benchmark report: rates on a logarithmic axis, and growth over size."""

from collections.abc import Sequence

from common import NOT_MEASURED, Result
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from mosaic.plots.layout import legend, panels
from mosaic.plots.palette import GREY, OKABE_ITO, look

_OURS, _OTHERS = (OKABE_ITO["vermillion"], "o", "this project"), (OKABE_ITO["blue"], "s", "others")


def rate_dots(rows: Sequence[Result]) -> Figure:
    """Show every row of a result: one panel a group, on a logarithmic axis; what was not measured says so."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    members = [[row for row in rows if row["group"] == group] for group in groups]
    heights = [len(group_rows) + 1.6 for group_rows in members]
    fig, axes = panels(
        len(groups), 1, 0.29 * sum(heights) / len(groups), gridspec_kw={"height_ratios": heights}
    )
    for ax, group, group_rows in zip(axes, groups, members, strict=True):
        ax.set_xscale("log")
        for y, row in enumerate(group_rows):
            if row["value"] is None:
                place = {"transform": ax.get_yaxis_transform(), "va": "center"}
                ax.text(0.01, y, row.get("note", NOT_MEASURED), fontsize=8, color=GREY, **place)
                continue
            color, marker, _ = _OURS if row["ours"] else _OTHERS
            ax.hlines(y, row["low"], row["high"], color=color, linewidth=2)
            ax.plot(row["value"], y, marker, color=color, markersize=7)
            number = f"{row['value']:,.0f}" if row["value"] >= 1000 else f"{row['value']:,.3g}"
            place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
            ax.annotate(number, (row["high"], y), fontsize=8.5, **place)
        ax.set_yticks(range(len(group_rows)), [row["name"] for row in group_rows], fontsize=8.5)
        ax.set(title=f"{group}, {group_rows[0]['unit']}", ylim=(len(group_rows) - 0.4, -0.6))
        known = [row["value"] for row in group_rows if row["value"]]
        if known:
            ax.set_xlim(min(known) / 2, max(known) * 6)
        ax.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=True))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    legend(fig, {label: look(color, marker) for color, marker, label in (_OURS, _OTHERS)}, above=True)
    return fig


def growth_curves(rows: Sequence[Result], size: str, label: str) -> Figure:
    """Show how rows grow with their number ``size``, one panel a group, but for those without a value."""
    groups, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("group", "name"))
    fig, axes = panels(len(groups), 2, 3.4, sharex=True)
    styles = dict(zip(names, (_OURS, _OTHERS), strict=False))
    for ax, group in zip(axes, groups, strict=True):
        members = [row for row in rows if row["group"] == group and row["value"] is not None]
        for name, (color, marker, _) in styles.items():
            points = sorted((row[size], row["value"]) for row in members if row["name"] == name)
            ax.plot(*zip(*points, strict=True), marker=marker, color=color, markersize=5)
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel=members[0]["unit"], title=group)
        ax.grid()
    legend(fig, {name: {"color": color, "marker": marker} for name, (color, marker, _) in styles.items()})
    return fig
