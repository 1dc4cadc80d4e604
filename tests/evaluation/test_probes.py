import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from mosaic.evaluation import probes
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import (
    FALLBACK,
    STRENGTHS,
    LinearProbe,
    cross_validated_strength,
    fit_classifier,
    knn_scores,
    linear_probe,
    tree_scores,
)


def problem(n, features=40, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 8))
    mixing = np.random.default_rng(99).normal(size=(8, features))
    x = hidden @ mixing + rng.normal(size=(n, features)) + 3
    y = hidden[:, :classes] + 0.5 * rng.normal(size=(n, classes)) > 0.3
    return x.astype(np.float32), y.astype(np.uint8)


def exact(x, y, rows, strength):
    """Return the scores of scikit-learn's logistic regressions on standardised features."""
    scaler = StandardScaler().fit(x.astype(np.float64))
    x, rows = (scaler.transform(each.astype(np.float64)) for each in (x, rows))
    models = [LogisticRegression(C=strength, tol=1e-9, max_iter=5000).fit(x, column) for column in y.T]
    return np.stack([model.predict_proba(rows)[:, 1] for model in models], axis=1)


def test_knn_is_blind_to_the_training_mean_which_fills_a_missing_sensor():
    x, y = problem(50)
    query = x + np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    query[:, 20:] = x[:, 20:].mean(0)
    shift = np.repeat(np.float32([0, 20]), 20)
    np.testing.assert_allclose(knn_scores(x, y, query), knn_scores(x + shift, y, query + shift), atol=1e-4)


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_linear_probe_equals_scikit_learn(n, strength):
    x, y = problem(n)
    test, _ = problem(60, seed=1)
    found, _ = linear_probe(x, y, test, np.ones((60, 4), np.uint8), {"test": test}, [strength])
    np.testing.assert_allclose(found["test"], exact(x, y, test, strength), atol=1e-3)


def test_strength_is_chosen_on_validation():
    x, y = problem(40, features=200)
    validation, wanted = problem(300, features=200, seed=1)
    found, probe = linear_probe(x, y, validation, wanted, {"v": validation})
    each = {c: linear_probe(x, y, validation, wanted, {"v": validation}, [c])[0]["v"] for c in STRENGTHS}
    ap = {c: macro_ap(wanted, scores) for c, scores in each.items()}
    assert probe.strength == max(ap, key=ap.__getitem__) != STRENGTHS[-1]
    np.testing.assert_allclose(found["v"], each[probe.strength], atol=2e-3)
    logits = validation @ probe.weights + probe.bias
    np.testing.assert_allclose(found["v"], 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_strength_within_the_budget_is_that_of_scikit_learns_held_out_scenes():
    x, y = problem(60, features=100)
    scenes = np.repeat([f"s{i}" for i in range(12)], 5)
    ap = {}
    for strength in STRENGTHS:
        held_out = np.zeros(y.shape)
        for fitted, held in GroupKFold(5).split(x, groups=scenes):
            held_out[held] = exact(x[fitted], y[fitted], x[held], strength)
        ap[strength] = average_precision_score(y, held_out)
    assert cross_validated_strength(x, y, scenes) == max(ap, key=ap.__getitem__)


@pytest.mark.parametrize("scores", [[0.1, 0.3, 0.2, 0.9], [0.1, 0.3, 0.3, 0.9], [0.1, 0.3, np.nan, 0.9]])
def test_no_strength_is_fitted_after_the_first_that_is_no_better(scores, monkeypatch):
    fitted = []

    def fits(features, labels, strengths):
        for strength in strengths:
            fitted.append(strength)
            yield LinearProbe(strength, np.zeros((100, labels.shape[1])), np.zeros(labels.shape[1]))

    monkeypatch.setattr(probes, "_fits", fits)
    monkeypatch.setattr(probes, "macro_ap", lambda *_: scores[STRENGTHS.index(fitted[-1])])
    x, y = problem(60, features=100)
    assert cross_validated_strength(x, y, np.arange(60).astype(str)) == STRENGTHS[1]
    assert set(fitted) == set(STRENGTHS[:3])
    fitted.clear()
    _, probe = linear_probe(x, y, x, y, {})
    assert (probe.strength, fitted) == (STRENGTHS[1], list(STRENGTHS[:3]))


def test_a_budget_too_small_for_folds_takes_the_stated_strength():
    x, y = problem(9)
    scenes = np.arange(9).astype(str)
    assert cross_validated_strength(x, y, scenes) == FALLBACK
    x, y = problem(30)
    assert cross_validated_strength(x, y * 0, np.arange(30).astype(str)) == FALLBACK
    assert cross_validated_strength(x, y, np.full(30, "one scene")) in STRENGTHS


def test_nothing_is_scored_in_half_precision():
    x, y = problem(50)
    with torch.autocast("cpu", torch.bfloat16):
        knn, probe = knn_scores(x, y, x), linear_probe(x, y, x, y, {"x": x}, [1.0])[0]["x"]
    np.testing.assert_array_equal(knn, knn_scores(x, y, x))
    np.testing.assert_array_equal(probe, linear_probe(x, y, x, y, {"x": x}, [1.0])[0]["x"])


@pytest.mark.parametrize("n", [80, 5])  # of fewer than k neighbours all count
def test_knn_is_scikit_learns_with_the_same_weights(n):
    x, y = problem(n)
    queries, _ = problem(30, seed=1)
    mean, weights = x.mean(0), lambda distance: np.exp((1 - distance) / 0.07)
    model = KNeighborsRegressor(min(7, n), metric="cosine", weights=weights)
    expected = model.fit(x - mean, y.astype(float)).predict(queries - mean)
    np.testing.assert_allclose(knn_scores(x, y, queries, k=7), expected, atol=1e-4)


def test_trees_score_what_no_line_divides_and_constants_of_classes_of_one_value():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 2)).astype(np.float32)
    y = np.column_stack([x[:, 0] * x[:, 1] > 0, np.zeros(400), np.ones(400)]).astype(np.uint8)
    scores = tree_scores(x[:200], y[:200], {"test": x[200:]})["test"]
    assert average_precision_score(y[200:, 0], scores[:, 0]) > 0.9
    assert (scores[:, 1] == 0).all() and (scores[:, 2] == 1).all()
    with warnings.catch_warnings(action="error"):
        alone = tree_scores(x[:200], y[:200, :1], {"test": x[200:]})["test"]
    assert alone.shape == (200, 1) and average_precision_score(y[200:, 0], alone[:, 0]) > 0.9


def test_class_of_one_value_scores_its_constant_without_a_warning():
    x, y = problem(50)
    y[:, 0], y[:, 1] = 0, 1
    x[:, 5] = 7  # a feature that never varies
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = linear_probe(x, y, x, y, {"same": x})[0]["same"]
    assert (scores[:, 0] == 0).all() and (scores[:, 1] == 1).all()
    assert macro_ap(y[:, 2:], scores[:, 2:]) > 0.9
    constant = y[:, :2]  # and no class that varies
    assert linear_probe(x, constant, x, constant, {"same": x})[0]["same"].tolist() == [[0, 1]] * 50


def test_classifier_of_raw_features_is_the_probe_and_constants_become_log_odds():
    x, y = problem(60)
    y[:, 0] = 0
    x[:, 3] = 2
    layer = fit_classifier(x, y, strength=0.1)
    with torch.no_grad():
        scores = torch.sigmoid(layer(torch.from_numpy(x))).numpy()
    expected = linear_probe(x, y, x, y, {"same": x}, [0.1])[0]["same"]
    np.testing.assert_allclose(scores[:, 1:], expected[:, 1:], atol=1e-5)
    np.testing.assert_allclose(scores[:, 0], 0.5 / 61, rtol=1e-5)
    assert layer.weight.requires_grad
