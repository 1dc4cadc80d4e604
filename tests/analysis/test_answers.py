"""Headlines on results made by hand, each written out."""

import pandas as pd
import pytest

from mosaic.analysis import answers
from mosaic.evaluation.uncertainty import Interval

NAN = float("nan")


def scores(result, seeds=3, **values):
    rows = [result(name, value, n_seeds=seeds, validation=value) for name, value in values.items()]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("values", "less", "answer"),
    [
        ({"iai": 0.5}, None, "MoSAiC has no result here, so there is no answer."),
        ({"mosaic": NAN, "iai": 0.5}, None, "MoSAiC has no result here, so there is no answer."),
        ({"mosaic": 0.5}, None, " (90 test patches, 3 seeds); it had no opponent."),
        ({"mosaic": 0.5, "iai": 0.4}, (0.1, 0.02, 0.18, 3, 8), ", ahead of IaI-SimCLR, the only other "
         "method: +0.100 [+0.020, +0.180] (8 test scenes, 90 patches, 3 seeds)."),
        ({"mosaic": 0.5, "iai": 0.6, "random": 0.1}, (-0.1, -0.18, -0.02, 3, 8), ", behind IaI-SimCLR, the "
         "best of 2 others on validation: −0.100 [−0.180, −0.020] (8 test scenes, 90 patches, 3 seeds)."),
        ({"mosaic": 0.5, "iai": 0.4}, (0.1, -0.02, 0.22, 3, 8), ", not told apart from IaI-SimCLR, the only "
         "other method: +0.100 [−0.020, +0.220] (8 test scenes, 90 patches, 3 seeds)."),
        ({"mosaic": 0.5, "iai": 0.4}, (0.1, 0.02, 0.18, 1, 8), "; difference to IaI-SimCLR, the only other "
         "method: +0.100 [+0.020, +0.180] (8 test scenes, 90 patches, 1 seed). 1 seed cannot decide; at "
         "least 3 are needed."),
        ({"mosaic": 0.5, "iai": 0.4}, (0.1, NAN, NAN, 3, 4), "; difference to IaI-SimCLR, the only other "
         "method: +0.100 (4 test scenes, 90 patches, 3 seeds). Too few scenes (4) to decide; at least 6 are "
         "needed."),
    ],
)  # fmt: skip
def test_mosaic_is_compared_with_the_best_other(result, values, less, answer):
    asked = []

    def difference(other):
        asked.append(other)
        return Interval(*less)

    text = answers.compared_answer(scores(result, **values), difference, "an AP of", 90)
    assert text.removeprefix("MoSAiC has an AP of 0.500 [0.400, 0.600]") == answer
    assert asked == (["iai"] if less else [])


def test_the_opponent_is_chosen_on_validation_whatever_the_test_split_says(result):
    rows = scores(result, mosaic=0.5, iai=0.9, random=0.2, vicreg=0.3).assign(validation=[1, 0.3, 0.4, NAN])
    text = answers.compared_answer(rows, lambda other: Interval(0.3, 0.2, 0.4, 3, 8), "an AP of", 90)
    assert "ahead of Random features, the best of 3 others on validation" in text


def test_a_method_of_fewer_seeds_is_no_opponent(result):
    rows = pd.concat([scores(result, mosaic=0.5, random=0.2), scores(result, 1, iai=0.9)])
    text = answers.compared_answer(rows, lambda other: Interval(0.3, 0.2, 0.4, 3, 8), "an AP of", 90)
    assert "ahead of Random features, the only other method" in text


def test_what_moving_costs_mosaic():
    rows = [
        ("in a country never seen (Finland)", name, -0.1, -0.2, -0.05, 3, 7, 40) for name in ("iai", "mosaic")
    ]
    rows.append(("from A to B", "mosaic", 0.02, NAN, NAN, 1, 4, 60))
    columns = ["where", "method", "value", "low", "high", "n_seeds", "n_scenes", "n"]
    changes = pd.DataFrame(rows, columns=columns)
    assert answers.transfer_answer(changes) == (
        "MoSAiC's macro AP changes in a country never seen (Finland) by −0.100 [−0.200, −0.050] (7 test "
        "scenes, 40 patches, 3 seeds); from A to B by +0.020 (4 test scenes, 60 patches, 1 seed). Too few "
        "scenes (4) to decide; at least 6 are needed."
    )
    assert answers.transfer_answer(changes[:1]) == "MoSAiC has no result here, so there is no answer."
    assert answers.transfer_answer(changes[:0]) == "Nothing was transferred in this run."


@pytest.mark.parametrize(
    ("methods", "rank", "ends", "seeds", "answer"),
    [
        (["iai"], [1], [(NAN, NAN)], 3, "MoSAiC has no result here, so there is no answer."),
        (["mosaic"], [1], [(NAN, NAN)], 3, "MoSAiC is the only method with all seeds, so there is nothing to "
         "rank."),
        (["iai", "random", "mosaic", "supcon", "vicreg"], [1, 2, 3, 4, 5],
         [(1, 2), (1, 4), (2, 4), (2, 5), (4, 5)], 3, "MoSAiC has rank 3 of 5 methods over 2 problems "
         "(archive and share of labels); IaI-SimCLR is first; of the others significantly better: 1, "
         "worse: 1, neither: 2 (8 test scenes, 90 patches, 3 seeds)."),
        (["iai", "mosaic"], [1, 2], [(1, 1), (2, 2)], 2, "MoSAiC has rank 2 of 2 methods over 2 problems "
         "(archive and share of labels); IaI-SimCLR is first (8 test scenes, 90 patches, 2 seeds). 2 seeds "
         "cannot decide; at least 3 are needed."),
        (["mosaic", "iai"], [1.5, 1.5], [(NAN, NAN)] * 2, 1, "MoSAiC has rank 1.5 of 2 methods over 2 "
         "problems (archive and share of labels) (8 test scenes, 90 patches, 1 seed). 1 seed cannot "
         "decide; at least 3 are needed."),
    ],
)  # fmt: skip
def test_the_rank_of_mosaic_at_its_edges(methods, rank, ends, seeds, answer):
    low, high = zip(*ends, strict=True)
    ranks = pd.DataFrame({"method": methods, "rank": rank, "low": low, "high": high})
    assert answers.ranking_answer(ranks, 2, 8, 90, seeds) == answer


def claims(*rows):
    columns = ["statement", "verdict", "reason", "effect", "low", "high", "n_seeds", "n_scenes"]
    return pd.DataFrame(rows, columns=columns).assign(dataset="Archive")


NONE = ("C", "not tested", "no supervised method", NAN, NAN, NAN, 0, 0)


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        ([NONE, NONE], "Of 2 claims about MoSAiC: 2 not tested (no supervised method)."),
        ([("A", "supported", "", 0.05, 0.03, 0.07, 3, 8),
          ("B", "not supported", "", -0.05, -0.06, -0.04, 3, 8),
          ("D", "undecided", "too little training: MoSAiC", 0.5, 0.4, 0.6, 3, 8), NONE], "Of 4 claims about "
         "MoSAiC: 1 supported, 1 not supported, 1 undecided (for too little training), 1 not tested (no "
         "supervised method). Clearest: B: −0.050 [−0.060, −0.040] (8 test scenes, 3 seeds)."),
        ([("A", "undecided", "too little training: MoSAiC", 0.05, -0.03, 0.07, 3, 8),
          ("B", "undecided", "the interval", -0.05, -0.2, 0.1, 3, 8)], "Of 2 claims about MoSAiC: 2 "
         "undecided (1 for too little training). Clearest: A: +0.050 [−0.030, +0.070] (8 test scenes, "
         "3 seeds)."),
        ([("A", "undecided", "1 seed", 0.05, -0.03, 0.07, 1, 8), NONE, NONE], "Of 3 claims about MoSAiC: 1 "
         "undecided, 2 not tested (no supervised method). Clearest: A: +0.050 [−0.030, +0.070] (8 test "
         "scenes, 1 seed). 1 seed cannot decide; at least 3 are needed."),
        ([("A", "undecided", "too few", 0.05, NAN, NAN, 3, 4)], "Of 1 claim about MoSAiC: 1 undecided. "
         "Clearest: A: +0.050 (4 test scenes, 3 seeds). Too few scenes (4) to decide; at "
         "least 6 are needed."),
    ],
)  # fmt: skip
def test_claims_are_counted_by_verdict_and_the_clearest_is_shown(rows, answer):
    table = claims(*rows)
    assert answers.claims_answer(table) == answer
    both = pd.concat([table, table.assign(dataset="Other")], ignore_index=True)
    assert answers.claims_answer(both).count(" on Archive: ") == answer.count("Clearest")


def test_the_sample_counts_scenes_once_and_only_those_of_the_test_split(store):
    assert answers.sample_of([store, store]) == (120, 240)
