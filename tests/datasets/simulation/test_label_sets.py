from itertools import permutations

import numpy as np
import pytest

from mosaic.datasets.reference import label_sets, label_statistics
from mosaic.datasets.simulation.landscape import draw_label_sets


def test_the_distribution_is_the_real_one():
    sets, share = label_sets()
    assert len(sets) == 5350
    assert share.sum() == pytest.approx(1)
    assert sets.sum(1).max() == 11
    # Arable land: 188,025 of 480,038 patches
    assert share @ sets[:, 2] == pytest.approx(188_025 / 480_038)


def test_drawn_labels_overlap_as_the_real_ones_do():
    drawn = label_statistics(draw_label_sets(2000, np.random.default_rng(1)))
    real, tolerances = (2.95, 0.512, 0.018, 0.16), (0.1, 0.02, 0.003, 0.01)
    for value, expected, tolerance in zip(drawn.values(), real, tolerances, strict=True):
        assert value == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_no_class_is_absent_from_a_split_of_200(seed):
    assert draw_label_sets(200, np.random.default_rng(seed)).sum(0).min() >= 1


def test_statistics_equal_the_loop_over_pairs():
    labels = draw_label_sets(60, np.random.default_rng(0))
    pairs = list(permutations(labels, 2))
    assert label_statistics(labels) == pytest.approx(
        {
            "mean_labels": labels.sum(1).mean(),
            "p_share": np.mean([(a & b).any() for a, b in pairs]),
            "p_identical": np.mean([(a == b).all() for a, b in pairs]),
            "mean_jaccard": np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]),
        }
    )
