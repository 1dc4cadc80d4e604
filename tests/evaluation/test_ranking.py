import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from mosaic.evaluation.ranking import rank_methods

RANDOM = np.random.default_rng(0)


def drawn(values, spread, shared=0.0, resamples=2000):
    """Resamples around the values: noise of each method, and noise that all methods share."""
    noise = spread * RANDOM.normal(size=(len(values), resamples))
    return np.asarray(values)[:, None] + noise + shared * RANDOM.normal(size=resamples)


def rank(values, draws):
    return rank_methods(list("abcde")[: len(values[0])], values, draws)


def test_ranks_are_means_over_problems_as_friedmans_are():
    values = RANDOM.random((5, 4))
    table, _ = rank(list(values), [drawn(scores, 1e-6) for scores in values])
    by_hand = np.array([[1 + (row > value).sum() for value in row] for row in values]).mean(0)
    np.testing.assert_allclose(table["rank"], np.sort(by_hand))
    np.testing.assert_allclose(table.set_index("method")["rank"].loc[list("abcd")], by_hand)
    # the statistic of Friedman made of these ranks is scipy's
    statistic = 12 * 5 / (4 * 5) * ((by_hand - 2.5) ** 2).sum()
    assert statistic == pytest.approx(friedmanchisquare(*values.T).statistic)


def test_clear_differences_part_and_small_ones_are_joined():
    values = np.array([0.50, 0.90, 0.52, 0.91])
    table, groups = rank([values], [drawn(values, 0.02)])
    assert table["method"].tolist() == ["d", "b", "c", "a"]
    assert groups == [(0, 1), (2, 3)]
    assert (table["low"] <= table["rank"]).all() and (table["rank"] <= table["high"]).all()


def test_noise_that_all_methods_share_does_not_join_them():
    values = np.array([0.9, 0.8, 0.7])
    assert rank([values], [drawn(values, 0.005, shared=0.2)])[1] == []
    assert rank([values], [drawn(values, 0.2)])[1] == [(0, 2)]


def test_overlapping_groups_are_both_kept_and_inner_ones_are_not():
    values = np.array([0.90, 0.86, 0.82, 0.60])
    assert rank([values], [drawn(values, 0.01)])[1] in ([], [(0, 1), (1, 2)])
    _, wide = rank([values], [drawn(values, 0.0125)])
    assert (0, 2) not in wide
    assert all(last < 3 for _, last in wide)


def test_ties_share_their_rank():
    table, _ = rank([np.array([0.5, 0.5, 0.1])], [np.array([[0.5] * 3, [0.5] * 3, [0.1] * 3])])
    assert table["rank"].tolist() == [1.5, 1.5, 3.0]
