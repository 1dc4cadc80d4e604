"""Figures of 04_embeddings_and_coherence: what the embedding spaces look like and how coherent they are."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mosaic.plots import layout
from mosaic.plots.palette import GREY, LIGHT_GREY, OKABE_ITO, method_label, method_order


def umap_panels(
    maps: Mapping[tuple[str, str], NDArray],
    categories: Sequence[str],
    colors: Mapping[str, str],
    parameters: str,
    columns: int,
) -> Figure:
    """Show two-dimensional maps of the same patches: (method, seed) -> coordinates (N, 2).

    Points are drawn in one shuffled order, so that no category hides another by coming last; those whose
    category (N,) has no colour lie beneath in grey. ``parameters`` of the map are written in a corner.
    """
    category = np.asarray(categories, dtype=object)
    order = np.random.default_rng(0).permutation(len(category))
    known = np.isin(category[order], list(colors))
    order = np.concatenate([order[~known], order[known]])
    tones = [colors.get(name, LIGHT_GREY) for name in category[order]]
    size = float(np.clip(9000 / max(len(order), 1), 2, 16))
    fig, axes = layout.panels(len(maps), columns, layout.WIDTH / columns + 0.1)
    for ax, ((method, seed), points) in zip(axes, maps.items(), strict=True):
        points = np.asarray(points)[order]
        ax.scatter(points[:, 0], points[:, 1], size, tones, linewidths=0, alpha=0.8, rasterized=True)
        ax.set_title(f"{method_label(method)}, seed {seed}", fontsize=9.5)
        ax.set(xticks=[], yticks=[])
        ax.margins(0.04)
        sns.despine(ax=ax, left=True, bottom=True)
    fig.supxlabel(parameters, x=0.005, ha="left", fontsize=8, color=GREY)
    shown = {name: color for name, color in colors.items() if (category == name).any()}
    shown |= {} if known.all() else {"other": LIGHT_GREY}
    layout.legend(fig, shown, above=True, most=7, handlelength=1)
    return fig


@layout.of_table
def coherence_matrix(frame: pd.DataFrame) -> Figure:
    """Show measures of each method as numbers on colour: darker is better in its column.

    The best of the methods with all seeds is starred, and the others tell how many they have.
    """
    methods, measures = layout.methods_of(frame), layout.distinct(frame, "measure")
    upward = frame.groupby("measure")["higher_is_better"].first().reindex(measures).to_numpy(bool)
    values = frame.pivot(index="method", columns="measure", values="value").loc[methods, measures]
    merit = values * np.where(upward, 1, -1)
    arrows = np.where(upward, " ↑", " ↓")
    columns = [textwrap.fill(name, 22) + arrow for name, arrow in zip(measures, arrows, strict=True)]
    rows, has_all = layout.with_seeds(frame)
    complete = merit.where(has_all, axis=0)
    texts = layout.numbers(values, "%#.3g", complete.eq(complete.max()))
    return layout.heat_map(layout.merit(merit), texts, rows, columns, vmin=-0.15, vmax=1.25)[0]


@layout.of_table
def retrieval_curves(frame: pd.DataFrame, candidates: int) -> Figure:
    """Show how often the same scene in the other sensor is among the k nearest, one panel a direction.

    The dotted line is recall by chance, k / candidates.
    """
    frame, ticks = frame.rename(columns={"recall": "value"}), np.sort(frame["k"].unique())
    parts = {str(name): part for name, part in frame.groupby("direction", sort=False)}
    fig, axes = layout.curves(parts, "k", {k: str(k) for k in ticks}, "recall at k")
    for ax in axes:
        ax.plot(np.minimum(ticks / candidates, 1), color=GREY, linestyle=":", linewidth=1.2)
        ax.annotate("chance", (len(ticks) - 1, min(ticks[-1] / candidates, 1)), fontsize=8, color=GREY)
        ax.set(xlabel="k", ylim=(0, 1.02))
    return fig


def kernel_matrices(weights: Mapping[str, NDArray], labels: NDArray) -> Figure:
    """Show the weights each label kernel gives to the pairs of one batch, scenes sorted by their labels.

    ``weights``: kernel -> (N, N + P), N scenes, then P prototypes if the kernel has some; unit of the kernel.
    ``labels`` (N, C) are 0 or 1; the most frequent class sorts first.
    """
    labels = np.asarray(labels)
    by_frequency = np.argsort(labels.sum(axis=0), kind="stable")  # lexsort takes the last key as the first
    order = np.lexsort(-labels[:, by_frequency].astype(int).T)
    fig, axes = layout.panels(len(weights), 4, layout.WIDTH / 4 + 0.15)
    for ax, (kernel, matrix) in zip(axes, weights.items(), strict=True):
        scenes = np.asarray(matrix, float)[:, : len(labels)]
        prototypes = np.asarray(matrix, float)[order, len(labels) :]
        shown = np.concatenate([scenes[np.ix_(order, order)], prototypes], axis=1)
        top = np.nanmax(shown, initial=0) or 1.0
        ax.imshow(np.where(shown > 0, shown, np.nan), cmap="mako_r", norm=Normalize(0, top), aspect="auto")
        ax.set(box_aspect=1, xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GREY)
        between = ~np.eye(len(labels), dtype=bool)
        share = 100 * np.mean(scenes[between] > 0) if between.any() else 0.0
        ax.set_title(f"{kernel}: {share:.0f} % positive", fontsize=9)
        ax.set_xlabel(f"weight 0 to {top:.2g}", fontsize=8)
        if prototypes.size:
            ax.axvline(len(labels) - 0.5, color=OKABE_ITO["vermillion"], linewidth=1)
    return fig


def modality_gap(similarities: Mapping[str, tuple[NDArray, NDArray]]) -> Figure:
    """Show cosines between the sensors' embeddings: method -> (same scene (N,), different scenes (M,)).

    The further the two histograms lie apart, the better the sensors are aligned; how far the second lies from
    0 shows the gap between them.
    """
    colors = {"same scene": OKABE_ITO["vermillion"], "different scenes": OKABE_ITO["blue"]}
    methods = method_order(list(similarities))
    fig, axes = layout.panels(len(methods), 3, 1.8, sharex=True)
    cosines = [np.ravel(part) for pair in similarities.values() for part in pair]
    edges = np.histogram_bin_edges(np.concatenate(cosines), 40).tolist()
    for ax, method in zip(axes, methods, strict=True):
        for values, color in zip(similarities[method], colors.values(), strict=True):
            ax.hist(values, edges, density=True, histtype="stepfilled", fc=(color, 0.35), ec=color)
            ax.axvline(np.nanmean(values), color=color, linewidth=1, linestyle="--")
        ax.set_title(method_label(method), fontsize=9.5)
        ax.set_yticks([])
        sns.despine(ax=ax, left=True)
    fig.supxlabel("cosine similarity between embeddings of two sensors", fontsize=9.5)
    layout.legend(fig, colors, above=True)
    return fig
