"""Figures of 02_pretrain: how training went, whether an embedding space collapsed, and what it cost.

Logs have one row a logged step, ``method``, and ``seed`` and ``budget`` if several.
"""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mosaic.plots import layout
from mosaic.plots.palette import GREY, OKABE_ITO, method_label, method_style

#: Lines of the loss terms. All but ``classify`` are KL divergences in nats with floor 0.
TERMS: dict[str, dict[str, Any]] = {
    "intra": {"label": "intra-modality", "color": OKABE_ITO["blue"], "linestyle": "-"},
    "inter": {"label": "inter-modality", "color": OKABE_ITO["bluish green"], "linestyle": (0, (4, 1.6))},
    "label": {"label": "label", "color": OKABE_ITO["vermillion"], "linestyle": (0, (5, 1.4, 1.2, 1.4))},
    "classify": {
        "label": "classification",
        "color": OKABE_ITO["reddish purple"],
        "linestyle": (0, (1.2, 1.2)),
    },
}


def _runs(frame: pd.DataFrame, method: str, value: str) -> pd.DataFrame:
    """Return a table of ``value``, index step and one column a run (seed and label budget) of ``method``."""
    rows = frame[(frame["method"] == method) & frame[value].notna()]
    runs = [name for name in ("seed", "budget") if name in rows]
    return rows.pivot_table(index="step", columns=runs or "method", values=value)


@layout.needs("step", "method")
def loss_curves(frame: pd.DataFrame, smooth: int = 1) -> Figure:
    """Show the terms of ``TERMS`` that were logged (nats), one panel a method: runs faint, their mean strong.

    ``smooth``: logged steps in the centred rolling mean that is drawn strong.
    """
    terms = [name for name in TERMS if name in frame and frame[name].notna().any()]
    frame = frame.dropna(subset=terms, how="all")
    methods = layout.methods_of(frame) if terms else []
    fig, axes = layout.panels(len(methods), 5, 2.1 if len(methods) > 5 else 2.7, sharex=True)
    for ax, method in zip(axes, methods, strict=True):
        for term in terms:
            if (table := _runs(frame, method, term)).empty:
                continue
            if table.shape[1] > 1 or smooth > 1:  # thousands of raw points would make megabytes of SVG
                faint = ax.plot(table, color=TERMS[term]["color"], linewidth=0.6, alpha=0.3)
                plt.setp(faint, rasterized=table.size > 2000)
            mean = table.mean(axis=1).rolling(smooth, center=True, min_periods=1).mean()
            ax.plot(mean, linewidth=1.8, **TERMS[term])
        ax.set_title(textwrap.fill(method_label(method), 18), fontsize=8.5)
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=8)
        ax.grid(axis="y")
    if axes:
        fig.supxlabel("optimiser step", fontsize=9.5)
        fig.supylabel("loss term, nats", fontsize=9.5)
        layout.legend(fig, [Line2D([], [], linewidth=1.8, **TERMS[term]) for term in terms], above=True)
    return fig


def _over_steps(ax: Axes, frame: pd.DataFrame, value: str) -> None:
    """Draw ``value`` over steps, one line a method (mean of its runs)."""
    for method in layout.methods_of(frame):
        table, style = _runs(frame, method, value), method_style(method, markersize=4)
        if table.shape[1] > 1:
            ax.plot(table, color=style["color"], linewidth=0.6, alpha=0.3)
        ax.plot(table.mean(axis=1), **style)
    ax.set_xlabel("optimiser step")
    ax.grid(axis="y")


@layout.needs("step", "method", "embedding_std", "effective_rank")
def collapse_monitor(frame: pd.DataFrame) -> Figure:
    """Show the spread and the effective rank of embeddings over steps.

    ``embedding_std`` is the mean standard deviation over dimensions x sqrt(D): 1 isotropic, 0 collapsed;
    ``effective_rank`` is RankMe, in dimensions.
    """
    fig, (left, right) = layout.panels(2, 2, 3.2)
    _over_steps(left, frame, "embedding_std")
    _over_steps(right, frame, "effective_rank")
    left.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=0)
    left.annotate("isotropic", (0.99, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    left.set(ylabel="embedding spread (std × √D)", ylim=(0, max(1.15, left.get_ylim()[1])))
    right.set(ylabel="effective rank, dimensions", ylim=(0, None))
    layout.legend(fig, layout.method_handles(layout.methods_of(frame)))
    return fig


@layout.needs("step", "method", "knn")
def knn_over_time(frame: pd.DataFrame) -> Figure:
    """Show the score of a kNN classifier on the validation split, in [0, 1], over steps."""
    fig, (ax,) = layout.panels(1, 1, 3.4)
    _over_steps(ax, frame, "knn")
    ax.set_ylabel("kNN score on validation\n(macro average precision)")
    layout.legend_beside(ax)
    return fig


@layout.needs("step", "method", "alignment", "uniformity")
def alignment_uniformity(frame: pd.DataFrame) -> Figure:
    """Show the path of each run in the plane of Wang & Isola (2020); the marker is where it ended.

    ``alignment`` is the mean squared distance of positives, in [0, 4]; ``uniformity`` the log mean Gaussian
    potential, at most 0.
    """
    fig, (ax,) = layout.panels(1, 1, 4.2)
    frame = frame.dropna(subset=["alignment", "uniformity"]).sort_values("step")
    run = ["method", *(name for name in ("seed", "budget") if name in frame)]
    for method in layout.methods_of(frame):
        for _, steps in frame[frame["method"] == method].groupby(run):
            path = steps.set_index("uniformity")["alignment"]
            ax.plot(path, **method_style(method, marker="", linewidth=1.1, alpha=0.55, label=None))
            ax.plot(path[-1:], **method_style(method, linestyle="none", markersize=8, label=None))
    ax.set(xlabel="uniformity  (← spread over the sphere)", ylabel="alignment  (positives closer ↓)")
    layout.legend_beside(ax, handles=layout.method_handles(layout.methods_of(frame)))
    ax.grid()
    return fig


@layout.needs("method")
def cost_bars(frame: pd.DataFrame) -> Figure:
    """Show ``seconds`` and ``peak_memory_mb`` of training: the mean over runs as a bar, each run as a dot.

    A measure without any number is left out.
    """
    titles = {"seconds": "training time, s", "peak_memory_mb": "peak memory, MiB"}
    shown = [name for name in titles if np.isfinite(layout.column_of(frame, name)).any()]
    methods = layout.methods_of(frame)
    fig, axes = layout.panels(len(shown), 2, 0.3 * len(methods) + 0.9, sharey=True)
    for ax, column in zip(axes, shown, strict=True):
        y = layout.label_rows(ax, [method_label(name) for name in methods])
        runs = frame.groupby("method")[column].agg(["mean", "max"]).reindex(methods)
        colors = [method_style(name)["color"] for name in methods]
        ax.barh(y, runs["mean"], color=colors, alpha=0.85, height=0.65)
        ax.plot(frame[column], y[frame["method"].map(methods.index)], "o", color="black", ms=3, alpha=0.6)
        for row, mean, end in zip(y, runs["mean"], runs["max"], strict=True):
            text = "" if np.isnan(mean) else f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"
            ax.annotate(text, (end, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_title(titles[column], fontsize=10)
        ax.margins(x=0.15)
        ax.set_xlim(left=0)
    return fig
