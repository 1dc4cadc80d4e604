"""Figures of 07_claims: all verdicts at a glance, a forest plot of the effects, and what a run can detect."""

import textwrap
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mosaic.plots import layout
from mosaic.plots.palette import GREY, SERIES, VERDICTS, tint
from mosaic.utils.words import count, effect


def _effect(row: Mapping[Hashable, Any]) -> str:
    if not np.isfinite(row["effect"]):
        return "not computed"
    return effect(row["effect"], row["low"], row["high"]).replace("-", "−")


@layout.of_table
def claims_forest(claims: pd.DataFrame) -> Figure:
    """Show the claims: effect with interval against no effect, and the verdict by colour, marker and sign.

    Each ``measure`` gets a panel with its own scale.
    """
    claims = claims.assign(
        statement=[textwrap.fill(text, 48) for text in claims["statement"]],
        comparison=[textwrap.fill(text, 54) for text in claims["comparison"]],
    )
    parts = {str(name): part for name, part in claims.groupby("measure", sort=False)}
    sizes = [len(part) for part in parts.values()]
    fig, axes = layout.panels(len(parts), 1, 1, gridspec_kw={"height_ratios": sizes})
    line_breaks = (claims["statement"] + claims["comparison"]).str.count("\n").max()
    fig.set_figheight((0.55 + 0.16 * line_breaks) * len(claims) + 0.62 * len(parts))
    looks = {verdict: look | {"markersize": 8} for verdict, (look, _) in VERDICTS.items()}
    for ax, (measure, part) in zip(axes, parts.items(), strict=True):
        ax.axvline(0, color=GREY, linewidth=1)
        rows = dict.fromkeys(part.index, "")
        layout.dots(ax, part.reset_index(), "index", rows, looks, "verdict", value="effect", width=2.2)
        for i, row in enumerate(part.to_dict("records")):
            for x, side, upper, lower in (
                (-0.02, "right", row["statement"], row["comparison"]),
                (1.03, "left", f"{VERDICTS[row['verdict']][1]} {row['verdict']}", _effect(row)),
            ):
                options: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": side}
                ax.text(x, 0.04 - i, upper, va="bottom", fontsize=9, **options)
                ax.text(x, -0.04 - i, lower, va="top", fontsize=8, color=GREY, **options)
        ax.set(xlabel=measure, yticks=[])
        ax.locator_params(axis="x", nbins=5)  # or ticks of four digits touch
    return fig


@layout.of_table
def claims_grid(claims: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """Show all verdicts: a row a claim, a column an archive and family of opponents (family -> title).

    The ``name`` of a claim is ``"<claim> vs <family>"``.
    """
    names = claims["name"].str.rpartition(" vs ")
    claims = claims.assign(
        claim=names[0],
        family=names[2],
        color=claims["verdict"].map(list(VERDICTS).index),
        text=[
            f"{VERDICTS[row['verdict']][1]} {row['verdict']}\n{_effect(row)}".replace(" [", "\n[")
            for row in claims.to_dict("records")
        ],
    )
    rows, datasets = layout.distinct(claims, "claim"), layout.distinct(claims, "dataset")
    cells = claims.set_index(["claim", "dataset", "family"])[["color", "text"]]
    columns = pd.MultiIndex.from_product([datasets, families])
    colors, texts = (cells[name].unstack([1, 2]).reindex(index=rows, columns=columns) for name in cells)
    fig, ax = layout.heat_map(
        colors,
        texts.fillna(""),
        [textwrap.fill(name, 20) for name in rows],
        [textwrap.fill(f"than {families[family]}", 48 // len(columns) + 4) for _, family in columns],
        row_height=0.62,
        blocks=[dataset for dataset, _ in columns],
        cmap=ListedColormap([tint(look["color"], 0.82) for look, _ in VERDICTS.values()]),
        vmin=-0.5,
        vmax=len(VERDICTS) - 0.5,
        linewidths=3,
    )
    plt.setp(ax.get_xticklabels(), rotation=0, ha="center", rotation_mode="default")
    return fig


@layout.of_table
def detectable_effects(table: pd.DataFrame, relevant: float) -> Figure:
    """Show the minimum detectable effect ``mde`` over the number of test scenes, a line a number of seeds.

    The difference that is ``relevant`` is drawn as a line across.
    """
    parts = {str(name): part for name, part in table.groupby("dataset", sort=False)}
    fig, axes = layout.panels(len(parts), 2, 3.0, sharey=True)
    for ax, (dataset, part) in zip(axes, parts.items(), strict=True):
        for (_, line), look in zip(part.groupby("n_seeds"), SERIES, strict=False):
            label = count(line["n_seeds"].iloc[0], "seed")
            ax.plot(line["n_scenes"], line["mde"], color=look["color"], label=label)
        ax.axhline(relevant, color=GREY, linewidth=1, linestyle="--")
        ax.set(xscale="log", yscale="log", xlabel="test scenes", title=dataset)
        ax.grid()
    axes[0].set_ylabel("minimum detectable effect")
    layout.legend(fig)
    return fig
