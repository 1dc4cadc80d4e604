"""Intervals and p-values of two equally good methods: how often they hold, by number of scenes and seeds."""

import numpy as np
import pytest

from mosaic.evaluation.uncertainty import LEAST_SCENES, estimate_ap

pytestmark = pytest.mark.slow

#: Deviation of a method's skill between scenes, and between seeds: the one, both, or mostly the other.
SPREADS = ((0.5, 0.0), (0.35, 0.1), (0.2, 0.2))
DRAWS = 400  # for each number of scenes and seeds
TOLERANCE = 2 * np.sqrt(0.95 * 0.05 / DRAWS)  # two standard errors of a share of the draws: 0.022


def draw_difference(random, n_scenes, n_seeds, over_scenes, over_seeds, classes=3):
    """Draw two methods of equal expected AP, scored on the same patches, whose classes cluster in scenes."""
    scene = np.repeat(np.arange(n_scenes), random.integers(8, 25, n_scenes))
    prevalence = 1 / (1 + np.exp(1 - random.normal(size=(n_scenes, classes))))[scene]
    labels = (random.random(prevalence.shape) < prevalence).astype(np.uint8)
    difficulty = 0.7 * random.normal(size=(n_scenes, classes))[scene] + 0.6 * random.normal(size=labels.shape)
    estimates = []
    for _ in range(2):
        skill = 1.2 + over_scenes * random.normal(size=(n_scenes, classes))[scene]
        seeds = [
            labels * (skill + over_seeds * random.normal())
            + difficulty
            + 0.8 * random.normal(size=labels.shape)
            for _ in range(n_seeds)
        ]
        estimates.append(estimate_ap(labels, seeds, scene.astype(str)))
    return (estimates[0] - estimates[1]).difference()


def draw_many(n_scenes, n_seeds, draws):
    random = np.random.default_rng([n_scenes, n_seeds])
    spreads = SPREADS if n_seeds > 1 else SPREADS[:1]  # of one seed the interval is for that seed
    return [draw_difference(random, n_scenes, n_seeds, *spreads[i % len(spreads)]) for i in range(draws)]


def test_intervals_cover_and_tests_reject_as_often_as_they_say():
    coverage = {}
    for n_scenes in (LEAST_SCENES, 12, 18, 30, 60):
        for n_seeds in (1, 3, 5):
            found = draw_many(n_scenes, n_seeds, DRAWS)
            coverage[n_scenes, n_seeds] = np.mean([each.low <= 0 <= each.high for each in found])
            if n_seeds > 1:
                rejected = np.mean([each.p_value < 0.05 for each in found])
                assert rejected == pytest.approx(1 - coverage[n_scenes, n_seeds], abs=1e-9)
    print({sizes: round(float(share), 3) for sizes, share in coverage.items()})
    assert all(0.93 - TOLERANCE <= share <= 0.97 + TOLERANCE for share in coverage.values()), coverage
    enough = [share for (n_scenes, _), share in coverage.items() if n_scenes >= 12]
    assert 0.93 <= np.mean(enough) <= 0.97
