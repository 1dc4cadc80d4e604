import numpy as np
import pandas as pd
import pytest

from mosaic.plots import compare as figures
from mosaic.plots import palette


def score(method, value, archive="A", source="fused", fraction=100.0):
    about = {"method": method, "archive": archive, "input": source, "fraction": fraction, "n_seeds": 3}
    return {**about, "value": value}


def test_score_matrix_stars_the_best_of_each_column_and_orders_archives_fractions_inputs(words):
    mosaic = [score("mosaic", 0.6), score("mosaic", 0.3, "B"), score("mosaic", 0.05, fraction=5.0)]
    random = [score("random", 0.2), score("random", 0.4, "B"), score("random", 0.1, source="s1")]
    table = pd.DataFrame(mosaic + random)
    (ax,) = figures.score_matrix(table).axes
    assert words(ax.get_yticklabels()) == ["Random features", "MoSAiC"]
    columns = ["all sensors, 5 %", "S1, 100 %", "all sensors, 100 %", "all sensors, 100 %"]
    assert words(ax.get_xticklabels()) == columns
    assert words(ax.texts) == ["0.100★", "0.200", "0.400★", "0.050★", "0.600★", "0.300", "A", "B"]
    # a method of fewer seeds has no star, and tells how many it has
    few = [score("sct", 0.9) | {"n_seeds": 1}, score("sct", 0.8, "B") | {"n_seeds": 1}]
    (ax,) = figures.score_matrix(pd.DataFrame([score("random", 0.2), *few, score("mosaic", 0.6)])).axes
    assert words(ax.get_yticklabels()) == ["Random features", "SCT Fusion (1 of 3 seeds)", "MoSAiC"]
    assert words(ax.texts[:4]) == ["0.200", "0.900", "0.800", "0.600★"]


def test_ranks_have_intervals_and_a_bar_joins_a_group(spans, words):
    rows = [("mosaic", 1.2, 1.0, 2.0), ("iai", 1.8, 1.0, 2.0), ("random", 3.0, 3.0, 3.0)]
    ranks = pd.DataFrame(rows, columns=["method", "rank", "low", "high"])
    (ax,) = figures.rank_diagram(ranks, [(0, 1)]).axes
    assert words(ax.get_yticklabels()) == ["MoSAiC", "IaI-SimCLR", "Random features"]
    assert all(tick == round(tick) for tick in ax.get_xticks())
    *points, bar = ax.lines
    assert sorted(np.nanmax(point.get_xdata()) for point in points) == [1.2, 1.8, 3.0]
    top, bottom = bar.get_ydata()
    assert top > 0 > -1 > bottom > -2
    assert min(bar.get_xdata()) > 3.0
    ends = sorted(span.tolist() for span in spans(ax))
    assert ends == [[[1, -1], [2, -1]], [[1, 0], [2, 0]], [[3, -2], [3, -2]]]


def test_costs_are_drawn_over_time_and_memory():
    rows = [("random", 0.1, 500, 0.3, 0.2, 0.4), ("mosaic", 2.0, 900, 0.6, 0.5, 0.7)]
    table = pd.DataFrame(rows, columns=["method", "minutes", "memory_mb", "value", "low", "high"])
    minutes, memory = ([line.get_xydata() for line in ax.lines] for ax in figures.cost_scatter(table).axes)
    np.testing.assert_allclose(minutes, [[[0.1, 0.3]], [[2.0, 0.6]]])
    np.testing.assert_allclose(memory, [[[500, 0.3]], [[900, 0.6]]])


def test_gains_carry_their_sign_and_a_mark_where_the_interval_of_several_seeds_excludes_zero(words):
    rows = [
        ("iai", "all classes", 0.02, 0.01, 0.03, 1.0),
        ("iai", "rare", -0.05, -0.1, 0.01, 1.0),
        ("mosaic", "all classes", -0.03, -0.04, -0.02, 3.0),
    ]
    table = pd.DataFrame(rows, columns=["method", "subgroup", "value", "low", "high", "n_seeds"])
    (ax,) = figures.difference_matrix(table, "late fusion").axes
    assert words(ax.get_yticklabels()) == ["IaI-SimCLR (1 of 3 seeds)", "MoSAiC"]
    assert words(ax.texts) == ["+0.020", "−0.050", "−0.030*"]
    assert "late fusion" in ax.get_xlabel()
    (mesh,) = ax.collections
    gain, _, loss, _ = mesh.get_facecolors()[:, :3]
    assert gain[2] > gain[0] and loss[0] > loss[2]  # blue gains, red losses


def test_trust_is_sorted_by_which_sensor_is_trusted_more(words):
    means = {("water", "s1"): 0.8, ("water", "s2"): 0.2, ("town", "s1"): 0.4, ("town", "s2"): 0.5}
    rows = [(*key, seed, value + 0.1 * seed) for key, value in means.items() for seed in (0, 1)]
    table = pd.DataFrame(rows, columns=["class", "sensor", "seed", "trust"])
    (ax,) = figures.trust_dots(table, ("town", "water")).axes
    assert words(ax.get_yticklabels()) == ["town", "water"]
    assert words(ax.figure.legends[0].get_texts()) == ["S1", "S2"]
    small = ax.collections[1].get_offsets()
    assert sorted(small[:, 0]) == pytest.approx([0.4, 0.5, 0.8, 0.9])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.45, 0.85])
    assert ax.lines[0].get_color() == palette.OKABE_ITO["blue"]
