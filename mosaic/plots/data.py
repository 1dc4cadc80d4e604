"""Figures of 01_explore_data: labels of an archive, positives of label kernels, map of its tiles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, PercentFormatter
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray

from mosaic.plots import layout
from mosaic.plots.palette import GREY, LIGHT_GREY, OKABE_ITO, SPLITS, grouped_classes, short_name

_PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


def label_frequencies(labels: Mapping[str, NDArray], class_names: Sequence[str]) -> Figure:
    """Show the share of patches that carry each class, by split, on a log scale; absent classes are named.

    Args:
        labels: split -> (N, C), 0 or 1.
        class_names: C names.
    """
    fig, (ax,) = layout.panels(1, 1, 0.27 * len(class_names) + 1.0, width=7.2)
    shares = pd.DataFrame({name: 100 * np.mean(part, axis=0) for name, part in labels.items()})
    shares.index = pd.Index([short_name(name) for name in class_names])
    overall = np.concatenate(list(labels.values())).mean(axis=0)
    shares = shares.iloc[np.argsort(-overall, kind="stable")]
    drawn = shares.where(shares > 0)
    y = layout.label_rows(ax, list(shares.index))
    ax.hlines(y, drawn.min(axis=1), drawn.max(axis=1), color=LIGHT_GREY, linewidth=3, zorder=1)
    for (name, part), offset in zip(labels.items(), -layout.dodge(len(labels), 0.4), strict=True):
        color, marker = SPLITS.get(name, (GREY, "o"))
        ax.plot(drawn[name], y + offset, marker, color=color, label=f"{name} ({len(part):,})", markersize=5)
    ax.set(xscale="log", xlabel="patches that carry the class")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_major_formatter("{x:g} %")
    ax.minorticks_off()
    for row, values in zip(y, shares.to_numpy(), strict=True):
        if absent := [name for name, value in zip(labels, values, strict=True) if value == 0]:
            text, place = f"absent: {', '.join(absent)}", ("axes fraction", "data")
            ax.annotate(text, (0.995, row), xycoords=place, ha="right", va="center", fontsize=8)
    ax.legend(loc="upper left", title="split (patches)")
    return fig


def cooccurrence(labels: NDArray, class_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Figure:
    """Show P(column class | row class) in percent as a heat map, classes ordered by group.

    Args:
        labels: (N, C), 0 or 1.
        class_names: C names.
        groups: group -> names of its classes.
    """
    fig, (ax,) = layout.panels(1, 1, 7.6)
    group_of = grouped_classes(class_names, groups)
    ordered = np.asarray(labels, float)[:, [list(class_names).index(name) for name in group_of]]
    counts = ordered.sum(axis=0)
    with np.errstate(invalid="ignore"):
        given = 100 * (ordered.T @ ordered) / counts[:, None]
    np.fill_diagonal(given, np.nan)
    texts = np.where(np.nan_to_num(given) >= 0.5, np.char.mod("%.0f", np.nan_to_num(given)), "")
    names = [short_name(name) for name in group_of]
    rows = [f"{name} ({count:,.0f})" for name, count in zip(names, counts, strict=True)]
    layout.heat_map(ax, given, texts, rows, names, vmin=0, vmax=100)
    ax.set_xlabel("patches of the row's class that carry the column's, %", fontsize=9)
    members = list(group_of.values())
    for i in range(1, len(members)):
        if members[i] != members[i - 1]:
            ax.axhline(i, color="white", linewidth=3)
            ax.axvline(i, color="white", linewidth=3)
    return fig


def labels_per_patch(labels: NDArray, reference: Mapping[int, float] | None = None) -> Figure:
    """Show how many patches carry how many labels.

    Args:
        labels: (N, C), 0 or 1.
        reference: number of labels -> share of patches in [0, 1] of the official archive, drawn as a line.
    """
    fig, (ax,) = layout.panels(1, 1, 3.2, width=5.6)
    number = np.asarray(labels).sum(axis=1).astype(int)
    most = max(int(number.max(initial=0)), *(reference or {0: 0.0}))
    share = np.bincount(number, minlength=most + 1) / max(len(number), 1)
    x = np.arange(0 if share[0] > 0 else 1, most + 1)
    label = f"this archive (mean {number.mean():.2f})"
    ax.bar(x, share[x], width=0.7, color=OKABE_ITO["blue"], label=label)
    if reference:
        mean = sum(n * value for n, value in reference.items())
        line = [reference.get(int(n), 0.0) for n in x]
        ax.plot(x, line, "o-", color="black", markersize=5, label=f"official table (mean {mean:.2f})")
    ax.set(xlabel="labels of a patch", ylabel="share of patches", xticks=x)
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.legend()
    return fig


@layout.needs("kernel", "positive_share", "mean_weight")
def kernel_positives(frame: pd.DataFrame) -> Figure:
    """Show how many pairs each label kernel calls positive, and how strongly.

    Args:
        frame: columns ``kernel``, ``positive_share`` (share of pairs with a weight above 0, in [0, 1]) and
            ``mean_weight`` (mean weight of those pairs, in units of the kernel).
    """
    fig, (left, right) = layout.panels(2, 2, 0.3 * len(frame) + 0.9, sharey=True)
    shares, weights = frame["positive_share"].to_numpy(float), frame["mean_weight"].to_numpy(float)
    for ax, values, texts, color, title in (
        (left, shares, [f"{100 * v:.1f} %" for v in shares], "blue", "pairs that count as positive"),
        (right, weights, [f"{v:.3g}" for v in weights], "orange", "mean weight of a positive pair"),
    ):
        y = layout.label_rows(ax, list(frame["kernel"]))
        bars = ax.barh(y, values, height=0.5, color=OKABE_ITO[color])
        ax.bar_label(bars, texts, padding=5, fontsize=9)
        ax.set(title=title, xlim=(0, 1.25 * max(np.nanmax(values, initial=0), 1e-9)))
    left.xaxis.set_major_formatter(_PERCENT)
    return fig


@layout.needs("tile", "lon", "lat", "split", "count")
def tile_map(frame: pd.DataFrame) -> Figure:
    """Show where the tiles lie: a graticule, splits by colour and marker, patches by area of the marker.

    A few tiles are named when their names are short.

    Args:
        frame: one row a tile and split, columns ``tile``, ``lon`` and ``lat`` (degrees, WGS 84, of the
            tile's centre), ``split``, ``count`` (patches).
    """
    fig, (ax,) = layout.panels(1, 1, 5.6, width=7.2)
    largest, totals = frame["count"].max(), frame.groupby("split")["count"].sum()
    splits = [name for name in SPLITS if name in totals]
    # splits of one tile are drawn side by side
    for split, shift in zip(splits, layout.dodge(len(splits), 9 * (len(splits) - 1)), strict=True):
        part, (color, marker) = frame[frame["split"] == split], SPLITS[split]
        ax.scatter(
            part["lon"],
            part["lat"],
            s=16 + 130 * part["count"] / largest,
            color=color,
            marker=marker,
            alpha=0.8,
            linewidths=0.6,
            edgecolors="white",
            transform=offset_copy(ax.transData, fig, shift, 0, units="points"),
            zorder=3,
        )
    tiles = frame.groupby("tile", sort=False)[["lon", "lat"]].first()
    if len(tiles) <= 25 and tiles.index.str.len().max() <= 6:
        below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 7}
        for tile, lon, lat in tiles.itertuples():
            ax.annotate(tile, (lon, lat), (0, -10), **below)
    ax.update_datalim(frame[["lon", "lat"]].to_numpy(float))  # a shifted marker does not count by itself
    ax.margins(0.08)
    ax.autoscale_view()
    ax.set_aspect(1 / np.cos(np.radians(frame["lat"].mean())), adjustable="datalim")
    ax.yaxis.set_major_locator(FixedLocator([y for y in ax.get_yticks() if abs(y) <= 90]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}° {'W' if value < 0 else 'E'}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}° {'S' if value < 0 else 'N'}")
    ax.grid()
    handles = layout.marker_handles({f"{split} ({totals[split]:,})": SPLITS[split] for split in splits})
    ax.legend(handles=handles, title=f"patches (largest marker: {largest:,})", loc="best")
    return fig
