from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import compare, scoring
from mosaic.evaluation.uncertainty import estimate_ap
from mosaic.losses.label_kernels import KERNELS
from mosaic.settings import StudySettings

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


def finished(results=(), predictions=(), choices=None, published=(), **settings):
    """A run that left these tables."""
    tables = {"results": pd.DataFrame(list(results)), "predictions": pd.DataFrame(list(predictions))}
    tables |= {"choices": choices or {}, "archive": {"title": "A", "published": {"rows": list(published)}}}
    before = SimpleNamespace(settings=StudySettings(label_fractions=[100.0], **settings))
    return SimpleNamespace(folder="a", read=tables.get, store=lambda: STORE, earlier=lambda notebook: before)


@pytest.fixture
def ran(predict, result):
    """Make a finished run: method -> (noise of its predictions, its number of seeds)."""

    def make(more=(), **methods):
        rows = []
        for method, (noise, seeds) in methods.items():
            rows += predict(method, {"test": LABELS}, {"test": noise}, range(seeds))
        return finished(predictions=[*rows, *more])

    return make


def test_methods_are_compared_on_every_input_by_one_evaluation_and_budget(result):
    kept = [result("iai"), result("iai", input="s1"), result("iai", metric="ap_micro"), result("random")]
    others = ({"input": "fused_without_s1"}, {"evaluation": "knn"}, {"seed": 0}, {"label_budget": "full"})
    left_out = [result("iai", 0.99, **other) for other in (*others, {"metric": "lrap"}, {"stratum": "a"})]
    rows = compare.compared_rows(finished(kept + left_out))
    assert rows.index.tolist() == [0, 1, 2, 3]
    assert rows["archive"].unique().tolist() == ["A"]


def test_only_methods_with_all_seeds_are_ranked_and_by_their_scores(ran, study):
    run = ran(random=(0.95, 2), iai=(0.5, 2), mosaic=(0.6, 2), inter=(0.1, 1))
    table, _ = compare.method_ranking(study, [run])
    assert table["method"].tolist() == ["iai", "mosaic", "random"]
    assert table["rank"].tolist() == [1, 2, 3]


def test_methods_of_other_seeds_are_compared_on_the_seeds_that_all_have(ran, study):
    run = ran(supcon=(0.6, 3), supcon_any=(0.5, 1), supcon_queue=(0.1, 1), mosaic=(0.1, 3))
    table = compare.on_common_seeds(study, run, ["supcon_any", "supcon"])
    assert table[["method", "fraction"]].values.tolist() == [["supcon", 100.0], ["supcon_any", 100.0]]
    assert table["n_seeds"].tolist() == [1, 1]
    for row, place in zip(table.to_dict("records"), (0, 3), strict=True):
        scores = scoring.load(run.read("predictions").iloc[place])
        expected = estimate_ap(LABELS, [scores], STORE.scenes).interval()
        assert (row["value"], row["low"]) == pytest.approx((expected.value, expected.low))
    assert compare.on_common_seeds(study, run, []).empty


@pytest.mark.parametrize(
    ("tuned", "settings", "kernel"),
    [
        ({"kernel": "idf_jaccard"}, {}, "idf_jaccard"),
        ({"temperature_label": 0.2}, {}, "jaccard"),
        ({}, {"kernel": "cosine"}, "cosine"),
    ],
)
def test_the_kernel_of_supcon_is_the_one_it_was_tuned_to_and_stands_once(tuned, settings, kernel):
    kernels = compare.kernels_of(finished(choices={"supcon": tuned}, **settings))
    assert kernels["supcon"] == kernel
    assert sorted(kernels.values()) == sorted({*KERNELS, "msc"})


def test_a_term_adds_what_mosaic_gains_over_the_method_without_it(ran, study, predict):
    run = ran(mosaic=(0.7, 3), iai=(1.0, 2))
    table = compare.term_gains(study, run)
    assert table[["term", "n_seeds"]].values.tolist() == [["label", 2]]  # untuned, that is IaI-SimCLR
    assert table["value"][0] > 0
    rows = predict("mosaic_no_label", {"test": LABELS}, {"test": 0.4}, range(3))
    rows += predict("mosaic_no_label", {"test": LABELS}, {"test": 1.0}, range(3), evaluation="knn")
    run = ran(rows, mosaic=(0.7, 3), iai=(1.0, 2))
    assert compare.term_gains(study, run)["value"][0] < 0  # by the probe, as all methods are


def test_published_scores_are_shown_only_where_they_compare_and_ours_below_them(result):
    assert compare.published_table(finished()).empty
    rows = [result("iai", 0.6), result("iai", 0.7, metric="ap_micro"), result("iai", 0.9, fraction=5.0)]
    rows += [result("iai", value, metric="f1_macro", seed=seed) for seed, value in enumerate((0.4, 0.5))]
    other = {"model": "ResNet", "input": "all sensors", "ap_macro": 0.7, "ap_micro": 0.8, "f1_macro": 0.6}
    table = compare.published_table(finished(rows, published=[other]))
    assert table["model"].tolist() == ["ResNet", "IaI-SimCLR (this run)"]
    assert table.iloc[1, 2:].tolist() == [0.6, 0.7, pytest.approx(0.45)]
    # scores of one sensor stand beside ours of that sensor
    rows += [result("iai", 0.3, metric="ap_micro", input=name) for name in ("s1", "s2", "fused_without_s1")]
    rows += [result("iai", 0.9, metric="ap_micro", input="s1", label_budget="full")]
    other = {"model": "A", "input": "S1", "ap_micro": 0.4}
    table = compare.published_table(finished(rows, published=[other]))
    assert table["input"].tolist() == ["S1", "S1", "all sensors"]
    assert table["micro AP"].tolist() == [0.4, 0.3, 0.7]
