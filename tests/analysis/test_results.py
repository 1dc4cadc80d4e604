from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mosaic.analysis import results, scoring
from mosaic.evaluation.uncertainty import estimate_ap

RANDOM = np.random.default_rng(0)
CLASSES = ("Arable land", "Pastures", "Mixed forest", "Marine waters")


def test_methods_are_compared_by_one_evaluation_and_never_by_full_label_pretraining(result):
    rows = [
        result("iai"),
        result("iai", evaluation="knn"),
        result("iai", input="s1"),
        result("iai", fraction=5.0),
        result("mosaic", label_budget="shared"),
        result("mosaic", label_budget="full"),
        result("supervised_late", label_budget="shared", evaluation="end_to_end"),
        result("supervised_late", label_budget="shared"),
        result("supervised_s1", label_budget="shared", input="s1"),
    ]
    table = pd.DataFrame(rows)
    assert results.common_rows(table, 100.0).index.tolist() == [0, 4, 7, 8]
    assert results.common_evaluation_title(table) == "linear probe"


@pytest.mark.parametrize(
    "evaluations, kept, title",
    [
        (("knn", "end_to_end"), [0], "k nearest neighbours"),
        (("finetune", "end_to_end"), [0, 1], "fine-tuning or end to end"),
    ],
)
def test_without_a_linear_probe_another_evaluation_compares_all(result, evaluations, kept, title):
    table = pd.DataFrame([result("iai", evaluation=evaluation) for evaluation in evaluations])
    assert results.common_rows(table, 100.0).index.tolist() == kept
    assert results.common_evaluation_title(table) == title


def test_conditional_scores_are_those_of_the_carriers_for_each_method_and_seed(predict):
    labels = (RANDOM.random((80, 4)) < 0.5).astype(np.uint8)
    store = SimpleNamespace(
        labels=labels,
        split_rows=lambda split: np.arange(80),
        class_names=CLASSES,
        manifest=SimpleNamespace(confusable={"open": CLASSES[:2]}),
    )
    iai, mosaic = (predict(m, {"test": labels}, {"test": n}, (0, 1)) for m, n in (("iai", 1), ("mosaic", 0)))
    table = results.conditional_scores(store, pd.DataFrame(mosaic + iai), ["mosaic", "inter", "iai"], 100.0)
    pairs = [tuple(CLASSES[:2]), tuple(CLASSES[1::-1])]
    assert list(zip(table["of"], table["among"], strict=True)) == pairs * 4
    assert table["method"].tolist() == ["iai"] * 4 + ["mosaic"] * 4
    assert table.query("method == 'mosaic'")["ap"].tolist() == [1] * 4
    carriers, scores = labels[:, 1] == 1, np.load(iai[1]["path"])["linear|fused|100|test"]
    expected = average_precision_score(labels[carriers, 0], scores[carriers, 0])
    assert table["ap"].iloc[2] == pytest.approx(expected)
    assert results.conditional_scores(store, pd.DataFrame(iai), ["mosaic"], 100.0).empty


def test_groups_derived_from_data_find_company_and_look():
    """Of six classes in five groups, two always come together; two others look alike."""
    random = np.random.default_rng(0)
    labels = (random.random((400, 6)) < 0.4).astype(np.uint8)
    labels[:, 1] = labels[:, 0] & (random.random(400) < 0.95)
    labels[:, 2] |= labels.sum(1) == 0
    bands = labels / labels.sum(1, keepdims=True) @ [[0, 0], [9, 0], [5, 9], [5.2, 9.1], [0, 5], [9, 5]]
    store = SimpleNamespace(
        class_names=tuple("abcdef"),
        labels=labels,
        split_rows=lambda split: np.arange(400),
        layout=SimpleNamespace(bands=("VV", "B02")),
        read_bands=lambda rows, names: {n: bands[rows, i, None, None] for i, n in enumerate(names)},
        manifest=SimpleNamespace(confusable={"known": ("e", "f")}),
    )
    pairs = {"together: a + 1": ("a", "b"), "look-alike: c + 1": ("c", "d")}
    assert results.hard_groups(store) == {"known": ("e", "f"), **pairs}


NAMES = ("common", "other", "rare", "never")
TRAIN = (RANDOM.random((200, 4)) < [0.6, 0.4, 0.03, 0.02]).astype(np.uint8)
TEST = (RANDOM.random((120, 4)) < [0.6, 0.4, 0.2, 0.0]).astype(np.uint8)
STORE = SimpleNamespace(
    fingerprint="f",
    labels=np.concatenate([TRAIN, TEST]),
    scenes=np.array([f"s{i % 10}" for i in range(200 + 120)]),
    split_rows=lambda split: np.arange(200) if split == "train" else np.arange(200, 200 + 120),
    class_names=NAMES,
    manifest=SimpleNamespace(dataset="d", confusable={"pair": NAMES[:2]}),
)


def test_subgroups_are_rare_and_common_classes_label_counts_and_groups():
    found = results.define_subgroups(STORE)
    assert found["all classes"].classes.tolist() == [0, 1, 2]  # the fourth has no test patch
    assert found["rare classes, below 5 %"].classes.tolist() == [2]
    assert found["common classes"].classes.tolist() == [0, 1]
    assert found["1 label"].patches.tolist() == np.flatnonzero(TEST.sum(1) == 1).tolist()
    assert "5 labels or more" not in found  # no patch has as many, so those of three stand for many
    assert found["3 labels or more"].patches.tolist() == np.flatnonzero(TEST.sum(1) >= 3).tolist()
    assert found["pair"].classes.tolist() == [0, 1]
    assert found["pair"].patches.tolist() == np.flatnonzero(TEST[:, :2].any(1)).tolist()


def test_differences_are_paired_by_the_seeds_of_both_sides(predict, study):
    rows = predict("supervised_late", {"test": TEST}, {"test": 0.6}, (0, 1, 2))
    rows += predict("iai", {"test": TEST}, {"test": 0.5}, (0, 2))
    table = results.subgroup_differences(study, STORE, pd.DataFrame(rows), 100.0).set_index("subgroup")
    assert table["method"].unique().tolist() == ["iai"]
    assert table["n_seeds"].unique().tolist() == [2]
    scores = [np.load(row["path"])["linear|fused|100|test"][:, [2]] for row in rows]
    reference, iai = (
        estimate_ap(TEST[:, [2]], [scores[i] for i in chosen], STORE.scenes[200:])
        for chosen in ((0, 2), (3, 4))
    )
    expected = (iai - reference).interval()
    rare = table.loc["rare classes, below 5 %"]
    assert (rare["value"], rare["low"], rare["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert table.at["all classes", "value"] > 0
    mosaic = pd.DataFrame(rows).replace({"method": {"iai": "mosaic"}})
    found = results.difference_to(study, STORE, mosaic, "supervised_late", 100.0)
    assert found.value == pytest.approx(table.at["all classes", "value"])
    assert (found.n_seeds, found.n_scenes) == (2, 10)
    alone = results.subgroup_differences(study, STORE, pd.DataFrame(rows[3:]), 100.0)
    assert alone.empty and "value" in alone  # without the reference


def test_validation_scores_are_means_over_seeds_of_the_common_evaluation(predict):
    truth = {"validation": STORE.labels[STORE.split_rows("validation")]}
    rows = predict("iai", truth, {"validation": 0.6}, (0, 1)) + predict(
        "mosaic", truth, {"validation": 0}, (0,)
    )
    rows += predict("iai", truth, {"validation": 0}, (0,), evaluation="knn")  # not what is common
    rows += predict("iai", truth, {"validation": 0}, (0,), fraction=5.0)
    found = results.validation_ap(STORE, pd.DataFrame(rows), 100.0)
    scores = [np.load(row["path"])["linear|fused|100|validation"] for row in rows[:2]]
    labels = truth["validation"]
    known = [c for c in range(4) if labels[:, c].sum() >= 10]
    by_hand = [average_precision_score(labels[:, known], s[:, known]) for s in scores]
    assert found["iai"] == pytest.approx(np.mean(by_hand)) and found["iai"] < found["mosaic"] == 1


@pytest.mark.parametrize(
    ("source", "common", "shown"),
    [
        ("fused", True, {"ap_macro", "ap_micro"}),
        ("s1", True, {"ap_macro", "ap_micro"}),
        ("fused", False, {"ap_macro"}),
        ("s1", False, set()),
    ],
)
def test_intervals_are_where_they_are_shown_and_means_everywhere(predict, monkeypatch, source, common, shown):
    monkeypatch.setattr(scoring, "PackedStore", lambda folder: STORE)
    truth = {"validation": TEST, "test": TEST}
    members = pd.DataFrame(predict("iai", truth, dict.fromkeys(truth, 0.6), (0, 1), source=source))
    rows = pd.DataFrame(scoring.score_group("packed", members, {}, common)).query("stratum == 'all'")
    pooled = rows.query("seed == -1").set_index("metric")
    assert set(pooled.index[pooled["low"].notna()]) == shown
    means = rows.query("seed >= 0").groupby("metric")["value"].mean()
    assert pooled["value"].to_dict() == pytest.approx(means[["ap_macro", "ap_micro"]].to_dict())
