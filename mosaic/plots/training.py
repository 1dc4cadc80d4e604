"""Figures of 02_pretrain: how training went, whether a space collapsed, and what it cost."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mosaic.plots.layout import (
    WIDTH,
    canvas,
    column_of,
    legend,
    method_handles,
    methods_of,
    panels,
    require,
    say_nothing,
)
from mosaic.plots.palette import GREY, OKABE_ITO, method_style

#: Loss terms: name, colour, line style. All but ``classify`` are KL divergences in nats with floor 0.
TERMS: dict[str, tuple[str, str, Any]] = {
    "intra": ("intra-modality", OKABE_ITO["blue"], "-"),
    "inter": ("inter-modality", OKABE_ITO["bluish green"], (0, (4, 1.6))),
    "label": ("label", OKABE_ITO["vermillion"], (0, (5, 1.4, 1.2, 1.4))),
    "classify": ("classification", OKABE_ITO["reddish purple"], (0, (1.2, 1.2))),
}


def _runs(frame: pd.DataFrame, method: str, value: str) -> pd.DataFrame:
    """Return a table of ``value``, index step and one column a run (seed and label budget) of ``method``."""
    own = frame[(frame["method"] == method) & frame[value].notna()]
    if own.empty:
        return pd.DataFrame()
    runs = [name for name in ("seed", "budget") if name in own]
    return (
        own.groupby(["step", *runs])[value].mean().unstack(runs) if runs else own.set_index("step")[[value]]
    )


def loss_curves(frame: pd.DataFrame, columns: int = 5, smooth: int = 1) -> Figure:
    """Show the loss terms over steps, one panel a method: each run faint, their mean strong.

    Args:
        frame: one row a logged step, columns ``step``, ``method``, any of ``intra``, ``inter``, ``label``,
            ``classify`` (nats; NaN where a term was not logged), and ``seed`` and ``budget`` if several.
        columns: most panels in a row.
        smooth: logged steps in the centred rolling mean that is drawn strong.
    """
    require(frame, "step", "method")
    terms = [name for name in TERMS if name in frame and frame[name].notna().any()]
    runs = {m: {t: table for t in terms if len(table := _runs(frame, m, t))} for m in methods_of(frame)}
    runs = {method: tables for method, tables in runs.items() if tables}
    fig, axes = panels(len(runs), columns, 2.1 if len(runs) > columns else 2.7, sharex=True)
    for ax, (method, tables) in zip(axes, runs.items(), strict=True):
        for term, table in tables.items():
            label, color, dashes = TERMS[term]
            if table.shape[1] > 1 or smooth > 1:
                # thousands of raw points would make megabytes of SVG
                faint: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.3, "rasterized": table.size > 2000}
                ax.plot(table.index, table, color=color, **faint)
            mean = table.mean(axis=1).rolling(smooth, center=True, min_periods=1).mean()
            ax.plot(table.index, mean, color=color, linestyle=dashes, linewidth=1.8, label=label)
        ax.set_title(textwrap.fill(method_style(method).label, 18), fontsize=8.5)
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=8)
        ax.grid(axis="y")
    if axes:
        fig.supxlabel("optimiser step", fontsize=9.5)
        fig.supylabel("loss term, nats", fontsize=9.5)
        handles = [
            Line2D([], [], label=label, color=color, linestyle=dashes, linewidth=1.8)
            for label, color, dashes in (TERMS[term] for term in terms)
        ]
        legend(fig, handles, above=True)
    return fig


def _over_steps(ax: Axes, frame: pd.DataFrame, value: str) -> list[str]:
    """Draw ``value`` over steps, one line a method (mean of its runs); return the methods that have any."""
    drawn = []
    for method in methods_of(frame) if value in frame else []:
        table = _runs(frame, method, value)
        if len(table):
            drawn.append(method)
            style = method_style(method).line() | {"markersize": 4}
            if table.shape[1] > 1:
                ax.plot(table.index, table, color=style["color"], linewidth=0.6, alpha=0.3)
            ax.plot(table.index, table.mean(axis=1), **style, label=method_style(method).label)
    ax.set_xlabel("optimiser step")
    ax.grid(axis="y")
    if not drawn:
        say_nothing(ax)
    return drawn


def collapse_monitor(frame: pd.DataFrame) -> Figure:
    """Show the spread and the effective rank of embeddings over steps.

    Args:
        frame: columns ``step``, ``method``, ``embedding_std`` (mean standard deviation over dimensions x
            sqrt(D): 1 isotropic, 0 collapsed), ``effective_rank`` (RankMe, dimensions), and ``seed`` and
            ``budget`` if several.
    """
    require(frame, "step", "method", "embedding_std", "effective_rank")
    fig, (left, right) = panels(2, 2, 3.2)
    drawn = _over_steps(left, frame, "embedding_std")
    _over_steps(right, frame, "effective_rank")
    if drawn:
        left.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=0)
        left.text(
            0.99, 1, "isotropic", transform=left.get_yaxis_transform(), ha="right", va="bottom", fontsize=8
        )
        left.set(ylabel="embedding spread (std × √D)", ylim=(0, max(1.15, left.get_ylim()[1])))
        right.set(ylabel="effective rank, dimensions", ylim=(0, None))
        legend(fig, method_handles(drawn))
    return fig


def knn_over_time(frame: pd.DataFrame, value: str = "knn", ax: Axes | None = None) -> Axes:
    """Show the score of a kNN classifier on the validation split over steps.

    Args:
        frame: columns ``step``, ``method``, ``value``, and ``seed`` and ``budget`` if there are several.
        value: column of the score, in [0, 1].
        ax: where to draw; a new figure when None.
    """
    require(frame, "step", "method", value)
    ax = canvas(ax, size=(WIDTH, 3.4))
    if _over_steps(ax, frame, value):
        ax.set_ylabel("kNN score on validation\n(macro average precision)")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def alignment_uniformity(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Show the path of each run in the plane of Wang & Isola (2020); the marker is where it ended.

    Args:
        frame: columns ``step``, ``method``, ``alignment`` (mean squared distance of positives, in [0, 4]),
            ``uniformity`` (log mean Gaussian potential, at most 0), and ``seed`` and ``budget`` if several.
        ax: where to draw; a new figure when None.
    """
    require(frame, "step", "method", "alignment", "uniformity")
    ax = canvas(ax, frame, size=(WIDTH, 4.2))
    run = [name for name in ("seed", "budget") if name in frame]
    for method in methods_of(frame):
        own = frame[frame["method"] == method].dropna(subset=["alignment", "uniformity"]).sort_values("step")
        style = method_style(method)
        for i, (_, path) in enumerate(own.groupby(run) if run else [((), own)]):
            x, y = path["uniformity"].to_numpy(), path["alignment"].to_numpy()
            ax.plot(x, y, color=style.color, linestyle=style.dashes, linewidth=1.1, alpha=0.55)
            label = style.label if i == 0 else None
            ax.plot(x[-1:], y[-1:], **style.line() | {"linestyle": "none", "markersize": 8}, label=label)
    if not frame.empty:
        ax.set(xlabel="uniformity  (← spread over the sphere)", ylabel="alignment  (positives closer ↓)")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        ax.grid()
    return ax


def cost_bars(frame: pd.DataFrame, measures: Mapping[str, str] | None = None) -> Figure:
    """Show what training cost, one panel a measure: the mean over runs as a bar, each run as a dot.

    Args:
        frame: one row a trained encoder, columns ``method`` and those of ``measures``.
        measures: column -> title with unit; ``seconds`` and ``peak_memory_mb`` when None. A column
            without any number is left out.
    """
    require(frame, "method")
    measures = measures or {"seconds": "training time, s", "peak_memory_mb": "peak memory, MiB"}
    shown = {name: title for name, title in measures.items() if np.isfinite(column_of(frame, name)).any()}
    methods: Sequence[str] = methods_of(frame)[::-1]
    fig, axes = panels(len(shown), 2, 0.3 * len(methods) + 0.9, sharey=True)
    for ax, (column, title) in zip(axes, shown.items(), strict=True):
        for place, method in enumerate(methods):
            values = frame.loc[frame["method"] == method, column].to_numpy(float)
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            ax.barh(place, values.mean(), color=method_style(method).color, alpha=0.85, height=0.65)
            if len(values) > 1:
                ax.plot(values, np.full(len(values), place), "o", color="black", markersize=3, alpha=0.6)
            end = (values.max(), place)
            words = f"{values.mean():,.0f}" if values.mean() >= 100 else f"{values.mean():.3g}"
            ax.annotate(words, end, (5, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(range(len(methods)), [method_style(name).label for name in methods])
        ax.set_title(title, fontsize=10)
        ax.margins(x=0.15)
        ax.set_xlim(left=0)
    return fig
