import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from mosaic.store.label_budgets import label_budgets, listed_budgets, save_budgets, stratified_order
from mosaic.store.reader import label_matrix
from mosaic.utils.errors import BudgetError

FRACTIONS = [1, 5, 10, 100]


@pytest.fixture(scope="module")
def labels():
    """3,000 label vectors over 12 classes; the rarest class has about 9 positives."""
    rng = np.random.default_rng(0)
    frequency = np.geomspace(0.4, 0.003, 12)
    drawn = (rng.random((3000, 12)) < frequency).astype(np.uint8)
    drawn[drawn.sum(axis=1) == 0, 0] = 1
    return drawn


ROWS = np.arange(100, 2900)


def test_sizes_nesting_and_membership(labels):
    budgets = label_budgets(labels, ROWS, FRACTIONS)
    assert [len(budgets[fraction]) for fraction in FRACTIONS] == [28, 140, 280, 2800]
    for smaller, larger in pairwise(FRACTIONS):
        assert set(budgets[smaller]) <= set(budgets[larger])
    for chosen in budgets.values():
        assert np.array_equal(chosen, np.unique(chosen))
    assert np.array_equal(budgets[100], ROWS)


def test_every_class_in_the_smallest_budget(labels):
    assert (labels[ROWS].sum(axis=0).min()) < 15
    for seed in range(5):
        assert labels[label_budgets(labels, ROWS, [1], seed)[1]].any(axis=0).all()


def test_counts_and_numbers_of_labels_follow_the_split(labels):
    def number_of_labels(chosen):  # not served by the algorithm, which must not distort it either
        return np.bincount(labels[chosen].sum(axis=1), minlength=8)[:8] / len(chosen)

    for fraction, chosen in label_budgets(labels, ROWS, [5, 10, 30]).items():
        error = labels[chosen].sum(axis=0) - labels[ROWS].mean(axis=0) * len(chosen)
        assert np.abs(error).max() < 2, fraction
        assert np.abs(number_of_labels(ROWS) - number_of_labels(chosen)).max() < 0.07


def test_deterministic_and_independent_of_the_other_fractions(labels):
    first = label_budgets(labels, ROWS, [1, 10], seed=3)
    assert np.array_equal(first[1], label_budgets(labels, ROWS, [1], seed=3)[1])
    assert np.array_equal(first[10], label_budgets(labels, ROWS, [10, 30, 100], seed=3)[10])
    assert not np.array_equal(first[1], label_budgets(labels, ROWS, [1], seed=4)[1])


def test_too_small_names_a_fraction_that_works(labels):
    message = r"0.4 % is 11 of 2800 training patches, .* each of the 12 classes: use at least 0.43 %"
    with pytest.raises(BudgetError, match=message):
        label_budgets(labels, ROWS, [0.4, 10])
    assert len(label_budgets(labels, ROWS, [0.43])[0.43]) == 12
    for patches in (12, 5):  # of all patches there can be too few for any other fraction
        several = np.eye(12, dtype=np.uint8)[:patches] | np.eye(12, dtype=np.uint8)[-patches:]
        classes = several.any(0).sum()
        with pytest.raises(BudgetError, match=f"use 100 %, or more than {classes} patches"):
            label_budgets(several, np.arange(patches), [90])
        assert label_budgets(several, np.arange(patches), [100])[100].tolist() == [*range(patches)]
    for impossible in (0, -1, 100.5):
        with pytest.raises(BudgetError, match="more than 0 and at most 100"):
            label_budgets(labels, ROWS, [impossible])


def test_an_absent_class_asks_for_nothing_and_patches_may_be_without_labels():
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]], np.uint8)
    order = stratified_order(labels, 6, seed=0)
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    assert labels[order[:2]].any(axis=0).tolist() == [True, True, False]
    assert len(label_budgets(labels, np.arange(6), [34])[34]) == 2


def test_saved_as_patch_ids_with_the_count_of_every_class(store, tmp_path):
    save_budgets(tmp_path / "b.json", {50.0: np.array([3, 4]), 10.0: np.array([1])}, store, seed=2)
    saved = json.loads((tmp_path / "b.json").read_text())
    names = [*store.index["labels"][3], *store.index["labels"][4]]
    assert saved["seed"] == 2 and [list(budget.values()) for budget in saved["budgets"]] == [
        [10.0, {name: store.index["labels"][1].count(name) for name in store.class_names}, ["patch_001"]],
        [50.0, {name: names.count(name) for name in store.class_names}, ["patch_003", "patch_004"]],
    ]
    assert list(saved["budgets"][0]) == ["fraction_percent", "classes", "patches"]


def test_budgets_may_be_lists_of_patch_ids(store, tmp_path):
    train = store.split_rows("train")
    half, full = tmp_path / "half.csv", tmp_path / "full.csv"
    ids = store.index["patch_id"].iloc[train].tolist()
    half.write_text("\r\n".join([f"{name},S1A" for name in ids[::-1]]) + "\r\n\r\n")
    budgets = listed_budgets(store, [50.0], [str(half)])
    assert {fraction: rows.tolist() for fraction, rows in budgets.items()} == dict.fromkeys(
        (50.0, 100.0), train.tolist()
    )
    test = store.index["patch_id"].iloc[store.split_rows("test")[0]]
    lonely = store.labels[train].sum(axis=0).argmax()
    without = [name for name, row in zip(ids, train, strict=True) if not store.labels[row, lonely]]
    for lines, message in (
        ([*ids, test], rf"full.csv: 1 of {len(ids) + 1} ids are no training patches here.*{test!r}"),
        (["patch_id", *ids], "the first is 'patch_id': remove"),
        (without, f"full.csv has no patch of {store.class_names[lonely]!r}"),
        ([], "full.csv has no patch of"),
    ):
        full.write_text("\n".join(lines))
        with pytest.raises(BudgetError, match=message):
            listed_budgets(store, [50.0], [str(full)])
    for files, message in (([], "0 files, expected one for each of 50 %"), ([f"{half}x"], "csvx is missing")):
        with pytest.raises(BudgetError, match=message):
            listed_budgets(store, [50.0], files)


def test_real_labels_at_full_scale(real_data):
    table = pd.read_parquet(real_data / "ben_v2_labels.parquet", columns=["labels", "split"])
    names = table.loc[table["split"] == "train", "labels"]
    labels = label_matrix(names, sorted(set(names.explode())))
    budgets = label_budgets(labels, np.arange(len(labels)), [0.1, 1, 10])
    assert [*map(len, budgets.values())] == [238, 2379, 23787]
    for chosen in budgets.values():
        assert np.abs(labels[chosen].sum(0) - labels.mean(0) * len(chosen)).max() < 3
        assert labels[chosen].any(0).all()
