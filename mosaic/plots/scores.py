"""Figures of 03_finetune_low_label and 05_transfer, of tidy tables: one row a number.

``seed`` is -1 for the aggregate over seeds, ``fraction`` in % of training labels, ``low`` and ``high`` the
95 % interval, NaN when unknown.
"""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from mosaic.analysis.tables import EVALUATIONS
from mosaic.evaluation.metrics import LEAST_POSITIVES, METRICS
from mosaic.plots import layout
from mosaic.plots.palette import LIGHT_GREY, SERIES, method_label, short_name

LABEL_BUDGETS = {"none": "", "shared": ", shared label budget", "full": ", full-label pretraining"}


def _metric_title(results: pd.DataFrame) -> str:
    names = layout.distinct(results, "metric") if "metric" in results else []
    return METRICS.get(names[0], str(names[0])) if len(names) == 1 else "score"


def stratum_title(stratum: str) -> str:
    """Return a stratum as words: ``"labels: 3-4"`` is 3–4 labels, ``"class: ..."`` its short name."""
    kind, _, name = stratum.partition(": ")
    if kind == "labels" and name:
        return "1 label" if name == "1" else f"{name.replace('-', '–')} labels"
    if kind == "group" and ": " in name:  # derived: its origin, a class and how many more
        origin, rest = name.split(": ", 1)
        first, more = rest.rsplit(" + ", 1)
        return f"{origin}: {short_name(first)} + {more}"
    return short_name(name) if kind == "class" else name or stratum


@layout.of_table
def score_vs_fraction(results: pd.DataFrame) -> Figure:
    """Show a score against the label fraction, a panel an evaluation and label budget.

    Methods that pretrain without labels stand beside those of either budget. ``results`` are of one input,
    stratum and metric.
    """
    budgets = [name for name in ("shared", "full") if name in set(results["label_budget"])] or ["none"]
    parts = {}
    for budget in budgets:
        rows = results[results["label_budget"].isin([budget, "none"])]
        for evaluation, title in EVALUATIONS.items():
            if len(part := rows[rows["evaluation"] == evaluation]):
                parts[title + (LABEL_BUDGETS[budget] if len(budgets) > 1 else "")] = part
    titles = {fraction: f"{fraction:g} %" for fraction in sorted(layout.distinct(results, "fraction"))}
    columns = -(-len(parts) // len(budgets))
    fig, _ = layout.curves(parts, "fraction", titles, _metric_title(results), columns)
    fig.supxlabel("training labels used", fontsize=10)
    return fig


@layout.of_table
def per_class_heatmap(results: pd.DataFrame) -> Figure:
    """Show the score of each class: a row a method, a column a class, the best starred; best classes first.

    ``results`` are of one label budget, fraction, evaluation, input and metric; strata ``class: ...`` count.
    A star needs :data:`LEAST_POSITIVES` positives (``n``) and all seeds.
    """
    results = layout.pooled(results[results["stratum"].str.startswith("class: ")])
    methods = layout.methods_of(results)
    table = results.pivot(index="method", columns="stratum", values="value").loc[methods].astype(float)
    table = table[table.mean().sort_values(ascending=False).index]
    enough = results.groupby("stratum")["n"].max()[table.columns] >= LEAST_POSITIVES
    rows, has_all = layout.with_seeds(results)
    complete = table.where(has_all, axis=0)
    texts = layout.numbers(table, "%.2f", complete.eq(complete.max()) & enough, "★")
    columns = list(map(stratum_title, table.columns))
    fig, ax = layout.heat_map(table, texts, rows, columns, vmin=0, vmax=1)
    ax.set_xlabel(_metric_title(results))
    return fig


@layout.of_table
def strata_dots(results: pd.DataFrame) -> Figure:
    """Show a score in each stratum, one panel a kind of stratum (number of labels, groups by origin, class).

    ``results`` are of one label budget, fraction, evaluation, input and metric; ``"all"`` is left out.
    """
    results = results[results["stratum"] != "all"]
    kind = results["stratum"].str.rpartition(": ")[0]  # of derived groups with their origin
    parts = [part for _, part in results.groupby(kind, sort=False)]
    looks, rows = layout.method_looks(results, linestyle="", markersize=6), kind.groupby(kind).size()
    most = max((part["stratum"].nunique() for part in parts), default=0)
    fig, axes = layout.panels(len(rows), 2, most * (0.14 * len(looks) + 0.2) + 0.8, sharex=True)
    for ax, part in zip(axes, parts, strict=True):
        titles = {name: textwrap.fill(stratum_title(name), 18) for name in layout.distinct(part, "stratum")}
        y = layout.dots(ax, part, "stratum", titles, looks, spread=0.66)
        for boundary in y[1:] + 0.5:
            ax.axhline(boundary, color=LIGHT_GREY, linewidth=0.7)
        ax.set(xlabel=_metric_title(results), ylim=(0.5 - most, 0.5))
    layout.legend(fig)
    return fig


@layout.of_table
def missing_sensor(results: pd.DataFrame) -> Figure:
    """Show what a score loses when one sensor is missing at test time, one line a method.

    ``results`` are of one label budget, fraction, evaluation, stratum and metric; inputs ``fused`` and
    ``fused_without_...`` are drawn.
    """
    results = results[results["input"].str.startswith("fused")]
    without = sorted(set(results["input"]) - {"fused"})
    titles = {name: f"{name.removeprefix('fused_without_').upper()} missing" for name in without}
    titles = {**dict(list(titles.items())[:1]), "fused": "all sensors", **titles}
    return layout.curves({"": results}, "input", titles, _metric_title(results), columns=1)[0]


@layout.of_table
def transfer_dots(table: pd.DataFrame) -> Figure:
    """Show a score on each archive by where the encoder was trained, one panel a target and probe.

    The ``probe`` was trained on ``fraction`` % of the labels of the ``target`` or on those of the ``source``.
    """
    table = table[table["probe"] != "change"]
    titles = {name: method_label(name) for name in layout.methods_of(table)}
    sources = zip(layout.distinct(table, "source"), SERIES, strict=False)
    looks = {source: look | {"label": f"pretrained on {source}"} for source, look in sources}
    parts = {key: part for key, part in table.groupby(["target", "probe", "fraction"], sort=False)}
    columns = -(-len(parts) // table["target"].nunique())
    fig, axes = layout.panels(len(parts), columns, 0.36 * len(titles) + 1.0, sharey=True)
    for ax, ((target, probe, fraction), part) in zip(axes, parts.items(), strict=True):
        layout.dots(ax, part, "method", titles, looks, "source", spread=0.36)
        share = "no label of it" if probe == "source" else f"{fraction:g} % of its labels"
        ax.set_title(textwrap.fill(f"{target}: {share}", 28), fontsize=9)
    fig.supxlabel("macro average precision over shared classes", fontsize=9.5)
    layout.legend(fig, above=True)
    return fig


@layout.of_table
def unseen_slopes(table: pd.DataFrame) -> Figure:
    """Show the score in a domain when ``training`` has ``seen`` it and when not (``unseen``)."""
    parts = {str(domain): part for domain, part in table.groupby("domain", sort=False)}
    titles = {"seen": "seen in training", "unseen": "never seen"}
    return layout.curves(parts, "training", titles, "macro average precision", columns=3)[0]
