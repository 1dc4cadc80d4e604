from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mosaic.analysis import compare, results
from mosaic.evaluation.uncertainty import estimate_ap
from mosaic.experiments.predictions import load

RANDOM = np.random.default_rng(0)


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
    assert results.common_evaluations(table) == ("linear",)


@pytest.mark.parametrize(
    "evaluations, kept",
    [(("knn", "end_to_end"), [0]), (("finetune", "end_to_end"), [0, 1])],
)
def test_without_a_linear_probe_another_evaluation_compares_all(result, evaluations, kept):
    table = pd.DataFrame([result("iai", evaluation=evaluation) for evaluation in evaluations])
    assert results.common_rows(table, 100.0).index.tolist() == kept


def test_conditional_scores_are_those_of_the_carriers_for_each_method_and_seed(store, truth, predict):
    iai, mosaic = predict("iai", 1), predict("mosaic", 0)
    table = results.conditional_scores(store, pd.DataFrame(mosaic + iai), ["mosaic", "inter", "iai"], 100.0)
    pairs = list(zip(table["of"], table["among"], strict=True))
    assert pairs == [("forest", "town"), ("town", "forest")] * 4
    assert table["method"].tolist() == ["iai"] * 4 + ["mosaic"] * 4
    assert table.query("method == 'mosaic'")["ap"].tolist() == [1] * 4
    carriers = truth[0][:, 2] == 1
    expected = average_precision_score(truth[0][carriers, 1], load(iai[1])[carriers, 1])
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


def test_subgroups_are_rare_and_common_classes_label_counts_and_groups():
    train = (RANDOM.random((200, 4)) < [0.6, 0.4, 0.03, 0.02]).astype(np.uint8)
    test = (RANDOM.random((120, 4)) < [0.6, 0.4, 0.2, 0.0]).astype(np.uint8)
    store = SimpleNamespace(
        labels=np.concatenate([train, test]),
        split_rows=lambda split: np.arange(200) if split == "train" else np.arange(200, 320),
        class_names=("common", "other", "rare", "never"),
        manifest=SimpleNamespace(confusable={"pair": ("common", "other")}),
    )
    found = compare.define_subgroups(store)
    assert found["all classes"].classes.tolist() == [0, 1, 2]  # the fourth has no test patch
    assert found["rare classes, below 5 %"].classes.tolist() == [2]
    assert found["common classes"].classes.tolist() == [0, 1]
    assert found["1 label"].patches.tolist() == np.flatnonzero(test.sum(1) == 1).tolist()
    assert "5 labels or more" not in found  # no patch has as many, so those of three stand for many
    assert found["3 labels or more"].patches.tolist() == np.flatnonzero(test.sum(1) >= 3).tolist()
    assert found["pair"].classes.tolist() == [0, 1]
    assert found["pair"].patches.tolist() == np.flatnonzero(test[:, :2].any(1)).tolist()


def test_differences_are_paired_by_the_seeds_of_both_sides(study, store, predict, truth):
    rows = predict("supervised_late", 0.6, (0, 1, 2)) + predict("iai", 0.5, (0, 2))
    table = compare.subgroup_differences(study, store, pd.DataFrame(rows), 100.0).set_index("subgroup")
    assert table["method"].unique().tolist() == ["iai"]
    assert table["n_seeds"].unique().tolist() == [2]
    dry = np.ix_(truth[0][:, 1:3].any(1), [1, 2])  # forest and town
    scores = [load(row)[dry] for row in rows]
    reference, iai = (
        estimate_ap(truth[0][dry], [scores[i] for i in chosen], truth[1][dry[0][:, 0]])
        for chosen in ((0, 2), (3, 4))
    )
    expected = vars((iai - reference).interval())
    assert table.loc["dry", list(expected)].to_dict() == pytest.approx(expected)
    assert table.at["all classes", "value"] > 0
    mosaic = pd.DataFrame(rows).replace({"method": {"iai": "mosaic"}})
    found = results.difference_to(study, store, mosaic, "supervised_late", 100.0)
    assert found.value == pytest.approx(table.at["all classes", "value"])
    assert (found.n_seeds, found.n_scenes) == (2, 60)
    alone = compare.subgroup_differences(study, store, pd.DataFrame(rows[3:]), 100.0)
    assert alone.empty and "value" in alone  # without the reference


def test_validation_scores_are_means_over_seeds_of_the_common_evaluation(store, predict):
    rows = predict("iai", 0.6) + predict("mosaic", 0, [0])
    rows += predict("iai", 0, [0], evaluation="knn")  # not what is common
    rows += predict("iai", 0, [0], fraction=5.0)
    found = results.validation_ap(store, pd.DataFrame(rows), 100.0)
    labels = store.labels[store.split_rows("validation")]
    by_hand = [average_precision_score(labels, load(row, "validation")) for row in rows[:2]]
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
def test_intervals_are_where_they_are_shown_and_means_everywhere(store, predict, source, common, shown):
    members = pd.DataFrame(predict("iai", 0.6, source=source))
    rows = pd.DataFrame(results.score_group(store.folder, members, {}, common)).query("stratum == 'all'")
    pooled = rows.query("seed == -1").set_index("metric")
    assert set(pooled.index[pooled["low"].notna()]) == shown
    means = rows.query("seed >= 0").groupby("metric")["value"].mean()
    assert pooled["value"].to_dict() == pytest.approx(means[["ap_macro", "ap_micro"]].to_dict())
