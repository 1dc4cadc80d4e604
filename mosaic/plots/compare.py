"""Figures of 06_compare_methods: all methods at a glance, their ranks, costs and where they gain."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mosaic.analysis.tables import input_order, input_title
from mosaic.plots import layout
from mosaic.plots.palette import GREY, LIGHT_GREY, SERIES, method_label, method_style, short_name


@layout.needs("method", "archive", "input", "fraction", "value", "n_seeds")
def score_matrix(table: pd.DataFrame) -> Figure:
    """Show every score at once: a row a method, a column an archive, input and label fraction (%).

    Colour runs from the worst to the best of a column, so that hard and easy columns read alike; the best of
    the methods with all seeds is starred, and the others tell how many they have.
    """
    methods, archives = layout.methods_of(table), layout.distinct(table, "archive")
    wide = table.pivot_table("value", "method", ["archive", "input", "fraction"], sort=False)
    order = sorted(wide.columns, key=lambda c: (archives.index(c[0]), c[2], input_order(c[1])))
    values = wide.reindex(index=methods)[order].to_numpy(float)
    seeds = table.groupby("method")["n_seeds"].max().reindex(methods).to_numpy()
    complete = np.where(np.isfinite(values) & (seeds == seeds.max())[:, None], values, -np.inf)
    is_best = np.isfinite(complete) & (complete == complete.max(0))
    texts = np.char.add(np.char.mod("%.3f", values), np.where(is_best, "★", ""))
    fig, (ax,) = layout.panels(1, 1, 0.27 * len(methods) + 1.7)
    columns = [f"{input_title(c[1])}, {c[2]:g} %" for c in order]
    layout.heat_map(ax, layout.merit(values), texts, _with_seeds(table), columns, vmin=-0.15, vmax=1.25)
    layout.name_blocks(ax, [c[0] for c in order], len(methods))
    return fig


def _with_seeds(table: pd.DataFrame) -> list[str]:
    """Return the names of the methods of a table; those with fewer seeds than others tell how many."""
    seeds = table.groupby("method")["n_seeds"].max().astype(int)  # of results that hold rows without one
    notes = {name: f" ({n} of {seeds.max()} seeds)" if n < seeds.max() else "" for name, n in seeds.items()}
    return [method_label(name) + notes[name] for name in layout.methods_of(table)]


@layout.needs("method", "rank", "low", "high")
def rank_diagram(ranks: pd.DataFrame, groups: Sequence[tuple[int, int]]) -> Figure:
    """Show ranks with intervals, one row a method, the best first.

    A bar joins each of ``groups``: (first, last) row, inclusive, of methods that cannot be told apart.
    """
    fig, (ax,) = layout.panels(1, 1, 0.28 * len(ranks) + 0.9)
    y = layout.label_rows(ax, [method_label(name) for name in ranks["method"]])
    for i, method in enumerate(ranks["method"]):
        style = method_style(method, linestyle="none", markersize=7)
        layout.estimates(ax, ranks.iloc[[i]], y[[i]], style, vertical=False, value="rank", width=2)
    edge = float(np.nanmax(ranks[["rank", "high"]]))
    for i, (first, last) in enumerate(groups):
        x = edge + 0.02 * max(edge - 1, 1) * (2 + i)
        ax.plot([x, x], [y[first] + 0.25, y[last] - 0.25], color=GREY, linewidth=3, solid_capstyle="butt")
    ax.set_xlabel("rank (1 is best)")
    return fig


@layout.needs("method", "minutes", "memory_mb", "value", "low", "high")
def cost_scatter(table: pd.DataFrame) -> Figure:
    """Show macro average precision over ``minutes`` of training one encoder and over peak ``memory_mb``."""
    titles = {"minutes": "training of one encoder, minutes", "memory_mb": "peak memory, MiB"}
    fig, axes = layout.panels(2, 2, 3.4, sharey=True)
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for method in layout.methods_of(table):
            row, style = table[table["method"] == method], method_style(method, linestyle="none")
            layout.estimates(ax, row, row[column].to_numpy(float), style, vertical=True, width=0.8)
        ax.set(xlabel=title, xlim=(0, None))
        ax.grid()
    axes[0].set_ylabel("macro average precision")
    handles = layout.method_handles(layout.methods_of(table), linestyle="none")
    layout.legend(fig, handles, most=5, handlelength=1)
    return fig


@layout.needs("method", "subgroup", "value", "low", "high", "n_seeds")
def difference_matrix(table: pd.DataFrame, reference: str) -> Figure:
    """Show by how much macro average precision differs from that of a reference in each subgroup.

    A difference is starred when its interval, of several seeds, excludes zero.
    """
    methods, subgroups = layout.methods_of(table), layout.distinct(table, "subgroup")
    wide = table.pivot(index="method", columns="subgroup").reindex(index=methods)
    names = ("value", "low", "high", "n_seeds")
    values, low, high, seeds = (wide[name][subgroups].to_numpy(float) for name in names)
    texts = np.char.replace(np.char.mod("%+.3f", values), "-", "−")
    texts = np.char.add(texts, np.where(((low > 0) | (high < 0)) & (seeds > 1), "*", ""))
    most = max(float(np.nanmax(np.abs(values))), 1e-3)
    fig, (ax,) = layout.panels(1, 1, 0.27 * len(methods) + 1.9)
    columns, scale = (
        [textwrap.fill(name, 16) for name in subgroups],
        {"vmin": -1.3 * most, "vmax": 1.3 * most},
    )
    layout.heat_map(ax, values, texts, _with_seeds(table), columns, cmap="vlag_r", **scale)
    ax.set_xlabel(f"macro average precision less that of {reference}; * interval excludes zero", fontsize=9)
    return fig


@layout.needs("class", "sensor", "seed", "trust")
def trust_dots(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Show how far each class trusts each sensor, in [0, 1]: the mean over seeds, seeds as small dots."""
    sensors = layout.distinct(table, "sensor")
    means = table.pivot_table(index="class", columns="sensor", values="trust").reindex(list(class_names))
    means = means.loc[(means[sensors[-1]] - means[sensors[0]]).sort_values(kind="stable").index[::-1]]
    fig, (ax,) = layout.panels(1, 1, 0.27 * len(means) + 1.1, width=0.8 * layout.WIDTH)
    y = layout.label_rows(ax, [short_name(str(name)) for name in means.index])
    ax.hlines(y, means.min(axis=1), means.max(axis=1), color=LIGHT_GREY, linewidth=3, zorder=1)
    for sensor, (color, marker) in zip(sensors, SERIES, strict=False):
        seeds = table[table["sensor"] == sensor]
        ax.plot(seeds["trust"], y[means.index.get_indexer(seeds["class"])], ".", color=color, ms=4, alpha=0.5)
        ax.plot(means[sensor], y, marker, color=color, markersize=7, label=input_title(sensor))
    ax.set_xlabel("trust g: 0 believes only what all sensors say, 1 what this one says")
    ax.legend(loc="lower right")
    return fig
