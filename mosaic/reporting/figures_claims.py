"""Figure of 05_claims: the ledger as a forest plot."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mosaic.reporting.marks import panels, require, whiskers
from mosaic.reporting.palette import GREY, VERDICTS


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


def _statement(text: str) -> str:
    return textwrap.fill(text, 48)


def _comparison(text: str) -> str:
    return textwrap.fill(text, 54)
