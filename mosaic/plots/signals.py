"""Figures of 01_explore_data: what the sensors measure over each class, and the realism card."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mosaic.plots.layout import (
    WIDTH,
    column_of,
    distinct,
    legend,
    panels,
    require,
    whiskers,
)
from mosaic.plots.palette import (
    GREY,
    LIGHT_GREY,
    OKABE_ITO,
    class_group_colors,
    group_colors,
    short_name,
)

_SOURCES = {"real": GREY, "simulated": OKABE_ITO["blue"]}


def _group_handles(groups: Mapping[str, Sequence[str]]) -> list[Line2D]:
    colors = group_colors(list(groups))
    return [Line2D([], [], color=color, linewidth=5, label=group) for group, color in colors.items()]


def class_spectra(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]], columns: int = 5) -> Figure:
    """Show the spectrum of each class over those of all others: median, and band from p5 to p95.

    Args:
        frame: one row a class and band, columns ``class``, ``band``, ``wavelength`` (nm), ``p5``, ``p50``,
            ``p95`` (DN = reflectance x 1e4).
        groups: group -> names of its classes; gives order and colour.
        columns: most panels in a row.
    """
    require(frame, "class", "band", "wavelength", "p5", "p50", "p95")
    colors = class_group_colors(distinct(frame, "class"), groups)
    spectra = {name: frame[frame["class"] == name].sort_values("wavelength") for name in colors}
    fig, axes = panels(len(spectra), columns, 1.55, sharex=True, sharey=True)
    for ax, (name, own) in zip(axes, spectra.items(), strict=True):
        for other in spectra.values():
            ax.plot(other["wavelength"], other["p50"] / 100, color=LIGHT_GREY, linewidth=0.7, zorder=1)
        ax.fill_between(own["wavelength"], own["p5"] / 100, own["p95"] / 100, color=colors[name], alpha=0.25)
        ax.plot(own["wavelength"], own["p50"] / 100, "o-", color=colors[name], markersize=3, linewidth=1.8)
        ax.set_title(short_name(name), fontsize=8.5)
        ax.tick_params(labelsize=8)
    if axes:
        fig.supxlabel("wavelength, nm", fontsize=9.5)
        fig.supylabel("reflectance, %", fontsize=9.5)
        axes[0].set_ylim(0, 1.03 * np.nanmax(frame["p95"].to_numpy(float)) / 100)
        legend(fig, _group_handles(groups), above=True, most=6)
    return fig


def backscatter(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show backscatter of each class, one panel a band: median, and line from p5 to p95.

    Args:
        frame: one row a class and band, columns ``class``, ``band``, ``p5``, ``p50``, ``p95`` (dB). The
            first band orders the classes, by median.
        groups: group -> names of its classes; gives the colour.
    """
    require(frame, "class", "band", "p5", "p50", "p95")
    bands = distinct(frame, "band")
    colors = class_group_colors(distinct(frame, "class"), groups)
    wide = {band: frame[frame["band"] == band].set_index("class") for band in bands}
    order = list(wide[bands[0]]["p50"].sort_values().index) if bands else []
    fig, axes = panels(len(bands), 2, 0.24 * len(order) + 1.1, sharey=True)
    y = np.arange(len(order))
    for ax, band in zip(axes, bands, strict=True):
        part = wide[band].reindex(order)
        ax.hlines(y, part["p5"], part["p95"], color=[colors[name] for name in order], linewidth=3, alpha=0.45)
        ax.scatter(part["p50"], y, 34, [colors[name] for name in order], zorder=3)
        ax.set_yticks(y, [short_name(name) for name in order])
        ax.set(title=band, xlabel="backscatter, dB")
        ax.grid(axis="x")
    if axes:
        legend(fig, _group_handles(groups), most=6)
    return fig


def real_vs_simulated_quantiles(
    frame: pd.DataFrame, groups: Mapping[str, Sequence[str]], columns: int = 3
) -> Figure:
    """Show simulated against real medians of each class, one panel a quantity; crosses span p5 to p95.

    Args:
        frame: one row a source, class and quantity, columns ``source`` (``"real"`` or ``"simulated"``),
            ``class``, ``quantity`` (e.g. ``"B04"``, ``"VV"``), ``p5``, ``p50``, ``p95``, and ``unit`` for the
            axes if there is one. A class found on one side only is left out.
        groups: group -> names of its classes; gives the colour.
        columns: most panels in a row.
    """
    require(frame, "source", "class", "quantity", "p5", "p50", "p95")
    quantities = distinct(frame, "quantity")
    colors = class_group_colors(distinct(frame, "class"), groups)
    fig, axes = panels(len(quantities), columns, WIDTH / columns)
    for ax, quantity in zip(axes, quantities, strict=True):
        part = frame[frame["quantity"] == quantity]
        sides = [part[part["source"] == source].set_index("class") for source in ("real", "simulated")]
        shared = [name for name in colors if all(name in side.index for side in sides)]
        real, simulated = (side.loc[shared] for side in sides)
        tones = [colors[name] for name in shared]
        ax.hlines(simulated["p50"], real["p5"], real["p95"], color=tones, alpha=0.35, linewidth=1)
        ax.vlines(real["p50"], simulated["p5"], simulated["p95"], color=tones, alpha=0.35, linewidth=1)
        ax.scatter(real["p50"], simulated["p50"], 28, tones, edgecolors="white", linewidths=0.6, zorder=3)
        ends = [*ax.get_xlim(), *ax.get_ylim()]
        ax.set(xlim=(min(ends), max(ends)), ylim=(min(ends), max(ends)), aspect="equal")
        ax.axline((0, 0), slope=1, color=GREY, linewidth=1, linestyle="--", zorder=0)
        unit = f", {part['unit'].iloc[0]}" if "unit" in part else ""
        ax.set(xlabel=f"real{unit}", ylabel=f"simulated{unit}", title=quantity)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    if axes:
        legend(fig, _group_handles(groups), most=6)
    return fig


def real_vs_simulated_bars(frame: pd.DataFrame, columns: int = 4) -> Figure:
    """Show simulated beside real values, one small panel a statistic on its own scale.

    Args:
        frame: one row a statistic and source, columns ``statistic``, ``source`` (``"real"`` or
            ``"simulated"``), ``value`` (unit of the statistic) and, if known, ``low`` and ``high``.
        columns: most panels in a row.
    """
    require(frame, "statistic", "source", "value")
    statistics = distinct(frame, "statistic")
    fig, axes = panels(len(statistics), columns, 1.25)
    for ax, statistic in zip(axes, statistics, strict=True):
        part = frame[frame["statistic"] == statistic].set_index("source").reindex(list(_SOURCES))
        values, y = part["value"].to_numpy(float), np.arange(2)[::-1]
        low, high = column_of(part, "low"), column_of(part, "high")
        ax.barh(y, np.nan_to_num(values), color=list(_SOURCES.values()), height=0.62, alpha=0.85)
        whiskers(ax, y, low, high, "black", vertical=False, width=2)
        top = np.nanmax([*values, *high, 1e-12])
        for place, value, end in zip(y, values, high, strict=True):
            words = f"{value:#.3g}" if np.isfinite(value) else "–"
            ax.annotate(
                words, (np.nanmax([value, end, 0]), place), (4, 0), textcoords="offset points", va="center"
            )
        ax.set_yticks(y, list(_SOURCES) if ax in axes[::columns] else ["", ""])
        ax.set(xlim=(0, 1.4 * top), xticks=[])
        ax.set_title(statistic, fontsize=9)
        ax.tick_params(length=0)
        ax.spines["bottom"].set_visible(False)
    return fig
