import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from mosaic.evaluation.ranking import rank_methods

RANDOM = np.random.default_rng(0)


def drawn(values, spread, shared=0.0, resamples=2000):
    """Resamples around the values: noise of each method, and noise that all methods share."""
    noise = spread * RANDOM.normal(size=(len(values), resamples))
    return np.asarray(values)[:, None] + noise + shared * RANDOM.normal(size=resamples)


def test_ranks_are_means_over_problems_as_friedmans_are():
    values = RANDOM.random((5, 4))
    found = rank_methods(list(values), [drawn(scores, 1e-6) for scores in values])
    by_hand = np.array([[1 + (row > value).sum() for value in row] for row in values]).mean(0)
    np.testing.assert_allclose(found.rank, np.sort(by_hand))
    np.testing.assert_allclose(by_hand[found.order], found.rank)
    # the statistic of Friedman made of these ranks is scipy's
    statistic = 12 * 5 / (4 * 5) * ((by_hand - 2.5) ** 2).sum()
    assert statistic == pytest.approx(friedmanchisquare(*values.T).statistic)


def test_clear_differences_part_and_small_ones_are_joined():
    values = np.array([0.50, 0.90, 0.52, 0.91])
    found = rank_methods([values], [drawn(values, 0.02)])
    assert found.order.tolist() == [3, 1, 2, 0]
    assert found.groups == [(0, 1), (2, 3)]
    assert (found.low <= found.rank).all() and (found.rank <= found.high).all()


def test_noise_that_all_methods_share_does_not_join_them():
    values = np.array([0.9, 0.8, 0.7])
    assert rank_methods([values], [drawn(values, 0.005, shared=0.2)]).groups == []
    assert rank_methods([values], [drawn(values, 0.2)]).groups == [(0, 2)]


def test_overlapping_groups_are_both_kept_and_inner_ones_are_not():
    values = np.array([0.90, 0.86, 0.82, 0.60])
    found = rank_methods([values], [drawn(values, 0.01)])
    assert found.groups in ([], [(0, 1), (1, 2)])
    wide = rank_methods([values], [drawn(values, 0.0125)])
    assert (0, 2) not in wide.groups
    assert all(last < 3 for _, last in wide.groups)


def test_ties_share_their_rank():
    found = rank_methods([np.array([0.5, 0.5, 0.1])], [np.array([[0.5] * 3, [0.5] * 3, [0.1] * 3])])
    assert found.rank.tolist() == [1.5, 1.5, 3.0]
