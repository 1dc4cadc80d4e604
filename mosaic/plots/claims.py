"""Figures of 07_claims: the ledger at a glance, and as a forest plot."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mosaic.plots.layout import panels, require, whiskers
from mosaic.plots.palette import GREY, VERDICTS, tint


def claims_forest(ledger: pd.DataFrame) -> Figure:
    """Show the claims: effect with interval against no effect, and the verdict by colour, marker and sign.

    Args:
        ledger: one row a claim, columns ``statement``, ``comparison``, ``effect``, ``low``, ``high`` (NaN
            when not computed), ``verdict`` (``supported``, ``not supported``, ``undecided``), and ``measure``
            if effects have several units: each then gets a panel with its own scale.
    """
    columns = ["statement", "comparison", "effect", "low", "high", "verdict"]
    require(ledger, *columns)
    named = ledger if "measure" in ledger else ledger.assign(measure="effect")
    parts = {str(name): part for name, part in named.groupby("measure", sort=False)}
    sizes = [len(part) for part in parts.values()]
    fig, axes = panels(len(parts), 1, 1, gridspec_kw={"height_ratios": sizes} if sizes else None)
    texts = () if ledger.empty else zip(ledger["statement"], ledger["comparison"], strict=True)
    breaks = [(_statement(one) + _comparison(other)).count("\n") for one, other in texts]
    fig.set_figheight((0.55 + 0.16 * max(breaks, default=0)) * sum(sizes) + 0.62 * max(len(parts), 1))
    for ax, (measure, part) in zip(axes, parts.items(), strict=True):
        ax.axvline(0, color=GREY, linewidth=1)
        for place, row in enumerate(part[columns].itertuples(index=False, name=None)):
            statement, comparison, effect, low, high, verdict = row
            color, marker, sign = VERDICTS[verdict]
            ends = np.array([low], float), np.array([high], float)
            whiskers(ax, np.array([-place]), *ends, color, vertical=False, width=2.2)
            ax.plot(effect, -place, marker, color=color, markersize=8)
            number = f"{effect:+.3f} [{low:+.3f}, {high:+.3f}]" if np.isfinite(effect) else "not computed"
            for x, side, upper, lower in (
                (-0.02, "right", _statement(statement), _comparison(comparison)),
                (1.03, "left", f"{sign} {verdict}", number.replace("-", "−")),
            ):
                at: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": side}
                ax.text(x, 0.04 - place, upper, va="bottom", fontsize=9, **at)
                ax.text(x, -0.04 - place, lower, va="top", fontsize=8, color=GREY, **at)
        ax.set(xlabel=measure, ylim=(0.6 - len(part), 0.6), yticks=[])
        ax.grid(axis="x")
    return fig


def claims_grid(ledger: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """Show all verdicts at a glance: a row a claim, a column an archive and family of opponents.

    Args:
        ledger: one row a claim and archive, columns ``dataset``, ``name`` (``"<claim> vs <family>"``),
            ``effect``, ``low``, ``high`` (NaN when not computed) and ``verdict``.
        families: family -> how its column is called.
    """
    require(ledger, "dataset", "name", "effect", "low", "high", "verdict")
    rows = list(dict.fromkeys(name.rpartition(" vs ")[0] for name in ledger["name"])) if len(ledger) else []
    datasets = list(dict.fromkeys(ledger["dataset"])) if len(ledger) else []
    columns = [(dataset, family) for dataset in datasets for family in families]
    fig, axes = panels(1 if rows else 0, 1, 0.62 * len(rows) + 1.1)
    if not axes:
        return fig
    ax = axes[0]
    for row in ledger.to_dict("records"):
        short, _, family = row["name"].rpartition(" vs ")
        if family not in families:
            continue
        x, y = columns.index((row["dataset"], family)), -rows.index(short)
        color, _, sign = VERDICTS[row["verdict"]]
        ax.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, color=tint(color, 0.82), linewidth=0))
        ax.text(x, y + 0.12, f"{sign} {row['verdict']}", ha="center", va="bottom", fontsize=8, color="black")
        words = "not computed"
        if np.isfinite(row["effect"]):
            words = f"{row['effect']:+.3f}\n[{row['low']:+.3f}, {row['high']:+.3f}]".replace("-", "−")
        ax.text(x, y + 0.06, words, ha="center", va="top", fontsize=7.5)
    ax.set_xticks(
        range(len(columns)),
        [textwrap.fill(f"than {families[f]}", 16, break_on_hyphens=False) for _, f in columns],
        fontsize=8,
    )
    ax.set_yticks([-y for y in range(len(rows))], [textwrap.fill(name, 20) for name in rows])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(0.5 - len(rows), 0.5))
    ax.spines[:].set_visible(False)
    for place, dataset in enumerate(datasets):
        middle = (place + 0.5) * len(families) - 0.5
        ax.text(middle, 0.42 - len(rows), dataset, ha="center", va="top", fontsize=9.5, fontweight="bold")
        if place:
            ax.axvline(place * len(families) - 0.5, color=GREY, linewidth=0.8)
    return fig


def _statement(text: str) -> str:
    return textwrap.fill(text, 48)


def _comparison(text: str) -> str:
    return textwrap.fill(text, 54)
