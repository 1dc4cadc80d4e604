"""Figures of 06_compare_methods: all methods at a glance, their ranks, costs and where they gain."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mosaic.analysis.tables import input_title
from mosaic.plots import layout
from mosaic.plots.palette import GREY, LIGHT_GREY, SERIES, method_label, short_name


@layout.of_table
def score_matrix(table: pd.DataFrame) -> Figure:
    """Show every score at once: a row a method, a column an archive, input and label fraction (%).

    Colour runs from the worst to the best of a column, so that hard and easy columns read alike; the best of
    the methods with all seeds is starred, and the others tell how many they have.
    """
    methods, archives = layout.methods_of(table), layout.distinct(table, "archive")
    wide = table.pivot_table("value", "method", ["archive", "input", "fraction"], sort=False)
    # of an archive and fraction single sensors, then all, then all but one
    order = sorted(wide.columns, key=lambda c: (archives.index(c[0]), c[2], c[1].startswith("fused"), c[1]))
    values = wide.reindex(index=methods)[order]
    rows, has_all = layout.with_seeds(table)
    complete = values.where(has_all, axis=0)
    texts = layout.numbers(values, "%.3f", complete.eq(complete.max()), "★")
    columns, blocks = [f"{input_title(c[1])}, {c[2]:g} %" for c in order], [c[0] for c in order]
    shade = layout.merit(values)
    return layout.heat_map(shade, texts, rows, columns, blocks=blocks, vmin=-0.15, vmax=1.25)[0]


@layout.of_table
def rank_diagram(ranks: pd.DataFrame, groups: Sequence[tuple[int, int]]) -> Figure:
    """Show ranks with intervals, one row a method, the best first.

    A bar joins each of ``groups``: (first, last) row, inclusive, of methods that cannot be told apart.
    """
    fig, (ax,) = layout.panels(1, 1, 0.28 * len(ranks) + 0.9)
    titles = {name: method_label(name) for name in ranks["method"]}
    looks = layout.method_looks(ranks, linestyle="none", markersize=7)
    y = layout.dots(ax, ranks, "method", titles, looks, value="rank", width=2)
    edge = float(np.nanmax(ranks[["rank", "high"]]))
    for i, (first, last) in enumerate(groups):
        x = edge + 0.02 * max(edge - 1, 1) * (2 + i)
        ax.plot([x, x], [y[first] + 0.25, y[last] - 0.25], color=GREY, linewidth=3, solid_capstyle="butt")
    ax.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("rank (1 is best)")
    return fig


@layout.of_table
def cost_scatter(table: pd.DataFrame) -> Figure:
    """Show macro average precision over ``minutes`` of training one encoder and over peak ``memory_mb``."""
    titles = {"minutes": "training of one encoder, minutes", "memory_mb": "peak memory, MiB"}
    fig, axes = layout.panels(2, 2, 3.4, sharey=True)
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for method, style in layout.method_looks(table, linestyle="none").items():
            row = table[table["method"] == method]
            ax.vlines(row[column], row["low"], row["high"], style["color"], linewidth=0.8)
            ax.plot(row[column], row["value"], **style)
        most = np.nan_to_num(table[column].max()) or 1.0
        ax.set(xlabel=title, xlim=(-0.04 * most, 1.04 * most))
        ax.grid()
    axes[0].set_ylabel("macro average precision")
    layout.legend(fig, most=5, handlelength=1)
    return fig


@layout.of_table
def difference_matrix(table: pd.DataFrame, reference: str) -> Figure:
    """Show by how much macro average precision differs from that of a reference in each subgroup.

    A difference is starred when its interval, of several seeds, excludes zero.
    """
    methods, subgroups = layout.methods_of(table), layout.distinct(table, "subgroup")
    wide = table.pivot(index="method", columns="subgroup").reindex(index=methods)
    values, low, high, seeds = (wide[name][subgroups] for name in ("value", "low", "high", "n_seeds"))
    texts = layout.numbers(values, "%+.3f", ((low > 0) | (high < 0)) & (seeds > 1), "*")
    most = 1.3 * max(float(values.abs().max(axis=None)), 1e-3)
    columns = [textwrap.fill(name, 16) for name in subgroups]
    fig, ax = layout.heat_map(
        values, texts, layout.with_seeds(table)[0], columns, cmap="vlag_r", vmin=-most, vmax=most
    )
    ax.set_xlabel(f"macro average precision less that of {reference}; * interval excludes zero", fontsize=9)
    return fig


@layout.of_table
def trust_dots(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Show how far each class trusts each sensor, in [0, 1]: the mean over seeds, seeds as small dots.

    The line across is 0.5, where training starts.
    """
    sensors = layout.distinct(table, "sensor")
    means = table.pivot_table(index="class", columns="sensor", values="trust").reindex(list(class_names))
    means = means.loc[(means[sensors[-1]] - means[sensors[0]]).sort_values(kind="stable").index[::-1]]
    fig, (ax,) = layout.panels(1, 1, 0.27 * len(means) + 1.1, width=0.8 * layout.WIDTH)
    looks = {
        sensor: look | {"label": input_title(sensor)} for sensor, look in zip(sensors, SERIES, strict=False)
    }
    rows = pd.concat([table, means.stack().rename("trust").reset_index().assign(seed=-1)])
    titles = {name: short_name(str(name)) for name in means.index}
    y = layout.dots(ax, rows, "class", titles, looks, "sensor", value="trust")
    ax.hlines(y, means.min(axis=1), means.max(axis=1), color=LIGHT_GREY, linewidth=3, zorder=1)
    ax.axvline(0.5, color=GREY, linewidth=1, linestyle="--", zorder=0)
    ax.set_xlabel("trust g: 0 believes only what all sensors say, 1 what this one says")
    layout.legend(fig)
    return fig
