from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import subgroups
from mosaic.evaluation.bootstrap import paired_difference
from mosaic.settings import CompareSettings

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


def predicted(folder, method, noise, seeds):
    rows = []
    for seed in seeds:
        path = folder / f"{method}-{seed}.npz"
        scores = (1 - noise) * TEST + noise * np.random.default_rng(seed).random(TEST.shape)
        np.savez(path, **{"linear|fused|100|test": scores.astype(np.float32)})
        about = {"method": method, "label_protocol": "budgeted", "fraction": 100.0, "evaluation": "linear"}
        rows.append({**about, "input": "fused", "seed": seed, "path": str(path), "key": "linear|fused|100"})
    return rows


def test_parts_are_rare_and_common_classes_label_counts_and_groups():
    parts = subgroups.define_subgroups(STORE)
    assert parts["all classes"].classes.tolist() == [0, 1, 2]  # the fourth has no test patch
    assert parts["rare classes, below 5 %"].classes.tolist() == [2]
    assert parts["common classes"].classes.tolist() == [0, 1]
    assert parts["1 label"].patches.tolist() == np.flatnonzero(TEST.sum(1) == 1).tolist()
    assert "5 labels or more" not in parts  # no patch has as many, so those of three stand for many
    assert parts["3 labels or more"].patches.tolist() == np.flatnonzero(TEST.sum(1) >= 3).tolist()
    assert parts["pair"].classes.tolist() == [0, 1]
    assert parts["pair"].patches.tolist() == np.flatnonzero(TEST[:, :2].any(1)).tolist()


def test_gains_are_paired_by_the_seeds_of_both_sides(tmp_path):
    rows = predicted(tmp_path, "supervised_late", 0.6, (0, 1, 2)) + predicted(tmp_path, "iai", 0.5, (0, 2))
    one = SimpleNamespace(store=STORE, predictions=pd.DataFrame(rows))
    run = SimpleNamespace(
        settings=CompareSettings(jobs=1, bootstrap_resamples=50), cached=lambda name, key, compute: compute()
    )
    table = subgroups.subgroup_differences(run, one, 100.0).set_index("subgroup")
    assert table["method"].unique().tolist() == ["iai"]
    assert table["n_seeds"].unique().tolist() == [2]
    arrays = {name: dict(np.load(row["path"])) for name, row in zip("abcde", rows, strict=True)}
    first, second = (
        [arrays[name]["linear|fused|100|test"][:, [2]] for name in names] for names in ("de", "ac")
    )
    expected = paired_difference(TEST[:, [2]], first, second, STORE.scenes[200:], resamples=50)
    rare = table.loc["rare classes, below 5 %"]
    assert (rare["value"], rare["low"], rare["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert table.at["all classes", "value"] > 0


def test_without_the_reference_there_is_nothing_to_compare_with(tmp_path):
    one = SimpleNamespace(store=STORE, predictions=pd.DataFrame(predicted(tmp_path, "iai", 0.5, (0,))))
    assert subgroups.subgroup_differences(SimpleNamespace(settings=CompareSettings()), one, 100.0).empty
