import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from mosaic.evaluation import metrics
from mosaic.evaluation.label_overlap import Stratum
from mosaic.evaluation.uncertainty import LEAST_SCENES, Estimate, error_and_df, estimate_ap, estimate_mean


def make(random, patches=200, scenes=20, skill=0.4):
    labels = (random.random((patches, 4)) < 0.3).astype(np.uint8)
    predictions = (labels * skill + random.random((patches, 4))).astype(np.float32)
    return labels, predictions, np.repeat([f"s{i}" for i in range(scenes)], patches // scenes)


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("block", [metrics._BLOCK, 24])  # all thresholds at once; three at a time
def test_a_score_and_that_without_each_scene_are_scikit_learns(average, block, monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", block)
    labels, predictions, scenes = make(np.random.default_rng(1), 160, 8)
    order = np.random.default_rng(2).permutation(160)
    labels, predictions, scenes = labels[order], predictions[order].round(1), scenes[order]  # with ties
    seeds = [predictions, predictions[:, ::-1]]
    ap = estimate_ap(labels, seeds, scenes, average=average)
    for name, found in zip(np.unique(scenes), ap.without, strict=True):
        kept = scenes != name
        scores = [average_precision_score(labels[kept], p[kept], average=average) for p in seeds]
        assert found == pytest.approx(np.mean(scores), abs=1e-12)
    assert ap.values == pytest.approx([average_precision_score(labels, p, average=average) for p in seeds])


def test_strata_are_their_patches_and_classes_alone_and_average_over_them():
    labels, predictions, scenes = make(np.random.default_rng(2))
    first = Stratum("a", np.arange(60), np.array([1, 3]))
    second = Stratum("b", np.arange(40, 90), np.array([0]))
    one = estimate_ap(labels, [predictions], scenes, [first])
    alone = estimate_ap(labels[:60, [1, 3]], [predictions[:60, [1, 3]]], scenes[:60])
    assert one.interval() == alone.interval()
    both = estimate_ap(labels, [predictions], scenes, [first, second])
    last = average_precision_score(labels[40:90, 0], predictions[40:90, 0])
    assert both.value == pytest.approx((2 * one.value + last) / 3)
    assert len(both.without) == 9  # scenes of either


def test_interval_and_p_of_a_mean_are_those_of_the_t_test():
    values = np.random.default_rng(0).normal(0.52, 0.1, size=40)
    mean = estimate_mean([values, values], np.arange(40).astype(str))  # seeds that agree add no variance
    test = stats.ttest_1samp(values, 0)
    expected = test.confidence_interval(0.95)
    found = mean.difference()
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))
    assert found.p_value == pytest.approx(test.pvalue)
    assert (found.n_seeds, found.n_scenes) == (2, 40)


def test_seeds_alone_give_the_t_interval_of_their_mean():
    seeds = np.array([0.4, 0.45, 0.5])
    found = Estimate(seeds, np.full(10, seeds.mean())).interval()
    expected = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_intervals_end_where_scores_and_their_differences_do():
    without = np.array([1.0, 0.98, 0.96, 1.0, 0.97, 0.94])
    high, low = Estimate(np.array([0.95]), without), Estimate(np.array([0.05]), 1 - without)
    assert high.interval().high == 1 and low.interval().low == 0
    for difference in (low - high, Estimate.mean([low - high]), Estimate.over_seeds([low - high])):
        assert difference.interval().low == -1
        assert -0.9 < difference.interval().high < 0
    assert (high - low).interval().high == 1


def test_satterthwaite_is_welchs():
    a, b = np.array([0.1, 0.5, 0.3, 0.9]), np.array([0.2, 0.3, 0.25, 0.3, 0.1, 0.2])
    welch = stats.ttest_ind(a, b, equal_var=False)
    error, df = error_and_df((a.var(ddof=1) / 4, b.var(ddof=1) / 6), (4, 6))
    assert (welch.statistic, welch.df) == pytest.approx(((a.mean() - b.mean()) / error, df))


def test_a_method_against_itself_is_no_difference():
    labels, predictions, scenes = make(np.random.default_rng(5))
    ap = estimate_ap(labels, [predictions, predictions], scenes)
    same = (ap - ap).difference()
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="2 seeds against 1"):
        ap - estimate_ap(labels, [predictions], scenes)


def test_one_seed_has_an_interval_of_its_scenes_and_no_p_value():
    labels, predictions, scenes = make(np.random.default_rng(6))
    noise = np.random.default_rng(7).random((3, *predictions.shape))
    seeds = [(predictions + s * n).astype(np.float32) for s, n in zip((0.0, 0.5, 2.0), noise, strict=True)]
    one, three = (estimate_ap(labels, chosen, scenes).difference() for chosen in (seeds[:1], seeds))
    assert width(three) > width(one) > 0
    assert np.isnan(one.p_value) and three.p_value < 0.05


def test_few_scenes_have_no_interval():
    labels, predictions, scenes = make(np.random.default_rng(6), 100, LEAST_SCENES - 1)
    few = estimate_ap(labels, [predictions] * 3, scenes).difference()
    assert few.value > 0 and np.isnan([few.low, few.high, few.p_value]).all()


def test_a_mean_leaves_out_nan():
    values = np.array([0.2, np.nan, 0.4, 0.6])
    mean = estimate_mean([values], np.array(list("abcd")))
    assert mean.value == pytest.approx(0.4)
    assert mean.without == pytest.approx([0.5, 0.4, 0.4, 0.3])


def test_without_the_scene_of_all_positives_a_score_is_unknown_and_nothing_warns():
    labels, scenes = np.array([[1, 0], [0, 0], [0, 0]], np.uint8), np.array(list("abc"))
    with warnings.catch_warnings(action="error"):
        ap = estimate_ap(labels, [np.array([[0.9, 0.1], [0.5, 0.2], [0.1, 0.3]], np.float32)], scenes)
    assert ap.value == 1
    np.testing.assert_array_equal(ap.without, [np.nan, 1, 1])
