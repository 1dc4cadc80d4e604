import numpy as np
import pytest
import torch
from scipy.stats import entropy, spearmanr
from sklearn.metrics import jaccard_score

from mosaic.evaluation import coherence
from mosaic.evaluation.coherence import alignment, effective_rank, embedding_std, uniformity

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random((60, 6)) < 0.4).astype(np.uint8)
PLACES = np.array([f"p{i}" for i in range(60)])


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_standardise_uses_training_moments_and_survives_a_constant_dimension():
    train = RANDOM.normal(3, 2, size=(500, 4)).astype(np.float32)
    train[:, 3] = 7
    found = coherence.standardise(train, train)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[:, 3], 0)
    scaled = train * np.float32([10, 1, 0.1, 1])
    assert np.allclose(coherence.standardise(scaled, scaled), found, atol=1e-4)


def test_single_label_subset_keeps_frequent_single_classes():
    labels = np.zeros((12, 3), np.uint8)
    labels[:6, 0] = 1
    labels[6:9, 1] = 1
    labels[9:, 0] = labels[9:, 2] = 1
    assert coherence.single_label_subset(labels, least=5).tolist() == list(range(6))
    assert coherence.single_label_subset(labels, least=3).tolist() == list(range(9))


def test_cluster_measures_of_separate_and_of_mixed_classes():
    kinds = np.repeat([0, 1, 2], 30)
    centres = np.eye(3, 5)[kinds] * 5
    apart = coherence.cluster_measures(unit(centres + 0.1 * RANDOM.normal(size=(90, 5))), kinds)
    mixed = coherence.cluster_measures(unit(RANDOM.normal(size=(90, 5))), kinds)
    assert apart["silhouette"] > 0.9 > 0.2 > mixed["silhouette"]
    assert apart["nmi"] == apart["ari"] == pytest.approx(1)
    assert apart["davies_bouldin"] < mixed["davies_bouldin"]
    assert apart["calinski_harabasz"] > mixed["calinski_harabasz"]
    assert np.isnan(list(coherence.cluster_measures(unit(centres), kinds * 0).values())).all()


def test_neighbours_are_the_nearest_elsewhere_and_their_jaccard_index_is_scikit_learns():
    points = unit(RANDOM.normal(size=(30, 4)))
    places = np.array([f"p{i // 2}" for i in range(30)])
    scenes = np.array([f"s{i // 6}" for i in range(30)])
    found = coherence.nearest(points, 3, places)
    overlap = []
    for left_out in ("no scene", *np.unique(scenes)):  # which is nobody's neighbour either
        rows, shared = np.flatnonzero(scenes != left_out), []
        for i in rows:
            order = rows[np.argsort(-(points[rows] @ points[i]), kind="stable")]
            order = [j for j in order if places[j] != places[i]][:3]
            shared += [jaccard_score(LABELS[i], LABELS[j], zero_division=0) for j in order]
            assert left_out != "no scene" or found[i].tolist() == order
        overlap.append(np.mean(shared))
    assert coherence.knn_jaccard(points, LABELS[:30], places, scenes, 3) == pytest.approx(overlap)
    one_place = coherence.knn_jaccard(points, LABELS[:30], np.full(30, "p"), scenes, 3)
    assert np.isnan(one_place).all()
    few = coherence.nearest(points[:5], 4, np.array(["a", "a", "a", "b", "c"]))
    assert few.shape == (5, 2)  # of place a two lie elsewhere, so nobody gets more
    assert set(few[:3].ravel()) == {3, 4}


def test_distance_correlation_is_scipys_over_jaccard_distances_of_pairs():
    points = unit(RANDOM.normal(size=(60, 3)))
    pairs = [(i, j) for i in range(25) for j in range(i + 1, 25)]
    distance = [1 - points[i] @ points[j] for i, j in pairs]
    unlike = [1 - jaccard_score(LABELS[i], LABELS[j], zero_division=0) for i, j in pairs]
    expected = spearmanr(distance, unlike).statistic
    assert coherence.distance_correlation(points[:25], LABELS[:25], PLACES[:25]) == pytest.approx(
        expected, abs=1e-6
    )


def test_linear_map_recovers_a_rotation():
    source = unit(RANDOM.normal(size=(400, 6)))
    turn = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
    target = (source @ turn).astype(np.float32)
    mapped = coherence.linear_map(source[:300], target[:300], source[300:], strength=1e-3)
    assert (mapped * target[300:]).sum(1).min() > 0.999
    assert (coherence.retrieval_ranks(mapped, target[300:]) == 1).all()


def test_ranks_by_hand_and_ties_count_against():
    queries = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    candidates = np.array([[1, 0], [1, 0], [0.6, 0.8]], np.float32)
    assert coherence.retrieval_ranks(queries, candidates).tolist() == [2, 3, 3]


def test_retrieval_map_by_hand():
    labels = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.uint8)
    queries = np.array([[1, 0]] * 4, np.float32)
    candidates = np.array([[1, 0], [0.5, 0], [0.9, 0], [0.1, 0]], np.float32)
    found = coherence.retrieval_map(queries, candidates, labels, PLACES[:4], k=3)
    # query 0, other places only: 2 (no), 1 (yes), 3 (yes)
    assert found[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert np.isnan(found[2])


def test_measures_of_the_space_by_hand():
    basis = torch.eye(3)
    assert effective_rank(basis).item() == pytest.approx(3, abs=1e-4)
    assert alignment(basis, basis).item() == 0
    assert alignment(basis, basis.roll(1, 0)).item() == pytest.approx(2)  # orthogonal unit vectors
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(poles).item() == pytest.approx(-8)  # log exp(-2 * 2^2)
    assert embedding_std(poles).item() == pytest.approx(2**0.5 / 2)  # deviations 1 and 0
    collapsed = torch.ones(9, 3)
    assert [uniformity(collapsed).item(), embedding_std(collapsed).item()] == [0, 0]
    assert effective_rank(collapsed).item() == pytest.approx(1, abs=1e-4)
    singular = torch.diag(torch.tensor([3.0, 1.0]))
    assert effective_rank(singular).item() == pytest.approx(np.exp(entropy([0.75, 0.25])), rel=1e-4)
