"""Figures of 03_finetune_low_label. All take tidy results, one row a number.

Columns of tidy results: ``method``, ``seed`` (-1 for the aggregate over seeds), ``label_budget``
(``none``, ``shared``, ``full``), ``fraction`` (% of training labels), ``evaluation``, ``input``,
``stratum``, ``metric``, ``value``, ``low``, ``high`` (95 % interval; NaN when unknown).
"""

import re
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mosaic.evaluation.names import EVALUATIONS, METRICS
from mosaic.plots.layout import (
    WIDTH,
    canvas,
    column_of,
    distinct,
    dodge,
    legend,
    method_handles,
    methods_of,
    panels,
    percent,
    point_style,
    require,
    say_nothing,
    seed_dots,
    whiskers,
)
from mosaic.plots.palette import GREY, LIGHT_GREY, method_style, short_name

LABEL_BUDGETS = {"shared": "shared label budget", "full": "full-label pretraining"}
_CELL = ["method", "label_budget", "fraction", "evaluation", "input", "stratum", "metric"]


def pooled(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that stand for all seeds: the aggregates, or the only seed where there is one.

    Raises:
        ValueError: when a number has several seeds and no aggregate.
    """
    if results.empty or "seed" not in results:
        return results
    keys = [name for name in _CELL if name in results]
    aggregates = results[results["seed"] == -1]
    if aggregates.empty:
        aggregates = results
    if aggregates.duplicated(keys).any():
        raise ValueError(
            f"several rows for one {' x '.join(keys)}: aggregate over seeds (seed -1), or filter"
        )
    return aggregates


def _per_seed(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of single seeds where there are several."""
    if "seed" not in results:
        return results.iloc[:0]
    seeds = results[results["seed"] >= 0]
    return seeds if seeds["seed"].nunique() > 1 else seeds.iloc[:0]


def _metric_title(results: pd.DataFrame) -> str:
    names = distinct(results, "metric") if "metric" in results else []
    return METRICS.get(names[0], str(names[0])) if len(names) == 1 else "score"


def stratum_title(stratum: str) -> str:
    """Return a stratum as words: ``"labels: 3-4"`` is 3–4 labels, ``"class: ..."`` its short name."""
    kind, _, what = stratum.partition(": ")
    if kind == "labels" and what:
        return f"{what.replace('-', '–')} label{'' if what == '1' else 's'}"
    return short_name(what) if kind == "class" else what or stratum


def _kind(stratum: str) -> str:
    """Return what a stratum stands beside: derived groups, which are numbered, beside those of one origin."""
    kind, _, what = stratum.partition(": ")
    numbered = re.fullmatch(r"(.+) \d+", what)
    return numbered[1] if kind == "group" and numbered else kind


def score_vs_fraction(results: pd.DataFrame) -> Figure:
    """Show a score against the label fraction: a row of panels a label budget, a column an evaluation.

    Methods that pretrain without labels (``none``) stand in every row. Intervals are vertical lines, single
    seeds small dots; methods are set slightly apart along the axis.

    Args:
        results: tidy results of one input, stratum and metric.
    """
    require(results, "method", "label_budget", "fraction", "evaluation", "value")
    present = set(distinct(results, "label_budget"))
    rows = [name for name in LABEL_BUDGETS if name in present] or (["none"] if "none" in present else [])
    columns = [name for name in EVALUATIONS if name in set(distinct(results, "evaluation"))]
    height = 2.6 + 0.06 * len(methods_of(results))
    across, width = max(len(columns), 1), min(WIDTH, 1.2 + 3.4 * len(columns))
    fig, axes = panels(len(rows) * len(columns), across, height, width=width, sharex=True, sharey=True)
    for place, ax in enumerate(axes):
        budget, evaluation = rows[place // len(columns)], columns[place % len(columns)]
        chosen = results["label_budget"].isin([budget, "none"]) & (results["evaluation"] == evaluation)
        _fraction_panel(ax, results[chosen], methods_of(results))
        if place < len(columns):
            ax.set_title(EVALUATIONS[evaluation])
        if place % len(columns) == 0:
            ax.set_ylabel(LABEL_BUDGETS.get(budget, ""), fontsize=9.5)
    if axes:
        fractions = sorted(distinct(results, "fraction"))
        axes[0].set_xscale("log")
        axes[0].set_xticks(fractions, [percent(value) for value in fractions])
        axes[0].xaxis.set_minor_locator(NullLocator())
        fig.supxlabel("training labels used", fontsize=10)
        fig.supylabel(_metric_title(results), fontsize=10)
        legend(fig, method_handles(methods_of(results)), above=True)
    return fig


def _fraction_panel(ax: Axes, results: pd.DataFrame, methods: Sequence[str]) -> None:
    if results.empty:
        ax.text(0.5, 0.5, "not evaluated", transform=ax.transAxes, ha="center", va="center", color=GREY)
        return
    for method, factor in zip(methods, 10 ** dodge(len(methods), 0.09), strict=True):
        own = results[results["method"] == method]
        if own.empty:
            continue
        line, style = pooled(own).sort_values("fraction"), method_style(method)
        x = line["fraction"].to_numpy(float) * factor
        whiskers(ax, x, column_of(line, "low"), column_of(line, "high"), style.color, vertical=True)
        ax.plot(x, line["value"], **style.line(), label=style.label)
        seeds = _per_seed(own)
        seed_dots(ax, seeds["fraction"] * factor, seeds["value"], style.color)
    ax.grid(axis="y")


def per_class_heatmap(results: pd.DataFrame, classes: Sequence[str] | None = None) -> Figure:
    """Show a score of each class and method as numbers on colour; the best of a class is starred.

    Args:
        results: tidy results of one label budget, fraction, evaluation, input and metric; strata
            ``class: ...``.
        classes: order of the classes; by descending mean score when None.
    """
    require(results, "method", "stratum", "value")
    own = pooled(results[results["stratum"].str.startswith("class: ")]) if len(results) else results
    fig, axes = panels(1 if len(own) else 0, 1, 0.29 * (own["stratum"].nunique() if len(own) else 4) + 2.0)
    if not axes:
        return fig
    table = own.pivot(index="stratum", columns="method", values="value")[methods_of(own)]
    order = table.mean(axis=1).sort_values(ascending=False).index
    if classes is not None:
        order = pd.Index([f"class: {name}" for name in classes if f"class: {name}" in table.index])
    table = table.loc[order]
    many = table.shape[1] > 8
    best = table.eq(table.max(axis=1), axis=0)
    words = table.map(lambda value: f"{value:.2f}" if np.isfinite(value) else "–")
    words = words.where(~best, words + " ★")
    sns.heatmap(
        table.astype(float),
        annot=words.to_numpy(),
        fmt="",
        vmin=0,
        vmax=1,
        cmap="mako_r",
        ax=axes[0],
        annot_kws={"fontsize": 8},
        cbar=False,
        yticklabels=[stratum_title(name) for name in order],
        xticklabels=[textwrap.fill(method_style(str(name)).label, 99 if many else 14) for name in table],
    )
    axes[0].set(xlabel=_metric_title(own), ylabel="", facecolor="#EEEEEE")
    axes[0].xaxis.tick_top()
    axes[0].tick_params(length=0, rotation=0)
    turned = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if many else {"rotation": 0}
    plt.setp(axes[0].get_xticklabels(), fontsize=8.5, **turned)
    return fig


def strata_dots(results: pd.DataFrame) -> Figure:
    """Show a score in each stratum, one panel a kind of stratum (number of labels, groups by origin, class).

    Args:
        results: tidy results of one label budget, fraction, evaluation, input and metric; strata other than
            ``"all"`` are drawn in the order they appear.
    """
    require(results, "method", "stratum", "value")
    results = results[results["stratum"] != "all"] if len(results) else results
    methods = methods_of(results)
    strata: dict[str, list[str]] = {}
    for name in distinct(results, "stratum"):
        strata.setdefault(_kind(name), []).append(name)
    rows = max((len(names) for names in strata.values()), default=0)
    fig, axes = panels(len(strata), 2, rows * (0.14 * len(methods) + 0.2) + 0.8, sharex=True)
    offsets = -dodge(len(methods), 0.66)
    for ax, names in zip(axes, strata.values(), strict=True):
        _method_rows(ax, results, "stratum", names, methods, offsets)
        ax.set_yticks(-np.arange(len(names)), [textwrap.fill(stratum_title(name), 18) for name in names])
        ax.set(xlabel=_metric_title(results), ylim=(0.5 - rows, 0.5))
    if axes:
        legend(fig, method_handles(methods, line=False))
    return fig


def _method_rows(
    ax: Axes,
    frame: pd.DataFrame,
    column: str,
    rows: Sequence[str],
    methods: Sequence[str],
    offsets: np.ndarray,
) -> None:
    """Draw one row for each value of ``column`` from the top down, its methods as dots with intervals."""
    for place in range(1, len(rows)):
        ax.axhline(0.5 - place, color=LIGHT_GREY, linewidth=0.7)
    for method, offset in zip(methods, offsets, strict=True):
        own, style = frame[frame["method"] == method], method_style(method)
        line = pooled(own).set_index(column).reindex(list(rows))
        y = offset - np.arange(len(rows))
        whiskers(ax, y, column_of(line, "low"), column_of(line, "high"), style.color, vertical=False)
        ax.plot(line["value"], y, **point_style(style), label=style.label)
        seeds = _per_seed(own)
        at = [offset - rows.index(name) if name in rows else np.nan for name in seeds[column]]
        seed_dots(ax, seeds["value"], at, style.color)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)


def missing_sensor(results: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Show what a score loses when one sensor is missing at test time, one line a method.

    Args:
        results: tidy results of one label budget, fraction, evaluation, stratum and metric, with inputs
            ``fused_without_s1``, ``fused`` and ``fused_without_s2``; a method without some is drawn as far as
            it goes.
        ax: where to draw; a new figure when None.
    """
    require(results, "method", "input", "value")
    ax = canvas(ax, results, size=(WIDTH, 4.0))
    stops = ["fused_without_s1", "fused", "fused_without_s2"]
    methods = [
        name
        for name in methods_of(results)
        if results.loc[results["method"] == name, "input"].isin(stops).any()
    ]
    for method, offset in zip(methods, dodge(len(methods), 0.16), strict=True):
        own, style = (
            results[(results["method"] == method) & results["input"].isin(stops)],
            method_style(method),
        )
        line = pooled(own).set_index("input").reindex(stops)
        x = np.arange(3) + offset
        whiskers(ax, x, column_of(line, "low"), column_of(line, "high"), style.color, vertical=True)
        ax.plot(x, line["value"], **style.line() | {"markersize": 7}, label=style.label)
        seeds = _per_seed(own)
        at = [stops.index(name) + offset for name in seeds["input"]]
        seed_dots(ax, at, seeds["value"], style.color)
    if methods:
        ax.set_xticks(range(3), ["S1 missing", "both sensors", "S2 missing"])
        ax.set(ylabel=_metric_title(results), xlim=(-0.3, 2.3))
        ax.grid(axis="y")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=3)
    elif not results.empty:
        say_nothing(ax)
    return ax
