"""Figures of 03_finetune_low_label and 05_transfer. All take tidy tables, one row a number.

Columns of tidy results: ``method``, ``seed`` (-1 for the aggregate over seeds), ``label_budget``
(``none``, ``shared``, ``full``), ``fraction`` (% of training labels), ``evaluation``, ``input``,
``stratum``, ``metric``, ``value``, ``low``, ``high`` (95 % interval; NaN when unknown).
"""

import itertools
import re
import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mosaic.analysis.tables import EVALUATIONS
from mosaic.evaluation.metrics import LEAST_POSITIVES, METRICS
from mosaic.plots import layout
from mosaic.plots.palette import GREY, LIGHT_GREY, SERIES, method_label, short_name

LABEL_BUDGETS = {"shared": "shared label budget", "full": "full-label pretraining"}


def _metric_title(results: pd.DataFrame) -> str:
    names = layout.distinct(results, "metric") if "metric" in results else []
    return METRICS.get(names[0], str(names[0])) if len(names) == 1 else "score"


def stratum_title(stratum: str) -> str:
    """Return a stratum as words: ``"labels: 3-4"`` is 3–4 labels, ``"class: ..."`` its short name."""
    kind, _, name = stratum.partition(": ")
    if kind == "labels" and name:
        return "1 label" if name == "1" else f"{name.replace('-', '–')} labels"
    return short_name(name) if kind == "class" else name or stratum


def _kind(stratum: str) -> str:
    """Return the kind of a stratum; derived groups are numbered, and those of one origin are a kind."""
    kind, _, name = stratum.partition(": ")
    numbered = re.fullmatch(r"(.+) \d+", name)
    return numbered[1] if kind == "group" and numbered else kind


@layout.needs("method", "label_budget", "fraction", "evaluation", "value")
def score_vs_fraction(results: pd.DataFrame) -> Figure:
    """Show a score against the label fraction: a row of panels a label budget, a column an evaluation.

    Methods that pretrain without labels are in every row. ``results`` are of one input, stratum and metric.
    """
    methods, fractions = layout.methods_of(results), sorted(layout.distinct(results, "fraction"))
    present = {*results["label_budget"], *results["evaluation"]}
    budgets = [name for name in LABEL_BUDGETS if name in present] or ["none"]
    evaluations = [name for name in EVALUATIONS if name in present]
    pairs = list(itertools.product(budgets, evaluations))
    height, width = 2.6 + 0.06 * len(methods), min(layout.WIDTH, 1.2 + 3.4 * len(evaluations))
    fig, axes = layout.panels(len(pairs), len(evaluations), height, width=width, sharex=True, sharey=True)
    axes[0].set(xscale="log", xlim=(fractions[0] / 1.4, fractions[-1] * 1.4))
    for ax, (budget, evaluation) in zip(axes, pairs, strict=True):
        part = results.query("label_budget in [@budget, 'none'] and evaluation == @evaluation")
        positions = {fraction: fraction for fraction in sorted(part["fraction"].unique())}
        layout.draw_methods(ax, part, "fraction", positions, methods, 0.09, vertical=True)
        ax.grid(axis="y")
        if part.empty:
            layout.write(ax, "not evaluated")
        if budget == budgets[0]:
            ax.set_title(EVALUATIONS[evaluation])
        if evaluation == evaluations[0]:
            ax.set_ylabel(LABEL_BUDGETS.get(budget, ""), fontsize=9.5)
    axes[0].set_xticks(fractions, [f"{value:g} %" for value in fractions])
    axes[0].xaxis.set_minor_locator(NullLocator())
    fig.supxlabel("training labels used", fontsize=10)
    fig.supylabel(_metric_title(results), fontsize=10)
    layout.legend(fig, layout.method_handles(methods), above=True)
    return fig


@layout.needs("method", "stratum", "value", "n")
def per_class_heatmap(results: pd.DataFrame) -> Figure:
    """Show the score of each class, one column a method, the best of a class starred; best classes on top.

    ``results`` are of one label budget, fraction, evaluation, input and metric; strata ``class: ...`` count.
    A star needs :data:`LEAST_POSITIVES` positives (``n``).
    """
    results = layout.pooled(results[results["stratum"].str.startswith("class: ")])
    fig, axes = layout.panels(1 if len(results) else 0, 1, 0.29 * results["stratum"].nunique() + 2.0)
    if axes:
        methods = layout.methods_of(results)
        table = results.pivot(index="stratum", columns="method", values="value")[methods].astype(float)
        table = table.loc[table.mean(axis=1).sort_values(ascending=False).index]
        enough = results.groupby("stratum")["n"].max().reindex(table.index) >= LEAST_POSITIVES
        is_best = table.eq(table.max(axis=1), axis=0) & enough.to_numpy()[:, None]
        texts = np.char.add(np.char.mod("%.2f", table), np.where(is_best, " ★", ""))
        rows, columns = map(stratum_title, table.index), map(method_label, methods)
        layout.heat_map(axes[0], table.to_numpy(), texts, list(rows), list(columns), vmin=0, vmax=1)
        axes[0].set_xlabel(_metric_title(results))
    return fig


@layout.needs("method", "stratum", "value")
def strata_dots(results: pd.DataFrame) -> Figure:
    """Show a score in each stratum, one panel a kind of stratum (number of labels, groups by origin, class).

    ``results`` are of one label budget, fraction, evaluation, input and metric; ``"all"`` is left out.
    """
    results = results[results["stratum"] != "all"]
    methods = layout.methods_of(results)
    kinds: dict[str, list[str]] = {}
    for name in layout.distinct(results, "stratum"):
        kinds.setdefault(_kind(name), []).append(name)
    rows = max(map(len, kinds.values()), default=0)
    fig, axes = layout.panels(len(kinds), 2, rows * (0.14 * len(methods) + 0.2) + 0.8, sharex=True)
    for ax, strata in zip(axes, kinds.values(), strict=True):
        y = layout.label_rows(ax, [textwrap.fill(stratum_title(name), 18) for name in strata])
        for boundary in y[1:] + 0.5:
            ax.axhline(boundary, color=LIGHT_GREY, linewidth=0.7)
        part, positions = results[results["stratum"].isin(strata)], dict(zip(strata, y, strict=True))
        layout.draw_methods(ax, part, "stratum", positions, methods, -0.66, vertical=False)
        ax.set(xlabel=_metric_title(results), ylim=(0.5 - rows, 0.5))
    layout.legend(fig, layout.method_handles(methods, linestyle="none") if axes else [])
    return fig


@layout.needs("method", "input", "value")
def missing_sensor(results: pd.DataFrame) -> Figure:
    """Show what a score loses when one sensor is missing at test time, one line a method.

    ``results`` are of one label budget, fraction, evaluation, stratum and metric; inputs ``fused`` and
    ``fused_without_...`` are drawn.
    """
    results = results[results["input"].str.startswith("fused")]
    fig, axes = layout.panels(1 if len(results) else 0, 1, 4.0)
    for ax in axes:
        without = sorted(set(results["input"]) - {"fused"})
        titles = {name: f"{name.removeprefix('fused_without_').upper()} missing" for name in without}
        titles = {**dict(list(titles.items())[:1]), "fused": "all sensors", **titles}
        positions, methods = {name: i for i, name in enumerate(titles)}, layout.methods_of(results)
        layout.draw_methods(ax, results, "input", positions, methods, 0.16, vertical=True)
        ax.set_xticks(range(len(titles)), list(titles.values()))
        ax.set(ylabel=_metric_title(results), xlim=(-0.3, len(titles) - 0.7))
        ax.grid(axis="y")
        layout.legend_beside(ax, handlelength=3)
    return fig


@layout.needs("source", "target", "method", "fraction", "probe", "value")
def transfer_dots(table: pd.DataFrame) -> Figure:
    """Show a score on each archive by where the encoder was trained, one panel a target and probe.

    The ``probe`` was trained on ``fraction`` % of the labels of the ``target`` or on those of the ``source``.
    """
    table = table[table["probe"] != "change"]
    methods = layout.methods_of(table)
    looks = {source: SERIES[i % len(SERIES)] for i, source in enumerate(layout.distinct(table, "source"))}
    parts = {key: part for key, part in table.groupby(["target", "probe", "fraction"], sort=False)}
    columns = -(-len(parts) // table["target"].nunique())
    fig, axes = layout.panels(len(parts), columns, 0.36 * len(methods) + 1.0, sharey=True)
    for ax, ((target, probe, fraction), part) in zip(axes, parts.items(), strict=True):
        y = layout.label_rows(ax, list(map(method_label, methods)))
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
    """Show the score in a domain when ``training`` has ``seen`` it and when not (``unseen``)."""
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
