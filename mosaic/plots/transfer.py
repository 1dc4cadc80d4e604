"""Figures of 05_transfer: scores on another archive, and in a country or season that training never saw."""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from mosaic.plots import layout
from mosaic.plots.palette import GREY, SERIES, method_label


@layout.needs("source", "target", "method", "fraction", "probe", "value")
def transfer_dots(table: pd.DataFrame) -> Figure:
    """Show a score on each archive by where the encoder was trained, one panel a target and probe.

    Args:
        table: one row a source, target, method, fraction (% of the target's labels) and probe (``target`` or
            ``source``), with ``value``, and ``low`` and ``high`` if known.
    """
    methods = layout.methods_of(table)
    looks = {source: SERIES[i % len(SERIES)] for i, source in enumerate(layout.distinct(table, "source"))}
    parts = {key: part for key, part in table.groupby(["target", "probe", "fraction"], sort=False)}
    columns = -(-len(parts) // table["target"].nunique())
    labels = [method_label(name) for name in methods]
    fig, axes = layout.panels(len(parts), columns, 0.36 * len(methods) + 1.0, sharey=True)
    for ax, ((target, probe, fraction), part) in zip(axes, parts.items(), strict=True):
        y = layout.label_rows(ax, labels)
        offsets = -layout.dodge(len(looks), 0.36)
        for (source, (color, marker)), offset in zip(looks.items(), offsets, strict=True):
            rows = part[part["source"] == source].set_index("method").reindex(methods)
            style = {"color": color, "marker": marker, "linestyle": "", "markersize": 6}
            layout.estimates(ax, rows, y + offset, style, vertical=False)
        share = "no label of it" if probe == "source" else f"{fraction:g} % of its labels"
        ax.set_title(textwrap.fill(f"{target}: {share}", 28), fontsize=9)
    fig.supxlabel("macro average precision over shared classes", fontsize=9.5)
    handles = layout.marker_handles({f"pretrained on {source}": look for source, look in looks.items()})
    layout.legend(fig, handles, above=True)
    return fig


@layout.needs("domain", "method", "training", "value")
def unseen_slopes(table: pd.DataFrame) -> Figure:
    """Show the score in a domain with it in training and without it, one panel a domain.

    Args:
        table: one row a domain, method and training (``seen`` or ``unseen``; others are left out), with
            ``value``, and ``low`` and ``high`` if known.
    """
    domains, methods = layout.distinct(table, "domain"), layout.methods_of(table)
    fig, axes = layout.panels(len(domains), 3, 3.2, sharey=True)
    for ax, domain in zip(axes, domains, strict=True):
        part = table[(table["domain"] == domain) & table["training"].isin(["seen", "unseen"])]
        layout.draw_methods(ax, part, "training", {"seen": 0, "unseen": 1}, methods, 0.14, vertical=True)
        ax.set_xticks(range(2), ["seen in training", "never seen"])
        ax.set(xlim=(-0.35, 1.35), title=domain)
        ax.grid(axis="y")
    axes[0].set_ylabel("macro average precision", color=GREY)
    layout.legend(fig, layout.method_handles(methods))
    return fig
