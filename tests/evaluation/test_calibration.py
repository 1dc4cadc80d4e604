"""Intervals and p-values of two equally good methods: how often they hold, by number of scenes and seeds."""

import numpy as np
import pytest

from mosaic.evaluation.coherence import knn_jaccard, standardise
from mosaic.evaluation.uncertainty import LEAST_SCENES, Estimate, estimate_ap

pytestmark = pytest.mark.slow

#: Deviation of a method's skill between scenes, and between seeds: the one, both, or mostly the other.
SPREADS = ((0.5, 0.0), (0.35, 0.2), (0.2, 0.4))
SEEDS = (1, 3, 5)
DRAWS = 400  # for each number of scenes
TOLERANCE = 2 * np.sqrt(0.95 * 0.05 / DRAWS)  # two standard errors of a share of the draws: 0.022


def draw_scenes(random, n_scenes, classes):
    """Draw the scene of each patch, and labels that cluster in scenes."""
    scene = np.repeat(np.arange(n_scenes), random.integers(6, 15, n_scenes))
    prevalence = 1 / (1 + np.exp(1 - random.normal(size=(n_scenes, classes))))[scene]
    return scene, (random.random(prevalence.shape) < prevalence).astype(np.uint8)


def draw_differences(random, n_scenes, n_seeds, over_scenes, over_seeds, classes=2):
    """Draw the difference, of each seed, of two methods of equal expected AP on the same patches."""
    scene, labels = draw_scenes(random, n_scenes, classes)
    names, shape = scene.astype(str), (n_seeds, *labels.shape)
    difficulty = 0.7 * random.normal(size=(n_scenes, classes))[scene] + 0.6 * random.normal(size=labels.shape)
    sides = []
    for _ in range(2):
        skill = 1.2 + over_scenes * random.normal(size=(n_scenes, classes))[scene]
        skill = skill + over_seeds * random.normal(size=(n_seeds, 1, 1))
        scores = labels * skill + difficulty + 0.8 * random.normal(size=shape)
        sides.append([estimate_ap(labels, [seed], names) for seed in scores])
    return [one - other for one, other in zip(*sides, strict=True)]


def test_intervals_cover_and_tests_reject_as_often_as_they_say():
    coverage = {}
    for n_scenes in (LEAST_SCENES, 12, 40):
        random, covered = np.random.default_rng(n_scenes), {n_seeds: [] for n_seeds in SEEDS}
        for i in range(DRAWS):
            spread = SPREADS[i % len(SPREADS)]
            seeds = draw_differences(random, n_scenes, max(SEEDS), *spread)
            # of one seed the interval is for that seed, whose own skill is no error
            alone = draw_differences(random, n_scenes, 1, *SPREADS[0]) if spread[1] else seeds
            for n_seeds in SEEDS:
                found = Estimate.over_seeds((seeds if n_seeds > 1 else alone)[:n_seeds]).difference()
                covered[n_seeds].append(found.low <= 0 <= found.high)
                assert n_seeds == 1 or (found.p_value < 0.05) != covered[n_seeds][-1]
        coverage |= {(n_scenes, n_seeds): np.mean(covered[n_seeds]) for n_seeds in SEEDS}
    print({sizes: round(float(share), 3) for sizes, share in coverage.items()})
    assert all(0.93 - TOLERANCE <= share <= 0.97 + TOLERANCE for share in coverage.values()), coverage
    enough = [share for (n_scenes, _), share in coverage.items() if n_scenes >= 12]
    assert 0.93 <= np.mean(enough) <= 0.97


def test_intervals_of_neighbourhoods_cover_though_scenes_are_neighbours_of_others():
    """Two methods show the labels alike, but for a haze of each scene and noise."""
    random, covered = np.random.default_rng(0), []
    shown = random.normal(size=(8, 16))
    for _ in range(DRAWS):
        scene, labels = draw_scenes(random, 12, 8)
        names, places = scene.astype(str), np.arange(len(scene)).astype(str)
        sides = []
        for columns in (shown, shown[:, ::-1]):
            haze = 0.3 * random.normal(size=(12, 16))[scene]
            features = (labels @ columns + haze + random.normal(size=haze.shape)).astype(np.float32)
            found = knn_jaccard(standardise(features, features), labels, places, names)
            sides.append(Estimate.of([found]))
        found = (sides[0] - sides[1]).interval()
        covered.append(found.low <= 0 <= found.high)
    print(f"neighbourhoods: {np.mean(covered):.3f}")
    assert 0.93 - TOLERANCE <= np.mean(covered) <= 0.97 + TOLERANCE
