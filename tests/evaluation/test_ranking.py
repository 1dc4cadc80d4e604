import numpy as np

from mosaic.evaluation.ranking import rank_methods
from mosaic.evaluation.uncertainty import Estimate

RANDOM = np.random.default_rng(0)
SCENES = 40


def scored(values, spread, shared=0.0, seeds=3, scenes=SCENES):
    """Estimates with a standard error of each method's own, and one that all methods share."""
    common = shared * RANDOM.normal(size=scenes)
    estimates = []
    for value in values:
        noise = (spread * RANDOM.normal(size=scenes) + common) / np.sqrt(scenes)
        estimates.append(Estimate(np.full(seeds, value), value + noise - noise.mean()))
    return estimates


def rank(*archives):
    return rank_methods(list("abcde")[: len(archives[0])], archives)


def test_methods_stand_by_their_mean_over_archives_and_ties_share_a_rank():
    table, _ = rank(scored([0.4, 0.6, 0.2], 0.01), scored([0.6, 0.2, 0.6], 0.01))
    assert table["method"].tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(table["value"], [0.5, 0.4, 0.4])
    assert table["rank"].tolist() == [1, 2.5, 2.5]


def test_clear_differences_part_and_small_ones_are_joined():
    table, groups = rank(scored([0.50, 0.90, 0.52, 0.91], 0.02))
    assert table["method"].tolist() == ["d", "b", "c", "a"]
    assert groups == [(0, 1), (2, 3)]
    assert table[["low", "high"]].to_numpy().tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


def test_noise_that_all_methods_share_does_not_join_them():
    assert rank(scored([0.9, 0.8, 0.7], 0.005, shared=0.2))[1] == []
    assert rank(scored([0.9, 0.8, 0.7], 0.2))[1] == [(0, 2)]


def test_one_seed_or_few_scenes_tell_no_differences():
    for estimates in (scored([0.9, 0.1], 0.001, seeds=1), scored([0.9, 0.1], 0.001, scenes=4)):
        table, groups = rank(estimates)
        assert groups == [] and table["low"].isna().all()
        assert table["method"].tolist() == ["a", "b"]
