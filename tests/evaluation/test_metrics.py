import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score
from torchmetrics.functional.classification import (
    multilabel_average_precision,
    multilabel_coverage_error,
    multilabel_f1_score,
    multilabel_ranking_average_precision,
)

from mosaic.evaluation.metrics import (
    absent_classes,
    calibration_error,
    choose_thresholds,
    per_class_ap,
    ranking_precision,
    scores,
)
from mosaic.evaluation.names import METRICS


@pytest.fixture
def split():
    random = np.random.default_rng(0)
    labels = (random.random((80, 5)) < 0.3).astype(np.uint8)
    labels[labels.sum(1) == 0, 0] = 1
    predictions = np.clip(labels * 0.3 + random.random((80, 5)) * 0.7, 0, 1).astype(np.float32)
    return labels, predictions


def test_scores_equal_torchmetrics(split):
    labels, predictions = split
    p, t = torch.tensor(predictions), torch.tensor(labels, dtype=torch.long)
    found = scores(labels, predictions)
    assert set(found) == set(METRICS) - {"ap"}
    for name, function in (
        ("ap_macro", lambda: multilabel_average_precision(p, t, 5, average="macro")),
        ("ap_micro", lambda: multilabel_average_precision(p, t, 5, average="micro")),
        ("f1_macro", lambda: multilabel_f1_score(p, t, 5, average="macro")),
        ("f1_micro", lambda: multilabel_f1_score(p, t, 5, average="micro")),
        ("lrap", lambda: multilabel_ranking_average_precision(p, t, 5)),
        ("coverage_error", lambda: multilabel_coverage_error(p, t, 5)),
    ):
        assert found[name] == pytest.approx(float(function()), abs=1e-5), name


def test_a_hand_computed_case():
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    predictions = np.array([[0.9, 0.6], [0.4, 0.8]], np.float32)
    found = scores(labels, predictions)
    # decided: [1, 1], [0, 1]: two of four pairs wrong; sample Jaccard 1/2 and 1/2
    assert found["hamming"] == 0.5
    assert found["jaccard"] == 0.5
    assert found["ap_macro"] == 1.0


def test_absent_class_is_left_out_and_named(split):
    labels, predictions = split
    labels = labels.copy()
    labels[:, 2] = 0
    ap = per_class_ap(labels, predictions)
    assert np.isnan(ap[2])
    present = [average_precision_score(labels[:, c], predictions[:, c]) for c in (0, 1, 3, 4)]
    assert scores(labels, predictions)["ap_macro"] == pytest.approx(np.mean(present))
    assert absent_classes(labels, list("abcde")) == ["c"]


def test_thresholds_are_the_best_on_validation(split):
    labels, predictions = split
    chosen = choose_thresholds(labels, predictions)
    best = scores(labels, predictions, chosen)["f1_macro"]
    for shift in (-0.1, -0.02, 0.02, 0.1):
        assert scores(labels, predictions, chosen + shift)["f1_macro"] <= best + 1e-9


def test_calibration_error():
    labels = np.array([[1], [0], [0], [0]], np.uint8)
    assert calibration_error(labels, np.full((4, 1), 0.25, np.float32)) == pytest.approx(0.0)
    assert calibration_error(labels, np.full((4, 1), 1.0, np.float32)) == pytest.approx(0.75)


def test_wrong_input(split):
    labels, predictions = split
    with pytest.raises(ValueError, match="differ in shape"):
        scores(labels[:3], predictions)
    with pytest.raises(ValueError, match="did training diverge"):
        scores(labels, np.full_like(predictions, np.nan))


def test_ranking_precision_is_scikit_learns_with_ties_and_with_no_label_or_all():
    random = np.random.default_rng(5)
    labels = (random.random((60, 6)) < 0.4).astype(np.uint8)
    labels[0], labels[1] = 0, 1
    predictions = np.round(random.random((60, 6)), 1).astype(np.float32)
    expected = label_ranking_average_precision_score(labels, predictions)
    assert ranking_precision(labels, predictions) == pytest.approx(expected, abs=1e-12)
