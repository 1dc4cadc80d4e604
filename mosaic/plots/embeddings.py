"""Figures of 04_embeddings_and_coherence: what the embedding spaces look like and how coherent they are."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mosaic.plots.layout import (
    WIDTH,
    column_of,
    distinct,
    legend,
    method_handles,
    methods_of,
    panels,
    require,
    whiskers,
)
from mosaic.plots.palette import GREY, LIGHT_GREY, OKABE_ITO, method_order, method_style


def umap_panels(
    maps: Mapping[str | tuple[str, int], NDArray],
    categories: Sequence[str],
    colors: Mapping[str, str],
    parameters: str,
    columns: int = 3,
) -> Figure:
    """Show two-dimensional maps of the same patches, one panel each, without ticks.

    Points are drawn in one shuffled order, so that no category hides another by coming last; those whose
    category has no colour lie beneath in grey. With one coloured category that is one class over the rest.

    Args:
        maps: method, or (method, seed), -> coordinates (N, 2), unitless.
        categories: category of each patch (N,).
        colors: category -> colour, in legend order.
        parameters: of the map, written in a corner.
        columns: most panels in a row.
    """
    category = np.asarray(categories, dtype=object)
    order = np.random.default_rng(0).permutation(len(category))
    known = np.isin(category[order], list(colors))
    order = np.concatenate([order[~known], order[known]])
    tones = [colors.get(name, LIGHT_GREY) for name in category[order]]
    size = float(np.clip(9000 / max(len(order), 1), 2, 16))
    fig, axes = panels(len(maps), columns, WIDTH / columns + 0.1)
    for ax, (key, points) in zip(axes, maps.items(), strict=True):
        method, seed = key if isinstance(key, tuple) else (key, None)
        points = np.asarray(points)[order]
        ax.scatter(points[:, 0], points[:, 1], size, tones, linewidths=0, alpha=0.8, rasterized=True)
        ax.set_title(method_style(method).label + ("" if seed is None else f", seed {seed}"), fontsize=9.5)
        ax.set(xticks=[], yticks=[])
        ax.margins(0.04)
        sns.despine(ax=ax, left=True, bottom=True)
    if axes:
        fig.supxlabel(parameters, x=0.005, ha="left", fontsize=8, color=GREY)
        names = [(name, color) for name, color in colors.items() if (category == name).any()]
        names += [] if known.all() else [("other", LIGHT_GREY)]
        handles = [Line2D([], [], color=color, marker="o", linestyle="", label=name) for name, color in names]
        legend(fig, handles, above=True, most=7, handlelength=1)
    return fig


def coherence_dots(frame: pd.DataFrame) -> Figure:
    """Show coherence measures of each method as a table of dots: larger and darker is better in its column.

    Args:
        frame: one row a method and measure, columns ``method``, ``measure``, ``value`` (unit of the measure;
            NaN when not computed) and ``higher_is_better`` (bool). The best of a column is starred.
    """
    require(frame, "method", "measure", "value", "higher_is_better")
    methods, measures = methods_of(frame), distinct(frame, "measure")
    fig, axes = panels(1 if methods else 0, 1, 0.42 * len(methods) + 1.3)
    if not axes:
        return fig
    ax, shades = axes[0], sns.color_palette("mako_r", as_cmap=True)
    titles = []
    for x, measure in enumerate(measures):
        part = frame[frame["measure"] == measure].set_index("method")
        upward = bool(part["higher_is_better"].iloc[0])
        titles.append(f"{textwrap.fill(measure, 13)} {'↑' if upward else '↓'}")
        values = part["value"].reindex(methods).to_numpy(float)
        merit = _merit(values if upward else -values)
        y = -np.arange(len(methods), dtype=float)
        known = np.isfinite(merit)
        tones = shades(0.15 + 0.7 * merit[known])
        ax.scatter(np.full(known.sum(), x - 0.22), y[known], 25 + 190 * merit[known], tones, linewidths=0)
        for place, value, share in zip(y.tolist(), values, merit, strict=True):
            star = " ★" if share == 1 else ""
            words = f"{value:#.3g}".rstrip(".") + star if np.isfinite(value) else "–"
            weight = "bold" if star else "normal"
            ax.text(x + 0.02, place, words.replace("-", "−"), va="center", fontsize=9, fontweight=weight)
    ax.set_yticks(-np.arange(len(methods)), [method_style(name).label for name in methods])
    ax.set_xticks(np.arange(len(measures)) - 0.05, titles, fontsize=8.5)
    ax.set(xlim=(-0.6, len(measures) - 0.3), ylim=(0.6 - len(methods), 0.6))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    return fig


def _merit(values: NDArray) -> NDArray[np.float64]:
    """Scale from the worst, 0, to the best, 1; all 0.5 where they are equal, NaN where unknown."""
    if not np.isfinite(values).any():
        return np.full(len(values), np.nan)
    span = np.nanmax(values) - np.nanmin(values)
    return (values - np.nanmin(values)) / span if span > 0 else values * 0 + 0.5


def retrieval_curves(frame: pd.DataFrame, candidates: int | None = None) -> Figure:
    """Show how often the same scene in the other sensor is among the k nearest, one panel a direction.

    Args:
        frame: columns ``method``, ``direction`` (e.g. ``"S1 → S2"``), ``k``, ``recall`` in [0, 1], and
            ``low`` and ``high`` if known.
        candidates: number of candidates: draws recall by chance, k / candidates.
    """
    require(frame, "method", "direction", "k", "recall")
    directions = distinct(frame, "direction")
    fig, axes = panels(len(directions), 2, 3.3, sharex=True, sharey=True)
    for ax, direction in zip(axes, directions, strict=True):
        part = frame[frame["direction"] == direction].sort_values("k")
        ticks = distinct(part, "k")
        if candidates:
            chance = np.minimum(np.array(ticks) / candidates, 1)
            ax.plot(ticks, chance, color=GREY, linestyle=":", linewidth=1.2, label="chance")
        for method in methods_of(part):
            own, style = part[part["method"] == method], method_style(method)
            x = own["k"].to_numpy(float)
            whiskers(ax, x, column_of(own, "low"), column_of(own, "high"), style.color, vertical=True)
            ax.plot(x, own["recall"], **style.line(), label=style.label)
        ax.set(xscale="log", title=direction, xlabel="k", ylim=(0, 1.02))
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.minorticks_off()
        ax.grid(axis="y")
    if axes:
        axes[0].set_ylabel("recall at k")
        chance_line = [Line2D([], [], color=GREY, linestyle=":", label="chance")] if candidates else []
        legend(fig, method_handles(methods_of(frame)) + chance_line)
    return fig


def kernel_matrices(weights: Mapping[str, NDArray], labels: NDArray, columns: int = 4) -> Figure:
    """Show the weights each label kernel gives to the pairs of one batch, scenes sorted by their labels.

    Args:
        weights: kernel -> (N, N + P): N scenes, then P prototypes if the kernel has some; unit of the kernel.
        labels: (N, C), 0 or 1; the most frequent class sorts first.
        columns: most panels in a row.
    """
    labels = np.asarray(labels)
    frequent = np.argsort(labels.sum(axis=0), kind="stable")  # lexsort takes the last key as the first
    order = np.lexsort(-labels[:, frequent].astype(int).T)
    fig, axes = panels(len(weights), columns, WIDTH / columns + 0.15)
    for ax, (kernel, matrix) in zip(axes, weights.items(), strict=True):
        scenes = np.asarray(matrix, float)[:, : len(labels)]
        prototypes = np.asarray(matrix, float)[order, len(labels) :]
        shown = np.concatenate([scenes[np.ix_(order, order)], prototypes], axis=1)
        top = np.nanmax(shown, initial=0) or 1.0
        ax.imshow(np.where(shown > 0, shown, np.nan), cmap="mako_r", norm=Normalize(0, top), aspect="auto")
        ax.set_box_aspect(1)
        sns.despine(ax=ax, top=False, right=False)
        ax.spines[:].set_color(GREY)
        between = ~np.eye(len(labels), dtype=bool)
        share = 100 * np.mean(scenes[between] > 0) if between.any() else 0.0
        ax.set_title(f"{kernel}: {share:.0f} % positive", fontsize=9)
        ax.set_xlabel(f"weight 0 to {top:.2g}", fontsize=8)
        ax.set(xticks=[], yticks=[])
        if prototypes.size:
            ax.axvline(len(labels) - 0.5, color=OKABE_ITO["vermillion"], linewidth=1)
    return fig


def modality_gap(
    similarities: Mapping[str, tuple[NDArray, NDArray]], columns: int = 3, bins: int = 40
) -> Figure:
    """Show cosine similarities between the sensors' embeddings: of one scene, and of two different scenes.

    Args:
        similarities: method -> (same scene (N,), different scenes (M,)), cosines in [-1, 1]. The further the
            two histograms lie apart, the better the sensors are aligned; how far the second lies from 0 shows
            the gap between them.
        columns: most panels in a row.
        bins: of a histogram, over the range that all panels share.
    """
    kinds = (("same scene", OKABE_ITO["vermillion"]), ("different scenes", OKABE_ITO["blue"]))
    methods = method_order(list(similarities))
    fig, axes = panels(len(methods), columns, 1.8, sharex=True)
    everything = np.concatenate(
        [np.ravel(part) for pair in similarities.values() for part in pair] or [np.zeros(1)]
    )
    low, high = float(np.nanmin(everything)), float(np.nanmax(everything))
    edges = np.linspace(low, max(high, low + 1e-6), bins + 1).tolist()
    for ax, method in zip(axes, methods, strict=True):
        for values, (name, color) in zip(similarities[method], kinds, strict=True):
            ax.hist(values, edges, density=True, histtype="stepfilled", color=color, alpha=0.35)
            ax.hist(values, edges, density=True, histtype="step", color=color, linewidth=1.3, label=name)
            ax.axvline(np.nanmean(values), color=color, linewidth=1, linestyle="--")
        ax.set_title(method_style(method).label, fontsize=9.5)
        ax.set_yticks([])
        sns.despine(ax=ax, left=True)
    if axes:
        fig.supxlabel("cosine similarity between an S1 and an S2 embedding", fontsize=9.5)
        handles = [Line2D([], [], color=color, linewidth=5, label=name) for name, color in kinds]
        legend(fig, handles, above=True)
    return fig
