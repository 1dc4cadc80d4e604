from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import compare, scoring
from mosaic.evaluation.uncertainty import estimate_ap
from mosaic.settings import StudySettings
from mosaic.utils.files import write_json

RANDOM = np.random.default_rng(0)
N, C = 90, 4
LABELS = (RANDOM.random((N, C)) < 0.4).astype(np.uint8)
STORE = SimpleNamespace(
    fingerprint="f",
    labels=LABELS,
    scenes=np.array([f"s{i % 9}" for i in range(N)]),
    split_rows=lambda split: np.arange(N),
    class_names=("a", "b", "c", "d"),
)


def finished(results=(), trials=(), predictions=(), seeds=3, choices=None, **settings):
    return compare.FinishedRun(
        "A",
        STORE,
        StudySettings(**{"seeds": seeds, **settings}),
        choices or {},
        pd.DataFrame(list(trials), columns=["method", "seed", "budget", "folder"]),
        pd.DataFrame(list(results)),
        pd.DataFrame(list(predictions)),
        {"rows": [], "source": "", "why": "no"},
    )


@pytest.fixture
def ran(predict, result):
    """Make a finished run of two seeds: method -> (noise of its predictions, its number of seeds)."""

    def make(**methods):
        rows, trials = [], []
        for method, (noise, seeds) in methods.items():
            rows += predict(method, {"test": LABELS}, {"test": noise}, range(seeds))
            trials += [(method, seed, 0.0, "") for seed in range(seeds)]
        return finished([result(name) for name in methods], trials, rows, seeds=2)

    return make


def test_the_score_table_has_every_input_and_leaves_out_other_budgets_and_evaluations(result):
    kept = [
        result("iai", 0.6),
        result("iai", 0.4, input="s1"),
        result("iai", 0.9, metric="ap_micro"),
        result("iai", 0.3, fraction=5.0),
        result("mosaic", 0.7, label_budget="shared"),
        result("random", 0.2),
    ]
    others = ({"input": "fused_without_s1"}, {"evaluation": "knn"}, {"seed": 0}, {"label_budget": "full"})
    left_out = [result("iai", 0.99, **other) for other in others] + [result("supcon", 0.99, n_seeds=1)]
    table = compare.score_table(finished(kept + left_out))
    assert table["method"].tolist() == ["Random features", "IaI-SimCLR", "IaI-SimCLR", "MoSAiC"]
    assert table["input"].tolist() == ["all sensors", "S1", "all sensors", "all sensors"]
    assert table.columns[3:].tolist() == ["macro, 5 %", "macro, 100 %", "micro, 5 %", "micro, 100 %"]
    assert table["macro, 100 %"][3] == pytest.approx((0.7, 0.6, 0.8))
    values = [cell[0] for name in table.columns[3:] for cell in table[name].dropna()]
    assert 0.99 not in values


def test_only_methods_with_all_seeds_are_ranked_and_by_their_scores(ran, study):
    run = ran(random=(0.95, 2), iai=(0.5, 2), mosaic=(0.6, 2), inter=(0.1, 1))
    table, _ = compare.method_ranking(study, [run])
    assert table["method"].tolist() == ["iai", "mosaic", "random"]
    assert table["rank"].tolist() == [1, 2, 3]


def test_costs_are_those_of_the_cards_with_the_score(tmp_path, result):
    for seed, seconds in ((0, 60.0), (1, 120.0)):
        card = {
            "parameters": {"encoder": 1_000_000, "trained": 1_200_000},
            "settings": {"steps": 200},
            "timing": {"seconds": seconds, "peak_memory_mb": 500, "device": "CPU, 1 thread"},
        }
        for method in ("iai", "random"):
            write_json(tmp_path / f"{method}{seed}" / "card.json", card)
    trials = [(m, s, 0.0, str(tmp_path / f"{m}{s}")) for m in ("random", "iai") for s in (0, 1)]
    costs = compare.cost_table(finished([result("iai", 0.6), result("random", 0.2)], trials))
    table = costs.set_index("method")
    assert table.loc["iai", ["minutes", "steps", "trained", "value"]].tolist() == [1.5, 200, 1_200_000, 0.6]
    assert table.loc["random", ["steps", "trained", "minutes"]].tolist() == [0, 0, 0]
    assert compare.readable_costs(costs)["encoder, million"].tolist() == [1.0, 1.0]


def test_kernels_are_compared_on_the_seeds_that_all_have(ran, study):
    run = ran(supcon=(0.6, 3), supcon_any=(0.5, 1), supcon_queue=(0.1, 1), mosaic=(0.1, 3))
    run = replace(run, settings=StudySettings(kernel="cosine"))
    table = compare.kernel_table(study, run)
    assert table["kernel"].tolist() == ["cosine", "any"]
    assert table["seeds"].tolist() == [1, 1]
    for cell, place in zip(table["100 %"], (0, 3), strict=True):
        scores = scoring.load(run.predictions.iloc[place])
        expected = estimate_ap(LABELS, [scores], STORE.scenes).interval()
        assert cell == pytest.approx((expected.value, expected.low, expected.high))


def test_the_kernel_of_supcon_is_the_one_it_was_tuned_to(ran, study):
    run = ran(supcon=(0.5, 1), supcon_any=(0.5, 1), supcon_jaccard=(0.5, 1), supcon_idf_jaccard=(0.5, 1))
    for tuned, kernels in (
        ({"kernel": "idf_jaccard"}, ["idf_jaccard", "any", "jaccard"]),
        ({"temperature_label": 0.2}, ["jaccard", "any", "idf_jaccard"]),
    ):
        table = compare.kernel_table(study, replace(run, choices={"supcon": tuned}))
        assert table["kernel"].tolist() == kernels
    assert compare.kernel_table(study, ran(mosaic=(0.5, 1))).columns.tolist() == ["kernel", "seeds", "100 %"]


def test_methods_of_fewer_seeds_are_compared_with_others_on_the_same_seeds(ran, study):
    run = ran(random=(0.9, 2), mosaic=(0.4, 2), sct=(0.5, 1), inter=(0.5, 2))
    table = compare.few_seeds_table(study, run)
    assert table["method"].tolist() == ["random", "sct", "mosaic"]
    assert table["seeds"].tolist() == [1, 1, 1]
    assert table.columns[2:].tolist() == ["macro, 100 %", "micro, 100 %"]
    assert compare.few_seeds_table(study, ran(mosaic=(0.4, 2))).empty


def test_a_term_adds_what_mosaic_gains_over_the_method_without_it(ran, study, predict):
    run = ran(mosaic=(0.7, 3), iai=(1.0, 2))
    table = compare.term_table(study, run)
    assert table[["term", "seeds"]].values.tolist() == [["label", 2]]  # untuned, that is IaI-SimCLR
    assert table["gain"][0][0] > 0
    rows = predict("mosaic_no_label", {"test": LABELS}, {"test": 0.4}, range(3))
    rows += predict("mosaic_no_label", {"test": LABELS}, {"test": 1.0}, range(3), evaluation="knn")
    run = replace(run, predictions=pd.concat([run.predictions, pd.DataFrame(rows)]))
    assert compare.term_table(study, run)["gain"][0][0] < 0  # by the probe, as all methods are


def test_published_scores_are_shown_only_where_they_compare_and_ours_below_them(result):
    assert compare.published_table(finished()).empty
    rows = [result("iai", 0.6), result("iai", 0.7, metric="ap_micro"), result("iai", 0.9, fraction=5.0)]
    rows += [result("iai", value, metric="f1_macro", seed=seed) for seed, value in enumerate((0.4, 0.5))]
    other = {"model": "ResNet", "input": "all sensors", "ap_macro": 0.7, "ap_micro": 0.8, "f1_macro": 0.6}
    run = replace(finished(rows), published={"rows": [other], "source": "", "why": ""})
    table = compare.published_table(run)
    assert table["model"].tolist() == ["ResNet", "IaI-SimCLR (this run)"]
    assert table.iloc[1, 2:].tolist() == [0.6, 0.7, pytest.approx(0.45)]


@pytest.mark.parametrize(
    ("methods", "rank", "high", "answer"),
    [
        (["iai"], [1], [np.nan], "IaI-SimCLR is the only method with all seeds, so there is nothing to "
         "rank."),
        (["iai", "mosaic"], [1, 2], [1, 2], "IaI-SimCLR ranks first of 2 methods over 1 problem, MoSAiC is "
         "number 2; all others can be told from the first."),
        (["mosaic", "iai", "random"], [1, 2, 3], [2, 3, 3], "MoSAiC ranks first of 3 methods over 1 problem; "
         "1 other cannot be told from the first."),
        (["iai", "random"], [1.5, 1.5], [np.nan] * 2, "IaI-SimCLR and Random features share the first rank "
         "of 2 methods over 1 problem, MoSAiC is not among them; one seed, or too few scenes, do not tell "
         "which differences hold."),
    ],
)  # fmt: skip
def test_the_answer_of_a_ranking_at_its_edges(methods, rank, high, answer):
    ranks = pd.DataFrame({"method": methods, "rank": rank, "high": high})
    assert compare.ranking_answer(ranks, 1) == answer
