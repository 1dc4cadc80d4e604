import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from mosaic.plots import embeddings as figures
from mosaic.plots import palette

RNG = np.random.default_rng(0)


def test_umap_panels_colour_points_and_lay_the_rest_beneath(words):
    points = RNG.normal(size=(40, 2))
    categories = ["forest"] * 10 + ["water"] * 5 + ["mixed"] * 25
    colors = {"forest": "#009e73", "water": "#0072b2", "absent": "#000000"}
    maps = {("mosaic", "0"): points, ("iai", "1"): points + 1}
    fig = figures.umap_panels(maps, categories, colors, "n_neighbors 15", 3)
    ours, other = fig.axes
    assert [ours.get_title(), other.get_title()] == ["MoSAiC, seed 0", "IaI-SimCLR, seed 1"]
    assert len(ours.get_xticks()) == len(ours.get_yticks()) == 0
    (scatter,) = ours.collections
    assert scatter.get_rasterized()
    drawn, tones = scatter.get_offsets().data, [to_hex(tone) for tone in scatter.get_facecolors()]
    grey = palette.LIGHT_GREY.lower()
    assert set(tones[:25]) == {grey}
    tone_of = {tuple(point): colors.get(name, grey) for point, name in zip(points, categories, strict=True)}
    assert sorted(map(tuple, drawn)) == sorted(tone_of)
    assert tones == [tone_of[tuple(point)] for point in drawn]
    np.testing.assert_allclose(other.collections[0].get_offsets(), drawn + 1)  # one order for all panels
    assert tones[25:] != sorted(tones[25:])  # shuffled
    assert words(fig.legends[0].get_texts()) == ["forest", "water", "other"]
    assert fig.get_supxlabel() == "n_neighbors 15"
    maps = {("iai", "0"): RNG.normal(size=(3, 2))}
    fig = figures.umap_panels(maps, ["a"] * 3, {"a": "#000000"}, "", 3)
    assert words(fig.legends[0].get_texts()) == ["a"]


def test_coherence_stars_the_best_in_its_direction(words):
    values = {"silhouette": (0.1, 0.2), "Davies-Bouldin": (1.5, 1.0), "NMI": (np.nan, 0.3)}
    rows = [
        (method, measure, value, measure != "Davies-Bouldin")
        for measure, pair in values.items()
        for method, value in zip(("iai", "mosaic"), pair, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["method", "measure", "value", "higher_is_better"]).assign(n_seeds=3)
    (ax,) = figures.coherence_matrix(frame).axes
    assert words(ax.get_xticklabels()) == ["silhouette ↑", "Davies-Bouldin ↓", "NMI ↑"]
    assert words(ax.texts) == ["0.100", "1.50", "0.200 ★", "1.00 ★", "0.300 ★"]
    shades = np.ma.filled(ax.collections[0].get_array().reshape(2, 3), np.nan)
    np.testing.assert_allclose(shades, [[0, 0, np.nan], [1, 1, 0]])
    frame.loc[frame["method"] == "mosaic", "n_seeds"] = 1  # no star, and told
    (ax,) = figures.coherence_matrix(frame).axes
    assert words(ax.get_yticklabels()) == ["IaI-SimCLR", "MoSAiC (1 of 3 seeds)"]
    assert words(ax.texts) == ["0.100 ★", "1.50 ★", "0.200", "1.00", "0.300"]


def test_retrieval_draws_recall_and_chance(spans, words):
    rows = [("S1 → S2", 10, 0.6, 0.5, 0.7), ("S1 → S2", 1, 0.2, 0.1, 0.3)]
    rows += [("S2 → S1", 1, 0.1, np.nan, np.nan), ("S2 → S1", 10, 0.5, np.nan, np.nan)]
    frame = pd.DataFrame(rows, columns=["direction", "k", "recall", "low", "high"]).assign(method="mosaic")
    fig = figures.retrieval_curves(frame, candidates=20)
    there, back = fig.axes
    lines = {line.get_label(): line for line in there.lines}
    np.testing.assert_allclose(lines["MoSAiC"].get_xydata(), [[0, 0.2], [1, 0.6]])
    np.testing.assert_allclose(there.lines[1].get_ydata(), [0.05, 0.5])
    np.testing.assert_allclose(back.lines[0].get_ydata(), [0.1, 0.5])
    assert len(spans(there)) == 2 and words(there.texts) == ["chance"]
    assert words(there.get_xticklabels()) == ["1", "10"]


def test_kernel_matrices_sort_scenes_by_label_and_keep_prototypes():
    labels = np.array([[1, 0], [0, 1], [1, 0], [1, 1]])
    same = (labels @ labels.T > 0).astype(float)
    np.fill_diagonal(same, 0)
    fig = figures.kernel_matrices({"any": same, "msc": np.hstack([same, labels / 2])}, labels)
    plain, prototypes = fig.axes
    order = [3, 0, 2, 1]  # the frequent class first, then the other
    drawn = np.ma.filled(plain.images[0].get_array(), np.nan)
    np.testing.assert_allclose(np.nan_to_num(drawn), same[np.ix_(order, order)])
    assert plain.get_title() == "any: 67 % positive"
    wide = np.nan_to_num(np.ma.filled(prototypes.images[0].get_array(), np.nan))
    np.testing.assert_allclose(wide[:, 4:], labels[order] / 2)
    assert prototypes.get_title() == "msc: 67 % positive"
    assert len(prototypes.lines) == 1
    fig = figures.kernel_matrices({"all": np.zeros((1, 1))}, np.ones((1, 2)))  # one scene, no positive
    fig.draw_without_rendering()
    assert fig.axes[0].get_title() == "all: 0 % positive"


def test_modality_gap_shares_bins_and_marks_means():
    same, other = np.full(50, 0.8), np.full(60, -0.2)
    fig = figures.modality_gap({"mosaic": (same, other), "iai": (same - 0.1, other)})
    iai, mosaic = fig.axes
    assert [iai.get_title(), mosaic.get_title()] == ["IaI-SimCLR", "MoSAiC"]
    assert [line.get_xdata()[0] for line in mosaic.lines] == pytest.approx([0.8, -0.2])
    edges = [sorted({round(x, 6) for x in ax.patches[0].get_xy()[:, 0]}) for ax in (iai, mosaic)]
    assert edges[0] == edges[1] == pytest.approx(np.linspace(-0.2, 0.8, 41).tolist())
    figures.modality_gap({"iai": (np.ones(3), np.ones(3))}).draw_without_rendering()
