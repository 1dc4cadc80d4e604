from types import SimpleNamespace

import numpy as np
import pandas as pd

from mosaic.experiments import embed as embeddings


def test_rows_are_all_or_a_draw():
    splits = {"train": np.arange(100), "validation": np.arange(100, 110), "test": np.arange(110, 200)}
    store = SimpleNamespace(split_rows=lambda split: splits[split])
    rows = embeddings.chosen_rows(store, 50)
    assert rows["validation"].tolist() == splits["validation"].tolist()
    assert len(set(rows["train"])) == 50
    assert set(rows["test"]) < set(splits["test"])
    again = embeddings.chosen_rows(store, 50)
    assert all((rows[split] == again[split]).all() for split in rows)


def test_arrays_come_by_seed_and_missing_ones_are_left_out(tmp_path):
    trials = [("iai", 1, {"a": 1}), ("iai", 0, {"a": 0}), ("random", 0, {"b": 5})]
    embedded = pd.DataFrame(trials, columns=["method", "seed", "arrays"])
    embedded["path"] = [tmp_path / f"{i}.npz" for i in range(3)]
    for path, arrays in zip(embedded["path"], embedded["arrays"], strict=True):
        np.savez(path, **arrays)
    assert [array.item() for array in embeddings.per_seed(embedded, "iai", "a")] == [0, 1]
    assert embeddings.per_seed(embedded, "random", "a") == []
    assert embeddings.load_arrays(embedded.iloc[2], "b")[""].item() == 5
