from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import results
from mosaic.evaluation.uncertainty import estimate_ap

RANDOM = np.random.default_rng(0)
N = 120
NAMES = ("common", "other", "rare", "never")
TRAIN = (RANDOM.random((200, 4)) < [0.6, 0.4, 0.03, 0.02]).astype(np.uint8)
TEST = (RANDOM.random((N, 4)) < [0.6, 0.4, 0.2, 0.0]).astype(np.uint8)
STORE = SimpleNamespace(
    fingerprint="f",
    labels=np.concatenate([TRAIN, TEST]),
    scenes=np.array([f"s{i % 10}" for i in range(200 + N)]),
    split_rows=lambda split: np.arange(200) if split == "train" else np.arange(200, 200 + N),
    class_names=NAMES,
    manifest=SimpleNamespace(confusable={"pair": NAMES[:2]}),
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
    alone = results.subgroup_differences(study, STORE, pd.DataFrame(rows[3:]), 100.0)
    assert alone.empty and "value" in alone  # without the reference
