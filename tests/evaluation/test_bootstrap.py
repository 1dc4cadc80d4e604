import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mosaic.evaluation.bootstrap import holm, resampled_ap, resampled_mean, scene_weights


def make(random, patches=200, scenes=20, skill=0.4):
    labels = (random.random((patches, 4)) < 0.3).astype(np.uint8)
    predictions = (labels * skill + random.random((patches, 4))).astype(np.float32)
    return labels, predictions, np.repeat([f"s{i}" for i in range(scenes)], patches // scenes)


def width(interval):
    return interval.high - interval.low


def test_whole_scenes_are_drawn():
    scenes = np.array(["a", "b", "b", "c", "c", "c"])
    weights = scene_weights(scenes, 50)
    assert (weights[:, 1] == weights[:, 2]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_a_resample_repeats_its_scenes(average):
    labels, predictions, scenes = make(np.random.default_rng(1), 40, 8)
    ap = resampled_ap(labels, [predictions], scenes, average, 5)
    for weight, draw in zip(scene_weights(scenes, 5), ap.draws[0], strict=True):
        rows = np.repeat(np.arange(40), weight.astype(int))
        truth, scores = labels[rows], predictions[rows]
        if average == "macro":
            truth, scores = truth[:, truth.any(0)], scores[:, truth.any(0)]
        assert draw == pytest.approx(average_precision_score(truth, scores, average=average))
    assert ap.value == pytest.approx(average_precision_score(labels, predictions, average=average))


def test_interval_covers_the_truth_about_as_often_as_it_says():
    labels, predictions, _ = make(np.random.default_rng(3), 40_000)
    truth = average_precision_score(labels, predictions)
    hits = 0
    for trial in range(60):
        labels, predictions, scenes = make(np.random.default_rng(100 + trial), 400, 40)
        interval = resampled_ap(labels, [predictions], scenes, resamples=150).interval()
        hits += interval.low <= truth <= interval.high
    assert 0.83 <= hits / 60 <= 1.0


def test_paired_is_narrower_than_unpaired():
    labels, predictions, scenes = make(np.random.default_rng(4))
    better = (predictions + 0.02 * labels).astype(np.float32)
    base_ap, better_ap = (resampled_ap(labels, [scores], scenes) for scores in (predictions, better))
    paired = (better_ap - base_ap).difference()
    assert width(paired) < 0.5 * width(base_ap.interval())
    assert paired.value > 0
    assert paired.p_value < 0.05


def test_a_method_against_itself_is_no_difference():
    labels, predictions, scenes = make(np.random.default_rng(5))
    ap = resampled_ap(labels, [predictions, predictions], scenes, resamples=100)
    same = (ap - ap).difference()
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="2 seeds against 1"):
        ap - resampled_ap(labels, [predictions], scenes, resamples=100)


def test_seeds_widen_the_interval():
    labels, predictions, scenes = make(np.random.default_rng(6))
    noise = np.random.default_rng(7).random((3, *predictions.shape))
    seeds = [(predictions + s * n).astype(np.float32) for s, n in zip((0.0, 0.5, 2.0), noise, strict=True)]
    one, three = (resampled_ap(labels, chosen, scenes).interval() for chosen in (seeds[:1], seeds))
    assert three.n_seeds == 3
    assert width(three) > width(one)


def test_interval_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(0).normal(0.5, 0.1, size=400)
    mean = resampled_mean([values], np.arange(400).astype(str), 400).interval()
    assert mean.value == pytest.approx(values.mean())
    assert mean.low < mean.value < mean.high
    assert width(mean) == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    assert resampled_mean([values], (np.arange(400) // 50).astype(str), 400).n_scenes == 8


def test_a_mean_leaves_out_nan():
    values = np.array([0.2, np.nan, 0.4, 0.6])
    assert resampled_mean([values], np.array(list("abcd")), 200).value == pytest.approx(0.4)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
