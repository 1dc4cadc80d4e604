from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mosaic.evaluation.claims import (
    CLAIMS,
    RELEVANT,
    SCENES,
    VERDICTS,
    Comparison,
    decide,
    detectable,
    judge,
    resolution,
    too_little_training,
)
from mosaic.evaluation.uncertainty import Difference, Interval, ends, error_and_df

MIRRORED = {"supported": "not supported", "not supported": "supported"}


def comparison(place, value, spread, n_seeds=3, n_scenes=40):
    """A claim whose variance over scenes is ``spread`` squared, and over seeds nothing."""
    low, high = value - 2 * spread, value + 2 * spread
    difference = Difference(value, low, high, n_seeds, n_scenes, 0.01, spread**2, 0.0)
    return Comparison(CLAIMS[place], "Archive", "MoSAiC against IaI-SimCLR", difference)


@pytest.mark.parametrize(
    ("effect", "spread", "n_seeds", "n_scenes", "verdict", "reason"),
    [
        (0.03, 0.005, 3, 40, "supported", "above zero"),
        (0.03, 0.005, 2, 40, "undecided", "2 seeds"),
        (0.03, 0.005, 1, 40, "undecided", "1 seed cannot decide"),
        (0.03, 0.005, 3, 5, "undecided", "too few scenes (5)"),
        (-0.03, 0.005, 3, 40, "not supported", "below zero"),
        (0.006, 0.001, 3, 40, "too small to matter", "within"),
        (0.02, 0.02, 3, 40, "undecided", "holds -0.01, 0 and 0.01; the run is too small"),
        (0.006, 0.0032, 3, 40, "undecided", "the effect is small"),
        (0.03, np.nan, 3, 40, "undecided", "no interval: one scene holds all"),
    ],
)
def test_rules(effect, spread, n_seeds, n_scenes, verdict, reason):
    (row,) = judge([comparison(0, effect, spread, n_seeds, n_scenes)]).to_dict("records")
    assert (row["verdict"], row["effect"]) == (verdict, effect)
    assert reason in row["reason"]


ABOVE, BELOW, UNSURE = (0.02, 0.01), (-0.078, -0.117), (0.014, -0.025)  # a margin and its low end


@pytest.mark.parametrize(
    ("bar", "chance", "reason"),
    [
        (ABOVE, ABOVE, ""),
        ((0.0, -0.04), ABOVE, ""),
        (None, ABOVE, "is not known: no band statistics in this run"),
        (ABOVE, None, "is not known: no random features in this run"),
        (None, None, "is not known: no band statistics or random features in this run"),
        (BELOW, ABOVE, "band statistics -0.078 [-0.117, -0.039], less random features +0.020"),
        (ABOVE, UNSURE, "band statistics +0.020 [+0.010, +0.030], less random features +0.014"),
        (None, UNSURE, "MoSAiC less random features +0.014 [-0.025, +0.053]"),
        ((0.02, np.nan), (0.014, np.nan), "band statistics +0.020, less random features +0.014"),
    ],
)
def test_without_exceeding_what_was_never_trained_nothing_is_claimed(bar, chance, reason):
    margins = {
        name: margin and Interval(margin[0], margin[1], 2 * margin[0] - margin[1], 3, 40)
        for name, margin in (("band statistics", bar), ("random features", chance))
    }
    found = too_little_training(margins)
    assert reason in found and bool(found) == bool(reason)
    sure = comparison(0, 0.03, 0.005)
    (row, other) = judge([replace(sure, untrained=found), sure]).to_dict("records")
    assert row["verdict"] == ("undecided" if reason else "supported")
    assert row["reason"] == (found or other["reason"])
    assert row["comparisons"] == 2


def test_mirrored_evidence_gives_mirrored_verdicts():
    random = np.random.default_rng(0)
    seen = set()
    for low, size in zip(random.normal(0, 0.02, 2000), random.exponential(0.02, 2000), strict=True):
        verdict, reason = decide(low, low + size, mde=0.02)
        mirrored, _ = decide(-low - size, -low, mde=0.02)
        assert mirrored == MIRRORED.get(verdict, verdict)
        assert (verdict == "undecided") == ("holds" in reason)
        seen.add(verdict)
    assert seen == set(VERDICTS) - {"not tested"}


def test_correction_over_all_claims_takes_back_a_lucky_one():
    lucky = comparison(0, 0.03, 0.0125)
    assert judge([lucky])["verdict"].tolist() == ["supported"]
    table = judge([lucky, *(comparison(i, 0.02, 0.015) for i in (1, 2, 3))])
    assert table["verdict"].tolist() == ["undecided"] * 4
    assert table["p_corrected"].tolist() == pytest.approx([0.04] * 4)
    half = stats.t.ppf(1 - 0.05 / 8, 39) * 0.0125
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.03 - half, 0.03 + half])


def test_what_was_not_tested_or_cannot_be_decided_does_not_count_in_the_correction():
    untested = Comparison(CLAIMS[1], "Archive", "no supervised method ran")
    table = judge([comparison(0, 0.03, 0.0125), untested, comparison(2, 0.03, 0.0125, n_seeds=1)])
    assert table["verdict"].tolist() == ["supported", "not tested", "undecided"]
    assert table["reason"][1] == "no supervised method ran"
    assert table["comparisons"].tolist() == [1, 1, 1]
    assert np.isnan(table["effect"][1]) and np.isnan(table["mde"][2])


@pytest.mark.parametrize("of_seeds", [0.0, 0.5, 0.9])
def test_the_detectable_effect_is_found_as_often_as_said(of_seeds):
    """Power of the corrected test by simulation, by the share of seeds in the variance."""
    sizes, count = (20, 3), 12
    variances = 1 - of_seeds, of_seeds
    effect, random, found = detectable(variances, sizes, count), np.random.default_rng(1), 0
    for _ in range(2000):
        means, estimated = [], []
        for variance, size in zip(variances, sizes, strict=True):
            drawn = random.normal(0, np.sqrt(variance * size), size)
            means.append(drawn.mean())
            estimated.append(drawn.var(ddof=1) / size)
        found += ends(effect + sum(means), *error_and_df(estimated, sizes), 0.05 / count)[0] > 0
    assert 0.77 <= found / 2000 <= 0.83


def test_more_scenes_and_seeds_resolve_more():
    claims = judge([comparison(0, 0.02, 0.02), comparison(1, 0.02, 0.02)])
    sizes = resolution(claims).set_index(["n_seeds", "n_scenes"])["mde"]
    assert sizes[3].is_monotonic_decreasing and (sizes[10] <= sizes[3]).all()
    n = SCENES[10]
    assert sizes[3, n] == pytest.approx(detectable((40 * 0.02**2 / n, 0.0), (n, 3), 2))
    assert sizes[3, SCENES[0]] > RELEVANT > sizes[3, SCENES[-1]]
    assert resolution(judge([comparison(0, 0.02, 0.02, n_seeds=1)])).empty
