"""Figures of 05_transfer: what an encoder is worth away from home."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mosaic.plots.layout import (
    column_of,
    distinct,
    dodge,
    legend,
    method_handles,
    methods_of,
    panels,
    require,
    whiskers,
)
from mosaic.plots.palette import GREY, OKABE_ITO, method_style

_SOURCES = (("blue", "o"), ("orange", "s"), ("bluish green", "^"), ("reddish purple", "D"))


def transfer_dots(table: pd.DataFrame) -> Figure:
    """Show a score on each archive by where the encoder was trained, one panel a target and probe.

    Args:
        table: one row a source, target, method, fraction (% of the target's labels) and probe (``target`` or
            ``source``), with ``value``, and ``low`` and ``high`` if known.
    """
    require(table, "source", "target", "method", "fraction", "probe", "value")
    methods, sources = methods_of(table), distinct(table, "source")
    wanted = ["target", "probe", "fraction"]
    places = [] if table.empty else list(table[wanted].drop_duplicates().itertuples(index=False))
    columns = -(-len(places) // max(1, table["target"].nunique() if len(table) else 1)) or 1
    fig, axes = panels(len(places), columns, 0.36 * len(methods) + 1.0, sharey=True)
    y = -np.arange(len(methods), dtype=float)
    for ax, place in zip(axes, places, strict=True):
        chosen = (table["target"] == place.target) & (table["probe"] == place.probe)
        part = table[chosen & (table["fraction"] == place.fraction)]
        for source, offset in zip(sources, -dodge(len(sources), 0.36), strict=True):
            color, marker = _SOURCES[sources.index(source) % len(_SOURCES)]
            own = part[part["source"] == source].set_index("method").reindex(methods)
            low, high = column_of(own, "low"), column_of(own, "high")
            whiskers(ax, y + offset, low, high, OKABE_ITO[color], vertical=False)
            ax.plot(own["value"], y + offset, marker, color=OKABE_ITO[color], markersize=6)
        words = "no label of it" if place.probe == "source" else f"{place.fraction:g} % of its labels"
        ax.set_title(textwrap.fill(f"{place.target}: {words}", 28), fontsize=9)
        ax.set_yticks(y, [method_style(name).label for name in methods])
        ax.set(ylim=(0.6 - len(methods), 0.6))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    if axes:
        fig.supxlabel("macro average precision over shared classes", fontsize=9.5)
        looks = [_SOURCES[i % len(_SOURCES)] for i in range(len(sources))]
        handles = [
            Line2D([], [], color=OKABE_ITO[c], marker=m, linestyle="", label=f"pretrained on {source}")
            for source, (c, m) in zip(sources, looks, strict=True)
        ]
        legend(fig, handles, above=True)
    return fig


def unseen_slopes(table: pd.DataFrame) -> Figure:
    """Show the score in a place that training saw, and had it not been seen, one panel a place.

    Args:
        table: one row a domain, method and training (``seen`` or ``unseen``; others are left out), with
            ``value``, and ``low`` and ``high`` if known.
    """
    require(table, "domain", "method", "training", "value")
    stops = ["seen", "unseen"]
    places = distinct(table, "domain")
    fig, axes = panels(len(places), 3, 3.2, sharey=True)
    methods = methods_of(table)
    for ax, domain in zip(axes, places, strict=True):
        part = table[table["domain"] == domain]
        for method, offset in zip(methods, dodge(len(methods), 0.14), strict=True):
            style = method_style(method)
            line = part[part["method"] == method].set_index("training").reindex(stops)
            x = np.arange(2) + offset
            whiskers(ax, x, column_of(line, "low"), column_of(line, "high"), style.color, vertical=True)
            ax.plot(x, line["value"], **style.line())
        ax.set_xticks(range(2), ["seen in training", "never seen"])
        ax.set(xlim=(-0.35, 1.35), title=domain)
        ax.grid(axis="y")
    if axes:
        axes[0].set_ylabel("macro average precision there")
        axes[0].yaxis.label.set_color(GREY)
        legend(fig, method_handles(methods))
    return fig
