"""Figures of 02_pretrain: how training went, whether an embedding space collapsed, and what it cost.

Logs have one row a logged step, ``method``, and ``seed`` and ``budget`` if several.
"""

import textwrap
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mosaic.plots import layout
from mosaic.plots.palette import GREY, LIGHT_GREY, OKABE_ITO, method_label, method_style

#: Lines of the loss terms. Those of contrastive methods but ``classify`` are KL divergences in nats, >= 0.
TERMS: dict[str, dict[str, Any]] = {
    name: {"label": label, "color": OKABE_ITO[color], "linestyle": line}
    for name, label, color, line in (
        ("intra", "intra-modality", "blue", "-"),
        ("inter", "inter-modality", "bluish green", (0, (4, 1.6))),
        ("label", "label", "vermillion", (0, (5, 1.4, 1.2, 1.4))),
        ("classify", "classification", "reddish purple", (0, (1.2, 1.2))),
    )
}
#: What is monitored while training -> title of its axis.
MONITORED = {
    "embedding_std": "embedding spread\n(std × √D; dotted: isotropic)",
    "effective_rank": "effective rank, dimensions",
    "knn": "kNN score on validation\n(macro average precision)",
}


def _draw_runs(ax: Axes, rows: pd.DataFrame, value: str, style: dict[str, Any], smooth: int = 1) -> None:
    """Draw ``value`` over steps: runs (seeds and label budgets) faint, their smoothed mean strong."""
    runs = [name for name in ("seed", "budget") if name in rows]
    table = rows.dropna(subset=[value]).pivot_table(index="step", columns=runs or "method", values=value)
    if table.shape[1] > 1 or smooth > 1:  # thousands of raw points would make megabytes of SVG
        faint = ax.plot(table, color=style["color"], linewidth=0.6, alpha=0.3)
        plt.setp(faint, rasterized=table.size > 2000)
    if len(table):
        mean = table.mean(axis=1).rolling(smooth, center=True, min_periods=1).mean()
        ax.plot(mean, **{"linewidth": 1.8} | style)


@layout.of_table
def loss_curves(frame: pd.DataFrame, smooth: int = 1) -> Figure:
    """Show the terms of ``TERMS`` that were logged, one panel a method: runs faint, their mean strong.

    ``smooth``: logged steps in the centred rolling mean that is drawn strong.
    """
    terms = [name for name in TERMS if name in frame and frame[name].notna().any()]
    frame = frame.dropna(subset=terms, how="all") if terms else frame[:0]
    methods = layout.methods_of(frame)
    fig, axes = layout.panels(len(methods), 5, 2.1 if len(methods) > 5 else 2.7, sharex=True)
    for ax, method in zip(axes, methods, strict=True):
        for term in terms:
            _draw_runs(ax, frame[frame["method"] == method], term, TERMS[term], smooth)
        ax.set_title(textwrap.fill(method_label(method), 18), fontsize=8.5)
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=8)
        ax.grid(axis="y")
    fig.supxlabel("optimiser step", fontsize=9.5)
    fig.supylabel("loss term", fontsize=9.5)
    layout.legend(
        fig, {TERMS[term]["label"]: {"linewidth": 1.8, **TERMS[term]} for term in terms}, above=True
    )
    return fig


@layout.of_table
def monitor_curves(frame: pd.DataFrame, *columns: str) -> Figure:
    """Show columns of ``MONITORED`` over steps, one panel each and one line a method.

    ``embedding_std`` is the mean standard deviation over dimensions x sqrt(D): 1 isotropic, 0 collapsed;
    ``effective_rank`` is RankMe, in dimensions; ``knn`` a score in [0, 1].
    """
    fig, axes = layout.panels(len(columns), min(len(columns), 2), 3.2)
    for ax, column in zip(axes, columns, strict=True):
        for method in layout.methods_of(frame):
            style = method_style(method, markersize=4)
            _draw_runs(ax, frame[frame["method"] == method], column, style)
        if column == "embedding_std":
            ax.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=0)
        ax.set(xlabel="optimiser step", ylabel=MONITORED[column])
        if column != "knn":
            ax.set_ylim(bottom=0)
        ax.grid(axis="y")
    layout.legend(fig)
    return fig


@layout.of_table
def score_curves(frame: pd.DataFrame) -> Figure:
    """Show ``knn`` over steps, one panel a method: seeds faint, their mean strong, other methods grey.

    A method that was scored at step 0 alone is not trained, and a line across every panel.
    """
    means = frame.pivot_table(index="step", columns="method", values="knn")
    trained = frame.groupby("method")["step"].max() > 0
    methods = [name for name in layout.methods_of(frame) if trained[name]]
    bars = layout.method_looks(frame[~frame["method"].isin(methods)], marker="", zorder=2)
    fig, axes = layout.panels(len(methods), 4, 2.3, sharex=True, sharey=True)
    for ax, method in zip(axes, methods, strict=True):
        ax.plot(means[methods], color=LIGHT_GREY, linewidth=0.7, zorder=1)
        for level, style in zip(means[list(bars)].mean(), bars.values(), strict=True):
            ax.axhline(level, **style)
        _draw_runs(ax, frame[frame["method"] == method], "knn", method_style(method, markersize=3.5))
        ax.set_title(textwrap.fill(method_label(method), 18), fontsize=8.5)
        ax.tick_params(labelsize=8)
    fig.supxlabel("optimiser step", fontsize=9.5)
    fig.supylabel(MONITORED["knn"], fontsize=9.5)
    layout.legend(fig, {method_label(name): style for name, style in bars.items()}, above=True)
    return fig


@layout.of_table
def alignment_uniformity(frame: pd.DataFrame) -> Figure:
    """Show the path of each run in the plane of Wang & Isola (2020); the marker is where it ended.

    ``alignment`` is the mean squared distance of positives, in [0, 4]; ``uniformity`` the log mean Gaussian
    potential, at most 0.
    """
    fig, (ax,) = layout.panels(1, 1, 4.2)
    frame = frame.dropna(subset=["alignment", "uniformity"]).sort_values("step")
    looks = layout.method_looks(frame, label=None)
    for _, run in frame.groupby(["method", *{"seed", "budget"}.intersection(frame)]):
        path, look = run.set_index("uniformity")["alignment"], looks[run["method"].iloc[0]]
        ax.plot(path, **look | {"marker": "", "linewidth": 1.1, "alpha": 0.55})
        ax.plot(path[-1:], **look | {"linestyle": "none", "markersize": 8})
    ax.set(xlabel="uniformity  (← spread over the sphere)", ylabel="alignment  (positives closer ↓)")
    layout.legend(fig, {method_label(name): look for name, look in looks.items()})
    ax.grid()
    return fig


@layout.of_table
def cost_bars(frame: pd.DataFrame) -> Figure:
    """Show ``seconds`` and ``peak_memory_mb`` of training: bars of means, lines from least to most.

    A measure without any number is left out.
    """
    titles = {"seconds": "training time, s", "peak_memory_mb": "peak memory, MiB"}
    shown = {name: title for name, title in titles.items() if frame[name].notna().any()}
    looks = layout.method_looks(frame)
    fig, axes = layout.panels(len(shown), 2, 0.3 * len(looks) + 0.9, sharey=True)
    for ax, (column, title) in zip(axes, shown.items(), strict=True):
        parts = {name: (column, how) for name, how in (("value", "mean"), ("low", "min"), ("high", "max"))}
        means = frame.groupby("method").agg(**parts).loc[list(looks)]
        texts = [f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}" for mean in means["value"]]
        means.index = list(map(method_label, looks))
        layout.bars(ax, means, texts, [look["color"] for look in looks.values()], title)
    return fig
