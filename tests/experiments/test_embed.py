from types import SimpleNamespace

import numpy as np
import pandas as pd

from mosaic.experiments import embed as embeddings

RANDOM = np.random.default_rng(0)
N = 40


def cell(folder, method, seed, **arrays):
    path = folder / f"{method}-{seed}.npz"
    np.savez(path, **arrays)
    return {"method": method, "seed": seed, "path": str(path)}


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
    embedded = pd.DataFrame(
        [
            cell(tmp_path, "iai", 1, a=np.array([1])),
            cell(tmp_path, "iai", 0, a=np.array([0])),
            cell(tmp_path, "random", 0, b=np.array([5])),
        ]
    )
    assert [one.item() for one in embeddings.per_seed(embedded, "iai", "a")] == [0, 1]
    assert embeddings.per_seed(embedded, "random", "a") == []
    assert embeddings.load_arrays(embedded.iloc[2], "b")[""].item() == 5
