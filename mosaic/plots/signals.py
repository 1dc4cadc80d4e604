"""Figures of 01_explore_data: what the sensors measure over each class, and the realism card."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mosaic.plots import layout
from mosaic.plots.palette import (
    GREY,
    LIGHT_GREY,
    OKABE_ITO,
    class_group_colors,
    group_colors,
    short_name,
)

_SOURCES = {"real": GREY, "simulated": OKABE_ITO["blue"]}
_STATISTICS_IN_A_ROW = 4


@layout.needs("class", "band", "wavelength", "p5", "p50", "p95")
def class_spectra(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show the spectrum of each class over those of all others: median, and band from p5 to p95.

    Args:
        frame: one row a class and band, columns ``class``, ``band``, ``wavelength`` (nm), ``p5``, ``p50``,
            ``p95`` (DN = reflectance x 1e4).
        groups: group -> names of its classes; gives order and colour.
    """
    colors = class_group_colors(layout.distinct(frame, "class"), groups)
    percentiles = ["p5", "p50", "p95"]
    reflectance = frame.assign(**{name: frame[name] / 100 for name in percentiles})  # DN / 100 = per cent
    spectra = dict(list(reflectance.sort_values("wavelength").groupby("class")))
    fig, axes = layout.panels(len(colors), 5, 1.55, sharex=True, sharey=True)
    for ax, (name, color) in zip(axes, colors.items(), strict=True):
        for other in spectra.values():
            ax.plot(other["wavelength"], other["p50"], color=LIGHT_GREY, linewidth=0.7, zorder=1)
        spectrum = spectra[name]
        ax.fill_between(spectrum["wavelength"], spectrum["p5"], spectrum["p95"], color=color, alpha=0.25)
        ax.plot(spectrum["wavelength"], spectrum["p50"], "o-", color=color, markersize=3, linewidth=1.8)
        ax.set_title(short_name(name), fontsize=8.5)
        ax.tick_params(labelsize=8)
    fig.supxlabel("wavelength, nm", fontsize=9.5)
    fig.supylabel("reflectance, %", fontsize=9.5)
    axes[0].set_ylim(0, 1.03 * float(reflectance["p95"].max()))
    layout.legend(fig, layout.color_handles(group_colors(list(groups))), above=True, most=6)
    return fig


@layout.needs("class", "band", "p5", "p50", "p95")
def backscatter(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show backscatter of each class, one panel a band: median, and line from p5 to p95.

    Args:
        frame: one row a class and band, columns ``class``, ``band``, ``p5``, ``p50``, ``p95`` (dB). The
            first band orders the classes, by median.
        groups: group -> names of its classes; gives the colour.
    """
    bands = dict(list(frame.set_index("class").groupby("band", sort=False)))
    order = list(next(iter(bands.values()))["p50"].sort_values(ascending=False).index)
    colors = class_group_colors(layout.distinct(frame, "class"), groups)
    tones = [colors[name] for name in order]
    fig, axes = layout.panels(len(bands), 2, 0.24 * len(order) + 1.1, sharey=True)
    for ax, (band, rows) in zip(axes, bands.items(), strict=True):
        part = rows.reindex(order)
        y = layout.label_rows(ax, [short_name(name) for name in order])
        ax.hlines(y, part["p5"], part["p95"], color=tones, linewidth=3, alpha=0.45)
        ax.scatter(part["p50"], y, 34, tones, zorder=3)
        ax.set(title=band, xlabel="backscatter, dB")
    layout.legend(fig, layout.color_handles(group_colors(list(groups))), most=6)
    return fig


@layout.needs("source", "class", "quantity", "p5", "p50", "p95")
def real_vs_simulated_quantiles(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show simulated against real medians of each class, one panel a quantity; crosses span p5 to p95.

    Args:
        frame: one row a source, class and quantity, columns ``source`` (``"real"`` or ``"simulated"``),
            ``class``, ``quantity`` (e.g. ``"B04"``, ``"VV"``), ``p5``, ``p50``, ``p95``, and ``unit`` for the
            axes if there is one. A class found on one side only is left out.
        groups: group -> names of its classes; gives the colour.
    """
    quantities = layout.distinct(frame, "quantity")
    colors = class_group_colors(layout.distinct(frame, "class"), groups)
    fig, axes = layout.panels(len(quantities), 3, layout.WIDTH / 3)
    for ax, quantity in zip(axes, quantities, strict=True):
        part = frame[frame["quantity"] == quantity]
        real, simulated = (part[part["source"] == source].set_index("class") for source in _SOURCES)
        shared = [name for name in colors if name in real.index and name in simulated.index]
        real, simulated = real.loc[shared], simulated.loc[shared]
        tones = [colors[name] for name in shared]
        ax.hlines(simulated["p50"], real["p5"], real["p95"], color=tones, alpha=0.35, linewidth=1)
        ax.vlines(real["p50"], simulated["p5"], simulated["p95"], color=tones, alpha=0.35, linewidth=1)
        ax.scatter(real["p50"], simulated["p50"], 28, tones, edgecolors="white", linewidths=0.6, zorder=3)
        low, *_, high = sorted([*ax.get_xlim(), *ax.get_ylim()])
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        ax.axline((0, 0), slope=1, color=GREY, linewidth=1, linestyle="--", zorder=0)
        unit = f", {part['unit'].iloc[0]}" if "unit" in part else ""
        ax.set(xlabel=f"real{unit}", ylabel=f"simulated{unit}", title=quantity)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    layout.legend(fig, layout.color_handles(group_colors(list(groups))), most=6)
    return fig


@layout.needs("statistic", "source", "value")
def real_vs_simulated_bars(frame: pd.DataFrame) -> Figure:
    """Show simulated and real values side by side, one small panel a statistic on its own scale.

    Args:
        frame: one row a statistic and source, columns ``statistic``, ``source`` (``"real"`` or
            ``"simulated"``), ``value`` (unit of the statistic) and, if known, ``low`` and ``high``.
    """
    statistics = layout.distinct(frame, "statistic")
    fig, axes = layout.panels(len(statistics), _STATISTICS_IN_A_ROW, 1.25)
    for i, (ax, statistic) in enumerate(zip(axes, statistics, strict=True)):
        part = frame[frame["statistic"] == statistic].set_index("source").reindex(list(_SOURCES))
        values, low, high = (layout.column_of(part, name) for name in ("value", "low", "high"))
        y = layout.label_rows(ax, list(_SOURCES) if i % _STATISTICS_IN_A_ROW == 0 else [""] * len(_SOURCES))
        ax.barh(y, np.nan_to_num(values), color=list(_SOURCES.values()), height=0.62, alpha=0.85)
        layout.whiskers(ax, y, low, high, vertical=False, color="black", linewidth=2)
        texts = [f"{value:#.3g}" if np.isfinite(value) else "–" for value in values]
        for row, end, text in zip(y, np.nan_to_num(np.fmax(values, high)), texts, strict=True):
            ax.annotate(text, (end, row), (4, 0), textcoords="offset points", va="center")
        ax.set(xlim=(0, 1.4 * np.nanmax([*values, *high, 1e-12])), xticks=[])
        ax.set_title(statistic, fontsize=9)
        ax.spines["bottom"].set_visible(False)
    return fig
