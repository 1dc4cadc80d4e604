import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mosaic.evaluation import bootstrap as intervals
from mosaic.evaluation.bootstrap import (
    holm,
    interval,
    paired_difference,
    resampled_ap,
    scene_weights,
    weighted_ap,
)


def make(random, patches=200, scenes=20, skill=0.4):
    labels = (random.random((patches, 4)) < 0.3).astype(np.uint8)
    predictions = (labels * skill + random.random((patches, 4))).astype(np.float32)
    return labels, predictions, np.repeat([f"s{i}" for i in range(scenes)], patches // scenes)


def test_weighted_ap_is_scikit_learns_with_ties():
    random = np.random.default_rng(0)
    labels = (random.random(60) < 0.4).astype(np.uint8)
    predictions = np.round(random.random(60), 1).astype(np.float32)
    weights = random.integers(0, 4, size=(7, 60)).astype(np.float32)
    expected = [average_precision_score(labels, predictions, sample_weight=w) for w in weights]
    np.testing.assert_allclose(weighted_ap(labels, predictions, weights), expected)


def test_weighting_is_repeating():
    labels, predictions, scenes = make(np.random.default_rng(1), 40, 8)
    weights = scene_weights(scenes, 5, seed=2)
    for average in ("macro", "micro"):
        for weight, found in zip(weights, resampled_ap(labels, predictions, weights, average), strict=True):
            rows = np.repeat(np.arange(40), weight.astype(int))
            drawn = labels[rows]
            keep = drawn.any(0)
            expected = average_precision_score(drawn[:, keep], predictions[rows][:, keep], average=average)
            if average == "micro":
                expected = average_precision_score(drawn.ravel(), predictions[rows].ravel())
            assert found == pytest.approx(expected)


def test_weightings_in_several_blocks_are_the_same(monkeypatch):
    labels, predictions, scenes = make(np.random.default_rng(2))
    whole = [resampled_ap(labels, predictions, scene_weights(scenes, 7), a) for a in ("macro", "micro")]
    monkeypatch.setattr(intervals, "_AT_ONCE", 3 * len(labels))  # three weightings a block, then one
    blocks = [resampled_ap(labels, predictions, scene_weights(scenes, 7), a) for a in ("macro", "micro")]
    np.testing.assert_allclose(blocks, whole, rtol=1e-12)


def test_whole_scenes_are_drawn():
    scenes = np.array(["a", "b", "b", "c", "c", "c"])
    weights = scene_weights(scenes, 50)
    assert (weights[:, 1] == weights[:, 2]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


def test_interval_covers_the_truth_about_as_often_as_it_says():
    truth_labels, truth_predictions, _ = make(np.random.default_rng(3), 40_000)
    truth = average_precision_score(truth_labels, truth_predictions)
    hits = 0
    for trial in range(60):
        labels, predictions, scenes = make(np.random.default_rng(100 + trial), 400, 40)
        found = interval(labels, [predictions], scenes, resamples=150)
        hits += found.low <= truth <= found.high
    assert 0.83 <= hits / 60 <= 1.0


def test_paired_is_narrower_than_unpaired():
    labels, base, scenes = make(np.random.default_rng(4))
    better = (base + 0.02 * labels).astype(np.float32)
    paired = paired_difference(labels, [better], [base], scenes, resamples=300)
    alone = interval(labels, [base], scenes, resamples=300)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert paired.value > 0
    assert paired.p_value < 0.05


def test_a_method_against_itself_is_no_difference():
    labels, base, scenes = make(np.random.default_rng(5))
    same = paired_difference(labels, [base, base], [base, base], scenes, resamples=100)
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="2 seeds against 1"):
        paired_difference(labels, [base, base], [base], scenes)


def test_seeds_widen_the_interval():
    labels, base, scenes = make(np.random.default_rng(6))
    random = np.random.default_rng(7)
    seeds = [(base + s * random.random(base.shape)).astype(np.float32) for s in (0.0, 0.5, 2.0)]
    one = interval(labels, seeds[:1], scenes)
    three = interval(labels, seeds, scenes)
    assert three.n_seeds == 3
    assert three.high - three.low > one.high - one.low


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
