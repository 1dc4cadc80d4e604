import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multilabel_average_precision,
    multilabel_coverage_error,
    multilabel_f1_score,
    multilabel_ranking_average_precision,
)

from mosaic.evaluation import metrics
from mosaic.evaluation.metrics import METRICS, choose_thresholds, scores


@pytest.fixture
def split():
    random = np.random.default_rng(0)
    labels = (random.random((80, 5)) < 0.3).astype(np.uint8)
    labels[labels.sum(1) == 0, 0] = 1
    return labels, (labels * 0.3 + random.random((80, 5)) * 0.7).astype(np.float32)


def test_scores_equal_torchmetrics(split):
    labels, predictions = split
    p, t = torch.tensor(predictions), torch.tensor(labels, dtype=torch.long)
    found = scores(labels, predictions)
    assert set(found) == set(METRICS) - {"ap"}
    expected = {
        "ap_macro": multilabel_average_precision(p, t, 5, average="macro"),
        "ap_micro": multilabel_average_precision(p, t, 5, average="micro"),
        "f1_macro": multilabel_f1_score(p, t, 5, average="macro"),
        "f1_micro": multilabel_f1_score(p, t, 5, average="micro"),
        "lrap": multilabel_ranking_average_precision(p, t, 5),
        "coverage_error": multilabel_coverage_error(p, t, 5),
        "calibration_error": binary_calibration_error(p.ravel(), t.ravel(), n_bins=15),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value.item(), abs=1e-5), name


def test_a_hand_computed_case():
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    predictions = np.array([[0.9, 0.6], [0.4, 0.8]], np.float32)
    found = scores(labels, predictions)
    # decided: [1, 1], [0, 1]: two of four pairs wrong; sample Jaccard 1/2 and 1/2
    assert found["hamming"] == 0.5
    assert found["jaccard"] == 0.5
    assert found["ap_macro"] == 1.0


def test_thresholds_are_the_best_on_validation(split):
    labels, predictions = split
    chosen = choose_thresholds(labels, predictions)
    best = scores(labels, predictions, chosen)["f1_macro"]
    for shift in (-0.1, -0.02, 0.02, 0.1):
        assert scores(labels, predictions, chosen + shift)["f1_macro"] <= best + 1e-9


def test_wrong_input(split):
    labels, predictions = split
    with pytest.raises(ValueError, match="differ in shape"):
        scores(labels[:3], predictions)
    with pytest.raises(ValueError, match="did training diverge"):
        scores(labels, np.full_like(predictions, np.nan))


@pytest.fixture
def ties():
    random = np.random.default_rng(5)
    labels = (random.random((60, 6)) < 0.4).astype(np.uint8)
    labels[0], labels[1] = 0, 1
    return labels, np.round(random.random((60, 6)), 1).astype(np.float32)


@pytest.mark.parametrize("block", [metrics._BLOCK, 21])  # all thresholds at once; three at a time
def test_ap_without_each_scene_is_scikit_learns_with_ties(ties, monkeypatch, block):
    monkeypatch.setattr(metrics, "_BLOCK", block)
    scenes = np.random.default_rng(0).integers(0, 7, 60)
    for y, p in zip(*(array.T for array in ties), strict=True):
        expected = [average_precision_score(y, p)]
        expected += [average_precision_score(y[scenes != i], p[scenes != i]) for i in range(7)]
        np.testing.assert_allclose(metrics.leave_one_out_ap(y, p, scenes, 7), expected)
    lonely = metrics.leave_one_out_ap(np.eye(60, dtype=np.uint8)[0], ties[1][:, 0], np.arange(60) // 30, 2)
    assert np.isnan(lonely[1]) and lonely[2] >= lonely[0]


def test_macro_ap_leaves_out_absent_classes_and_is_nan_without_any(ties):
    labels, predictions = ties
    labels[:, 4], present = 0, [0, 1, 2, 3, 5]
    expected = average_precision_score(labels[:, present], predictions[:, present])
    assert metrics.macro_ap(labels, predictions) == pytest.approx(expected)
    assert np.isnan(metrics.macro_ap(labels[:, 4:5], predictions[:, 4:5]))
    assert np.isnan(metrics.per_class_ap(labels, predictions)[4])


@pytest.mark.parametrize(
    ("positives", "scored"),
    [([50, 9, 10, 0], [0, 2]), ([2, 5, 1, 0], [0, 1]), ([3, 3, 3, 3], [0, 1, 2, 3]), ([0, 0, 0, 0], [])],
)
def test_macro_averages_cover_classes_of_ten_positives_or_half_of_the_classes(positives, scored):
    labels = (np.arange(60)[:, None] < positives).astype(np.uint8)
    assert metrics.scored_classes(labels).tolist() == scored


def test_ranking_precision_is_scikit_learns_with_ties_and_with_no_label_or_all(ties):
    expected = label_ranking_average_precision_score(*ties)
    assert metrics.ranking_precision(*ties) == pytest.approx(expected, abs=1e-12)
