import numpy as np
import pytest

from mosaic.evaluation.bootstrap import Difference
from mosaic.evaluation.claims import CLAIMS, FAMILIES, Comparison, judge


def comparison(place, value, low, high, p_value, n_seeds=3):
    difference = Difference(value, low, high, n_seeds, 40, p_value)
    return Comparison(CLAIMS[place], "Archive", "MoSAiC against IaI-SimCLR", difference)


def test_names_are_unique_and_cover_every_topic_against_all_families():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for topic in ("accuracy", "few labels", "overlap", "coherence"):
        against = {claim.against for claim in CLAIMS if claim.name.startswith(f"{topic} vs")}
        assert against == {"supervised", "self-supervised", "label-contrastive"} == set(FAMILIES)


@pytest.mark.parametrize(
    ("effect", "low", "high", "p_value", "n_seeds", "verdict"),
    [
        (0.03, 0.02, 0.04, 0.002, 3, "supported"),
        (0.03, 0.02, 0.04, 0.002, 2, "undecided"),
        (-0.03, -0.04, -0.02, 0.002, 3, "not supported"),
        (0.0, -0.005, 0.005, 0.9, 3, "not supported"),
        (0.02, -0.01, 0.05, 0.2, 3, "undecided"),
        (-0.03, -0.04, -0.02, 0.002, 1, "undecided"),
    ],
)
def test_rules(effect, low, high, p_value, n_seeds, verdict):
    table = judge([comparison(0, effect, low, high, p_value, n_seeds)])
    assert table["verdict"].tolist() == [verdict]
    assert table["effect"].tolist() == [effect]


def test_correction_over_all_claims_takes_back_a_lucky_one():
    """p = 0.03 alone supports; among four claims Holm asks for 0.05 / 4."""
    lucky = comparison(0, 0.03, 0.001, 0.06, 0.03)
    assert judge([lucky])["verdict"].tolist() == ["supported"]
    table = judge([lucky, *(comparison(i, 0.02, -0.01, 0.05, 0.5) for i in (1, 2, 3))])
    assert table["verdict"].tolist() == ["undecided"] * 4
    assert table["p_holm"][0] == pytest.approx(0.12)


def test_what_was_not_tested_is_undecided_and_does_not_count_in_the_correction():
    untested = Comparison(CLAIMS[1], "Archive", "no supervised method ran")
    table = judge([comparison(0, 0.03, 0.001, 0.06, 0.03), untested])
    assert table["verdict"].tolist() == ["supported", "undecided"]
    assert table["reason"][1] == "no supervised method ran"
    assert np.isnan(table["effect"][1])
