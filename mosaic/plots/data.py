"""Figures of 01_explore_data: which labels an archive has, what kernels make of them, where it lies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, PercentFormatter
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray

from mosaic.plots.layout import WIDTH, canvas, dodge, figure_of, panels, percent, require
from mosaic.plots.palette import (
    GREY,
    LIGHT_GREY,
    OKABE_ITO,
    SPLITS,
    grouped_classes,
    short_name,
)


def label_frequencies(
    labels: Mapping[str, NDArray], class_names: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Show the share of patches that carry each class, by split, on a log scale; a class absent is said so.

    Args:
        labels: split -> (N, C), 0 or 1.
        class_names: C names.
        ax: where to draw; a new figure when None.
    """
    ax = canvas(ax, size=(7.2, 0.27 * len(class_names) + 1.0))
    shares = pd.DataFrame(
        {name: 100 * np.mean(part, axis=0) for name, part in labels.items()}, index=list(class_names)
    )
    overall = np.concatenate(list(labels.values())).mean(axis=0)
    shares = shares.iloc[np.argsort(overall, kind="stable")]
    drawn = shares.where(shares > 0)
    y = np.arange(len(shares))
    ax.hlines(y, drawn.min(axis=1), drawn.max(axis=1), color=LIGHT_GREY, linewidth=3, zorder=1)
    for (name, part), offset in zip(labels.items(), -dodge(len(labels), 0.4), strict=True):
        color, marker = SPLITS.get(name, (GREY, "o"))
        ax.plot(drawn[name], y + offset, marker, color=color, label=f"{name} ({len(part):,})", markersize=5)
    ax.set(xscale="log", xlabel="patches that carry the class", ylim=(-0.7, len(y) - 0.3))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_major_formatter(lambda value, _: percent(value))
    ax.minorticks_off()
    ax.set_yticks(y, [short_name(str(name)) for name in shares.index])
    for row, values in enumerate(shares.to_numpy()):
        if absent := [name for name, value in zip(labels, values, strict=True) if value == 0]:
            words, across = f"absent: {', '.join(absent)}", ax.get_yaxis_transform()
            ax.text(0.995, row, words, transform=across, ha="right", va="center", fontsize=8)
    ax.grid(axis="x")
    ax.legend(loc="upper left", title="split (patches)")
    return ax


def cooccurrence(
    labels: NDArray, class_names: Sequence[str], groups: Mapping[str, Sequence[str]], ax: Axes | None = None
) -> Axes:
    """Show P(column class | row class) in percent as a heat map, classes ordered by group.

    Args:
        labels: (N, C), 0 or 1.
        class_names: C names.
        groups: group -> names of its classes.
        ax: where to draw; a new figure when None.
    """
    ax = canvas(ax, size=(WIDTH, 7.6))
    group_of = grouped_classes(class_names, groups)
    order = [list(class_names).index(name) for name in group_of]
    ordered = np.asarray(labels, float)[:, order]
    counts = ordered.sum(axis=0)
    with np.errstate(invalid="ignore"):
        given = 100 * (ordered.T @ ordered) / counts[:, None]
    np.fill_diagonal(given, np.nan)
    words = np.where(np.nan_to_num(given) >= 0.5, np.nan_to_num(given).round().astype(int).astype(str), "")
    names = [short_name(name) for name in group_of]
    sns.heatmap(
        given,
        annot=words,
        fmt="",
        vmin=0,
        vmax=100,
        cmap="mako_r",
        ax=ax,
        xticklabels=names,
        yticklabels=[f"{name} ({count:,.0f})" for name, count in zip(names, counts, strict=True)],
        annot_kws={"fontsize": 7.5},
        cbar_kws={"label": "patches of the row's class that carry the column's, %", "shrink": 0.6},
    )
    ax.set_facecolor("#EEEEEE")
    ax.tick_params(length=0)
    ax.set_xticks(ax.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor")
    members = list(group_of.values())
    for place in range(1, len(members)):
        if members[place] != members[place - 1]:
            ax.axhline(place, color="white", linewidth=3)
            ax.axvline(place, color="white", linewidth=3)
    return ax


def labels_per_patch(
    labels: NDArray, reference: Mapping[int, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Show how many patches carry how many labels.

    Args:
        labels: (N, C), 0 or 1.
        reference: number of labels -> share of patches in [0, 1] of the official archive, drawn as a line.
        ax: where to draw; a new figure when None.
    """
    ax = canvas(ax, size=(5.6, 3.2))
    number = np.asarray(labels).sum(axis=1).astype(int)
    most = max(int(number.max(initial=0)), *(reference or {0: 0.0}))
    share = np.bincount(number, minlength=most + 1) / max(len(number), 1)
    first = 0 if share[0] > 0 else 1
    x = np.arange(first, most + 1)
    color = OKABE_ITO["blue"]
    ax.bar(x, share[first:], width=0.7, color=color, label=f"this archive (mean {number.mean():.2f})")
    if reference:
        mean = sum(n * value for n, value in reference.items())
        line = [reference.get(int(n), 0.0) for n in x]
        ax.plot(x, line, "o-", color="black", markersize=5, label=f"official table (mean {mean:.2f})")
    ax.set(xlabel="labels of a patch", ylabel="share of patches", xticks=x)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.legend()
    return ax


def kernel_positives(frame: pd.DataFrame) -> Figure:
    """Show what each label kernel calls positive: how many pairs, and how strongly.

    Args:
        frame: columns ``kernel``, ``positive_share`` (share of pairs with a weight above 0, in [0, 1]) and
            ``mean_weight`` (mean weight of those pairs, in units of the kernel).
    """
    require(frame, "kernel", "positive_share", "mean_weight")
    titles = {
        "positive_share": "pairs that count as positive",
        "mean_weight": "mean weight of a positive pair",
    }
    fig, axes = panels(2 if len(frame) else 0, 2, 0.3 * len(frame) + 0.9, sharey=True)
    y = np.arange(len(frame))[::-1]
    for ax, (column, title), color in zip(axes, titles.items(), ("blue", "orange"), strict=False):
        values = frame[column].to_numpy(float)
        ax.hlines(y, 0, values, color=OKABE_ITO[color], linewidth=3)
        ax.plot(values, y, "o", color=OKABE_ITO[color], markersize=8)
        for place, value in zip(y, values, strict=True):
            words = f"{100 * value:.1f} %" if column == "positive_share" else f"{value:.3g}"
            ax.annotate(words, (value, place), (9, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(y, frame["kernel"])
        ax.set(
            title=title, xlim=(0, 1.25 * max(np.nanmax(values, initial=0), 1e-9)), ylim=(-0.6, len(y) - 0.4)
        )
    if axes:
        axes[0].xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    return fig


def tile_map(frame: pd.DataFrame, ax: Axes | None = None, names: int = 25) -> Axes:
    """Show where the tiles lie: a graticule, splits by colour and marker, patches by area of the marker.

    Args:
        frame: one row a tile and split, columns ``tile``, ``lon`` and ``lat`` (degrees, WGS 84, of the
            tile's centre), ``split``, ``count`` (patches).
        ax: where to draw; a new figure when None.
        names: tiles are named when there are at most this many and their names are short.
    """
    require(frame, "tile", "lon", "lat", "split", "count")
    ax = canvas(ax, frame, size=(7.2, 5.6))
    if frame.empty:
        return ax
    largest = frame["count"].max()
    splits = [name for name in SPLITS if name in set(frame["split"])]
    for place, split in enumerate(splits):
        part, (color, marker) = frame[frame["split"] == split], SPLITS[split]
        shift = 9 * (place - (len(splits) - 1) / 2)  # points: splits of one tile stand side by side
        place_of = offset_copy(ax.transData, figure_of(ax), shift, 0, units="points")
        size = 16 + 130 * part["count"] / largest
        ax.scatter(
            part["lon"],
            part["lat"],
            s=size,
            color=color,
            marker=marker,
            alpha=0.8,
            linewidths=0.6,
            edgecolors="white",
            transform=place_of,
            zorder=3,
        )
    tiles = frame.groupby("tile", sort=False)[["lon", "lat"]].first()
    if len(tiles) <= names and tiles.index.str.len().max() <= 6:
        for tile, lon, lat in tiles.itertuples():
            ax.annotate(
                tile, (lon, lat), (0, -10), textcoords="offset points", ha="center", va="top", fontsize=7
            )
    ax.update_datalim(frame[["lon", "lat"]].to_numpy(float))  # a shifted marker does not count by itself
    ax.margins(0.08)
    ax.autoscale_view()
    ax.set_aspect(1 / np.cos(np.radians(frame["lat"].mean())), adjustable="datalim")
    ax.yaxis.set_major_locator(FixedLocator([y for y in ax.get_yticks() if abs(y) <= 90]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}° {'W' if value < 0 else 'E'}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}° {'S' if value < 0 else 'N'}")
    ax.grid()
    totals = frame.groupby("split")["count"].sum()
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", label=f"{split} ({totals[split]:,})")
        for split, (color, marker) in SPLITS.items()
        if split in totals
    ]
    ax.legend(handles=handles, title=f"patches (largest marker: {largest:,})", loc="best")
    return ax
