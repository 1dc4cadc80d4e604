"""Figures of 06_compare_methods: all methods at a glance, their ranks, costs and where they gain."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mosaic.evaluation.names import input_order, input_title
from mosaic.plots.layout import (
    WIDTH,
    distinct,
    legend,
    methods_of,
    panels,
    require,
    whiskers,
)
from mosaic.plots.palette import GREY, LIGHT_GREY, OKABE_ITO, method_style, short_name

_SENSOR_LOOKS = {"s1": (OKABE_ITO["blue"], "o", "Sentinel-1"), "s2": (OKABE_ITO["orange"], "s", "Sentinel-2")}


def score_matrix(table: pd.DataFrame) -> Figure:
    """Show every score at once: a row a method, a column an archive, input and label fraction.

    Colour runs from the worst to the best of a column, so that hard and easy columns read alike; the best of
    the methods with all seeds is starred, and the others tell how many they have.

    Args:
        table: one row a method, archive, input and fraction (%), with ``value`` in [0, 1] and ``n_seeds``.
    """
    require(table, "method", "archive", "input", "fraction", "value", "n_seeds")
    methods = methods_of(table)
    fig, axes = panels(1 if methods else 0, 1, 0.27 * len(methods) + 1.7)
    if not axes:
        return fig
    ax = axes[0]
    wide = table.pivot_table(
        index="method", columns=["archive", "input", "fraction"], values="value", sort=False
    )
    archives = distinct(table, "archive")
    order = sorted(wide.columns, key=lambda c: (archives.index(c[0]), c[2], input_order(c[1])))
    values = wide.reindex(index=methods)[order].to_numpy(float)
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    shade = (values - low) / np.where(high > low, high - low, 1)
    words = np.array([[f"{v:.3f}" if np.isfinite(v) else "" for v in row] for row in values], dtype=object)
    seeds = table.groupby("method")["n_seeds"].max().reindex(methods).to_numpy()
    whole = np.where(np.isfinite(values) & (seeds == seeds.max())[:, None], values, -np.inf)
    words[np.isfinite(whole) & (whole == whole.max(0))] += "★"
    sns.heatmap(
        shade,
        annot=words,
        fmt="",
        cmap="mako_r",
        vmin=-0.15,
        vmax=1.25,
        cbar=False,
        ax=ax,
        annot_kws={"fontsize": 7.5},
        yticklabels=_with_seeds(table),
        xticklabels=[f"{input_title(c[1])}, {c[2]:g} %" for c in order],
    )
    ax.set_facecolor("#EEEEEE")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="left", rotation_mode="anchor", fontsize=8)
    plt.setp(ax.get_yticklabels(), fontsize=8.5)
    for place, archive in enumerate(archives):
        own = [i for i, c in enumerate(order) if c[0] == archive]
        ax.text(float(np.mean(own)) + 0.5, len(methods) + 0.3, archive, ha="center", va="top", fontsize=9.5)
        if place:
            ax.axvline(own[0], color="white", linewidth=5)
    return fig


def rank_diagram(ranks: pd.DataFrame, groups: Sequence[tuple[int, int]]) -> Figure:
    """Show mean ranks with intervals, the best on top; a bar joins methods that cannot be told apart.

    Args:
        ranks: one row a method, the best first: ``method``, ``rank`` (1 the best), ``low``, ``high``.
        groups: (first, last) rows, inclusive, between no two of which a difference is significant.
    """
    require(ranks, "method", "rank", "low", "high")
    fig, axes = panels(1 if len(ranks) else 0, 1, 0.28 * len(ranks) + 0.9)
    if not axes:
        return fig
    ax, y = axes[0], -np.arange(len(ranks), dtype=float)
    for place, row in enumerate(ranks.to_dict("records")):
        style = method_style(row["method"])
        ends = np.array([row["low"]], float), np.array([row["high"]], float)
        whiskers(ax, y[place : place + 1], *ends, style.color, vertical=False, width=2)
        ax.plot(row["rank"], y[place], **style.line() | {"markersize": 7, "linestyle": "none"})
    edge = float(ranks["high"].max())
    step = 0.02 * max(edge - 1, 1)
    for number, (first, last) in enumerate(groups):
        at = edge + step * (2 + number)
        ax.plot([at, at], [y[first] + 0.25, y[last] - 0.25], color=GREY, linewidth=3, solid_capstyle="butt")
    ax.set_yticks(y, [method_style(name).label for name in ranks["method"]])
    ax.set(xlabel="mean rank (1 is best)", ylim=(0.6 - len(ranks), 0.6))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return fig


def cost_scatter(table: pd.DataFrame) -> Figure:
    """Show what a method reached over what it cost, one panel a measure of cost.

    Args:
        table: one row a method: ``method``, ``minutes`` (of one encoder), ``memory_mb``, ``value`` (macro
            average precision), ``low``, ``high``.
    """
    require(table, "method", "minutes", "memory_mb", "value", "low", "high")
    axes_of = {"minutes": "training of one encoder, minutes", "memory_mb": "peak memory, MiB"}
    fig, axes = panels(2 if len(table) else 0, 2, 3.4, sharey=True)
    for ax, (column, title) in zip(axes, axes_of.items(), strict=False):
        for row in table.to_dict("records"):
            style = method_style(row["method"])
            ends = np.array([row["low"]], float), np.array([row["high"]], float)
            whiskers(ax, np.array([row[column]]), *ends, style.color, vertical=True, width=0.8)
            ax.plot(row[column], row["value"], **style.line() | {"linestyle": "none"})
        ax.set(xlabel=title)
        ax.set_xlim(left=0)
        ax.grid()
    if axes:
        axes[0].set_ylabel("macro average precision")
        looks = [method_style(name) for name in methods_of(table)]
        handles = [Line2D([], [], label=look.label, **look.line() | {"linestyle": "none"}) for look in looks]
        legend(fig, handles, most=5, handlelength=1)
    return fig


def _with_seeds(table: pd.DataFrame) -> list[str]:
    """Return the names of the methods of a table; those with fewer seeds than others tell how many."""
    seeds = table.groupby("method")["n_seeds"].max().astype(int)  # of results that hold rows without one
    most = seeds.max()
    return [
        method_style(name).label + (f" ({seeds[name]} of {most} seeds)" if seeds[name] < most else "")
        for name in methods_of(table)
    ]


def difference_matrix(table: pd.DataFrame, reference: str) -> Figure:
    """Show what each method gains over a reference in each part of the test split.

    Args:
        table: one row a method and part: ``method``, ``subgroup``, ``value`` (difference of macro average
            precision), ``low``, ``high``, ``n_seeds``. A difference whose interval excludes zero has a sign
            behind it.
        reference: title of what it is compared with.
    """
    require(table, "method", "subgroup", "value", "low", "high", "n_seeds")
    methods, parts = methods_of(table), distinct(table, "subgroup")
    fig, axes = panels(1 if methods else 0, 1, 0.27 * len(methods) + 1.9)
    if not axes:
        return fig
    ax = axes[0]
    wide = {
        name: table.pivot(index="method", columns="subgroup", values=name).reindex(
            index=methods, columns=parts
        )
        for name in ("value", "low", "high")
    }
    values = wide["value"].to_numpy(float)
    sure = (wide["low"].to_numpy(float) > 0) | (wide["high"].to_numpy(float) < 0)
    words = [
        [
            f"{v:+.3f}".replace("-", "−") + ("*" if s else "") if np.isfinite(v) else ""
            for v, s in zip(row, own, strict=True)
        ]
        for row, own in zip(values, sure, strict=True)
    ]
    most = max(float(np.nanmax(np.abs(values))), 1e-3)
    sns.heatmap(
        values,
        annot=np.array(words, dtype=object),
        fmt="",
        cmap="vlag_r",
        vmin=-1.3 * most,
        vmax=1.3 * most,
        cbar=False,
        ax=ax,
        annot_kws={"fontsize": 7.5},
        yticklabels=_with_seeds(table),
        xticklabels=[textwrap.fill(part, 16) for part in parts],
    )
    ax.set_facecolor("#EEEEEE")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="left", rotation_mode="anchor", fontsize=8)
    plt.setp(ax.get_yticklabels(), fontsize=8.5)
    ax.set_xlabel(f"macro average precision less that of {reference}; * interval excludes zero", fontsize=9)
    return fig


def trust_dots(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Show how far each class trusts each sensor: the mean over seeds, each seed as a small dot.

    Args:
        table: one row a class, sensor (``s1``, ``s2``) and seed: ``class``, ``sensor``, ``seed``, ``trust``.
        class_names: names, in an order that breaks ties.
    """
    require(table, "class", "sensor", "seed", "trust")
    if table.empty:
        return panels(0, 1, 1.0)[0]
    means = table.pivot_table(index="class", columns="sensor", values="trust").reindex(list(class_names))
    order = (means["s2"] - means["s1"]).sort_values(kind="stable").index
    fig, (ax,) = panels(1, 1, 0.27 * len(order) + 1.1, width=0.8 * WIDTH)
    y = np.arange(len(order), dtype=float)
    ordered = means.loc[order]
    ax.hlines(y, ordered.min(axis=1), ordered.max(axis=1), color=LIGHT_GREY, linewidth=3, zorder=1)
    for sensor, (color, marker, title) in _SENSOR_LOOKS.items():
        own = table[table["sensor"] == sensor]
        places = own["class"].map({name: place for place, name in enumerate(order)})
        ax.plot(own["trust"], places, ".", color=color, markersize=4, alpha=0.5)
        ax.plot(ordered[sensor], y, marker, color=color, markersize=7, label=title)
    ax.set_yticks(y, [short_name(str(name)) for name in order])
    ax.set(
        xlabel="trust g: 0 believes only what both sensors say, 1 what this one says",
        ylim=(-0.7, len(y) - 0.3),
    )
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.legend(loc="lower right")
    return fig
