import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, label_ranking_average_precision_score
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multilabel_average_precision,
    multilabel_coverage_error,
    multilabel_f1_score,
    multilabel_hamming_distance,
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


def test_scores_equal_torchmetrics_or_their_definition(split):
    labels, predictions = split
    p, t = torch.tensor(predictions), torch.tensor(labels, dtype=torch.long)
    decided = predictions >= 0.5
    expected = {
        "ap_macro": multilabel_average_precision(p, t, 5, average="macro"),
        "ap_micro": multilabel_average_precision(p, t, 5, average="micro"),
        "f1_macro": multilabel_f1_score(p, t, 5, average="macro"),
        "f1_micro": multilabel_f1_score(p, t, 5, average="micro"),
        "lrap": multilabel_ranking_average_precision(p, t, 5),
        "coverage_error": multilabel_coverage_error(p, t, 5),
        "calibration_error": binary_calibration_error(p.ravel(), t.ravel(), n_bins=15),
        "hamming": multilabel_hamming_distance(p, t, 5),
        "jaccard": np.mean((labels & decided).sum(1) / (labels | decided).sum(1)),
    }
    assert set(expected) == set(METRICS) - {"ap"}
    assert scores(labels, predictions) == pytest.approx({k: v.item() for k, v in expected.items()}, abs=1e-5)


def test_macro_f1_of_a_single_scored_class_is_that_of_its_positives(split):
    labels, predictions = split
    labels[9:, 1] = labels[:, 2:] = 0
    assert metrics.scored_classes(labels).tolist() == [0]
    expected = f1_score(labels[:, 0], predictions[:, 0] >= 0.5)
    assert scores(labels, predictions)["f1_macro"] == pytest.approx(expected)


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


def test_macro_ap_leaves_out_absent_classes_and_is_nan_without_any(split):
    labels, predictions = split
    labels[:, 4] = 0
    expected = average_precision_score(labels[:, :4], predictions[:, :4])
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


def test_ranking_precision_is_scikit_learns_with_ties_and_with_no_label_or_all(split):
    labels, predictions = split[0], split[1].round(1)
    labels[0], labels[1] = 0, 1
    expected = label_ranking_average_precision_score(labels, predictions)
    assert metrics.ranking_precision(labels, predictions) == pytest.approx(expected, abs=1e-12)
