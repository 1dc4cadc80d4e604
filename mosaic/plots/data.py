"""Figures of 01_explore_data: labels and tiles of an archive, signals of its classes, the realism card."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, PercentFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from mosaic.plots import layout, palette

_SOURCES = {"real": palette.GREY, "simulated": palette.OKABE_ITO["blue"]}
#: Least degrees of longitude and latitude that a map shows, so that it holds some coast.
_LEAST_SPAN = 8.0
_PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


def label_frequencies(labels: Mapping[str, NDArray], class_names: Sequence[str]) -> Figure:
    """Show the share of patches of each class on a log scale; ``labels``: split -> (N, C), 0 or 1."""
    fig, (ax,) = layout.panels(1, 1, 0.27 * len(class_names) + 1.0, width=7.2)
    percent = {name: 100 * np.mean(part, axis=0) for name, part in labels.items()}
    shares = pd.DataFrame(percent, index=pd.Index(map(palette.short_name, class_names), name="class"))
    overall = np.concatenate(list(labels.values())).mean(axis=0)
    shares = shares.iloc[np.argsort(-overall, kind="stable")]
    drawn = shares.where(shares > 0)
    more = {name: {"markersize": 5, "label": f"{name} ({len(part):,})"} for name, part in labels.items()}
    looks = {name: palette.SPLITS[name] | more[name] for name in labels}
    rows = drawn.melt(var_name="split", ignore_index=False).reset_index()
    y = layout.dots(ax, rows, "class", {n: n for n in shares.index}, looks, "split", spread=0.4)
    ax.hlines(y, drawn.min(axis=1), drawn.max(axis=1), color=palette.LIGHT_GREY, linewidth=3, zorder=1)
    ax.set(xscale="log", xlabel="patches that carry the class")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_major_formatter("{x:g} %")
    ax.minorticks_off()
    style: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
    for row, is_absent in zip(y, shares.to_numpy() == 0, strict=True):
        if is_absent.any():
            ax.text(0.995, row, f"absent: {', '.join(shares.columns[is_absent])}", fontsize=8, **style)
    ax.legend(loc="upper left", title="split (patches)")
    return fig


def cooccurrence(labels: NDArray, class_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show P(column class | row class) in percent for ``labels`` (N, C), 0 or 1; groups order the classes."""
    group_of = palette.grouped_classes(class_names, groups)
    ordered = np.asarray(labels, float)[:, [list(class_names).index(name) for name in group_of]]
    counts = ordered.sum(axis=0)
    with np.errstate(invalid="ignore"):
        given = 100 * (ordered.T @ ordered) / counts[:, None]
    np.fill_diagonal(given, np.nan)
    texts = np.where(np.nan_to_num(given) >= 0.5, np.char.mod("%.0f", given), "")
    names = [palette.short_name(name) for name in group_of]
    rows = [f"{name} ({count:,.0f})" for name, count in zip(names, counts, strict=True)]
    fig, ax = layout.heat_map(given, texts, rows, names, row_height=0.3, vmin=0, vmax=100)
    ax.set_xlabel("patches of the row's class that carry the column's, %", fontsize=9)
    for i, (before, after) in enumerate(itertools.pairwise(group_of.values()), start=1):
        if before != after:
            ax.axhline(i, color="white", linewidth=3)
            ax.axvline(i, color="white", linewidth=3)
    return fig


def labels_per_patch(labels: NDArray, reference: Mapping[int, float] | None = None) -> Figure:
    """Show how many patches carry how many of their ``labels`` (N, C), 0 or 1.

    ``reference``, drawn as a line: number of labels -> share of patches, in [0, 1], of the official archive.
    """
    fig, (ax,) = layout.panels(1, 1, 3.2, width=5.6)
    number = np.asarray(labels).sum(axis=1).astype(int)
    most = max(int(number.max(initial=0)), *(reference or {0: 0.0}))
    share = np.bincount(number, minlength=most + 1) / max(len(number), 1)
    x = np.arange(0 if share[0] > 0 else 1, most + 1)
    own = f"this archive (mean {number.mean():.2f})"
    ax.bar(x, share[x], 0.7, color=palette.OKABE_ITO["blue"], label=own)
    if reference:
        line, mean = [reference.get(int(n), 0.0) for n in x], sum(n * part for n, part in reference.items())
        ax.plot(x, line, "o-", color="black", markersize=5, label=f"official table (mean {mean:.2f})")
    ax.set(xlabel="labels of a patch", ylabel="share of patches", xticks=x)
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.legend()
    return fig


@layout.of_table
def kernel_positives(frame: pd.DataFrame) -> Figure:
    """Show the share of pairs, in [0, 1], that each label kernel calls positive, and their mean weight."""
    fig, (left, right) = layout.panels(2, 2, 0.3 * len(frame) + 0.9, sharey=True)
    frame = frame.set_index("kernel")
    share, weight = (frame[[name]].set_axis(["value"], axis=1) for name in ("positive_share", "mean_weight"))
    texts = [f"{100 * value:.1f} %" for value in share["value"]]
    layout.bars(left, share, texts, palette.OKABE_ITO["blue"], "pairs that count as positive")
    texts = [f"{value:.3g}" for value in weight["value"]]
    layout.bars(right, weight, texts, palette.OKABE_ITO["orange"], "mean weight of a positive pair")
    left.xaxis.set_major_formatter(_PERCENT)
    return fig


@layout.of_table
def tile_map(frame: pd.DataFrame) -> Figure:
    """Show tiles at ``lon`` and ``lat`` (degrees, WGS 84): split by colour and marker, patches by area.

    Tiles of unknown position, NaN, are left out.
    """
    frame = frame.dropna(subset=["lon", "lat"])
    if frame.empty:
        return plt.figure()
    places = frame[["lon", "lat"]]
    middle, span = (places.min() + places.max()) / 2, places.max() - places.min()
    half = np.maximum(0.55 * span, _LEAST_SPAN / 2)
    low, high, aspect = middle - half, middle + half, 1 / np.cos(np.radians(middle["lat"]))
    height = min(5.6, 1.2 + 6.4 * aspect * half["lat"] / half["lon"])
    fig, (ax,) = layout.panels(1, 1, height, width=7.2)
    largest, totals = frame["count"].max(), frame.groupby("split")["count"].sum()
    splits = [name for name in palette.SPLITS if name in totals]
    for i, split in enumerate(splits):  # those of one tile are drawn side by side
        part, look = frame[frame["split"] == split], palette.SPLITS[split]
        x = part["lon"] + 0.02 * max(*span, 1) * (i - (len(splits) - 1) / 2)
        sizes = 16 + 130 * part["count"] / largest
        marks = ax.scatter(x, part["lat"], sizes, look["color"], marker=look["marker"], alpha=0.8, zorder=3)
        marks.set(edgecolor="white", linewidth=0.6)
    coast = pd.read_csv(Path(__file__).with_name("coast.csv"), comment="#")
    ax.plot(coast["lon"], coast["lat"], color=palette.LIGHT_GREY, linewidth=1, zorder=1)
    ax.set(xlim=(low["lon"], high["lon"]), ylim=(low["lat"], high["lat"]), aspect=aspect)
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}° {'W' if value < 0 else 'E'}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}° {'S' if value < 0 else 'N'}")
    ax.grid()
    looks = {f"{name} ({totals[name]:,})": palette.SPLITS[name] for name in splits}
    layout.legend(fig, looks, title=f"patches (largest marker: {largest:,})")
    tiles = frame.groupby("tile").agg({"lon": "first", "lat": "first", "count": "sum"})
    _name_tiles(fig, ax, tiles.sort_values("count", ascending=False, kind="stable"))
    return fig


def _name_tiles(fig: Figure, ax: Axes, tiles: pd.DataFrame) -> None:
    """Write names below, above or beside their symbols, in order, each only where it covers nothing."""
    fig.draw_without_rendering()  # puts the axes in their place
    taken = []
    for marks in [each for each in ax.collections if isinstance(each, PathCollection)]:
        radii = np.sqrt(marks.get_sizes()) / 2 * fig.dpi / 72
        for at, radius in zip(ax.transData.transform(marks.get_offsets()), radii, strict=True):
            taken.append(Bbox([at - radius, at + radius]))
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "in_layout": False}
    for tile, lon, lat, _ in tiles.itertuples():
        for x, y in ((0, -1), (0, 1), (1, 0), (-1, 0)):
            style |= {"ha": ("center", "left", "right")[x], "va": ("center", "bottom", "top")[y]}
            name = ax.annotate(tile, (lon, lat), (9 * x, 7 * y), **style)
            box = name.get_window_extent()
            if ax.bbox.contains(*box.min) and ax.bbox.contains(*box.max) and not box.count_overlaps(taken):
                taken.append(box.padded(1))
                break
            name.remove()


@layout.of_table
def class_spectra(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show the spectrum of each class over those of all others: median, and band from p5 to p95.

    ``wavelength`` is in nm, percentiles in DN (reflectance x 1e4); groups of classes give order and colour.
    """
    colors = palette.class_colors(layout.distinct(frame, "class"), groups)
    bands = frame.sort_values("wavelength").set_index("wavelength")
    percent = bands[["p5", "p50", "p95"]] / 100  # DN / 100 = per cent
    spectra = dict(list(percent.groupby(bands["class"])))
    fig, axes = layout.panels(len(colors), 5, 1.55, sharex=True, sharey=True)
    for ax, (name, color) in zip(axes, colors.items(), strict=True):
        for other in spectra.values():
            ax.plot(other["p50"], color=palette.LIGHT_GREY, linewidth=0.7, zorder=1)
        spectrum = spectra[name]
        ax.fill_between(spectrum.index, spectrum["p5"], spectrum["p95"], color=color, alpha=0.25)
        ax.plot(spectrum["p50"], "o-", color=color, markersize=3, linewidth=1.8)
        ax.set_title(palette.short_name(name), fontsize=8.5)
        ax.tick_params(labelsize=8)
    fig.supxlabel("wavelength, nm", fontsize=9.5)
    fig.supylabel("reflectance, %", fontsize=9.5)
    axes[0].set_ylim(0, 1.03 * float(percent["p95"].max()))
    layout.legend(fig, palette.group_colors(list(groups)), above=True, most=6)
    return fig


@layout.of_table
def backscatter(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show backscatter of each class in dB, one panel a band: median, and line from p5 to p95.

    The medians of the first band order the classes; their groups give the colour.
    """
    bands = dict(list(frame.rename(columns={"p5": "low", "p95": "high"}).groupby("band", sort=False)))
    order = list(next(iter(bands.values())).sort_values("p50", ascending=False)["class"])
    colors, titles = palette.class_colors(order, groups), {name: palette.short_name(name) for name in order}
    looks = {name: palette.look(colors[name]) for name in order}
    fig, axes = layout.panels(len(bands), 2, 0.24 * len(order) + 1.1, sharey=True)
    for ax, (band, rows) in zip(axes, bands.items(), strict=True):
        layout.dots(ax, rows, "class", titles, looks, "class", value="p50", width=2.5)
        ax.set(title=band, xlabel="backscatter, dB")
    layout.legend(fig, palette.group_colors(list(groups)), most=6)
    return fig


@layout.of_table
def real_vs_simulated_quantiles(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show ``"simulated"`` against ``"real"`` medians of each class, one panel a quantity, e.g. ``"B04"``.

    Crosses span p5 to p95, ``unit`` is that of the axes. A class found on one side only is left out.
    """
    quantities = dict(list(frame.set_index("class").groupby("quantity", sort=False)))
    colors = pd.Series(palette.class_colors(layout.distinct(frame, "class"), groups))
    fig, axes = layout.panels(len(quantities), 3, layout.WIDTH / 3)
    for ax, (quantity, part) in zip(axes, quantities.items(), strict=True):
        real, simulated = (part[part["source"] == source] for source in _SOURCES)
        tones = colors[colors.index.isin(real.index) & colors.index.isin(simulated.index)]
        real, simulated = real.loc[tones.index], simulated.loc[tones.index]
        ax.hlines(simulated["p50"], real["p5"], real["p95"], color=tones, alpha=0.35, linewidth=1)
        ax.vlines(real["p50"], simulated["p5"], simulated["p95"], color=tones, alpha=0.35, linewidth=1)
        ax.scatter(real["p50"], simulated["p50"], 28, tones, edgecolors="white", linewidths=0.6, zorder=3)
        low, *_, high = sorted([*ax.get_xlim(), *ax.get_ylim()])
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        ax.axline((0, 0), slope=1, color=palette.GREY, linewidth=1, linestyle="--", zorder=0)
        unit = part["unit"].iloc[0]
        ax.set(xlabel=f"real, {unit}", ylabel=f"simulated, {unit}", title=quantity)
        ax.locator_params(nbins=4, steps=[1, 2, 5, 10])
    layout.legend(fig, palette.group_colors(list(groups)), most=6)
    return fig


@layout.of_table
def real_vs_simulated_bars(frame: pd.DataFrame) -> Figure:
    """Show ``"simulated"`` and ``"real"`` values side by side, one panel a statistic on its own scale."""
    parts = {name: part.set_index("source") for name, part in frame.groupby("statistic", sort=False)}
    fig, axes = layout.panels(len(parts), 4, 1.4, sharey=True)
    for ax, (statistic, part) in zip(axes, parts.items(), strict=True):
        part = part.reindex(list(_SOURCES))
        texts = ["–" if np.isnan(value) else f"{value:#.3g}" for value in part["value"]]
        layout.bars(ax, part, texts, list(_SOURCES.values()), textwrap.fill(str(statistic), 22))
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
    return fig
