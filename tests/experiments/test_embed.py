import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

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


@pytest.mark.parametrize("same_place", [True, False])
@pytest.mark.parametrize("patches", [1, 2, 3])
def test_small_test_splits_are_embedded_without_a_map(tmp_path, monkeypatch, patches, same_place):
    random = np.random.default_rng(0)
    features = {split: random.normal(size=(n, 4)) for split, n in (("train", 9), ("validation", 5))}
    features["test"] = features["train"][:patches]
    inputs = {split: dict.fromkeys(("fused", "s1", "s2"), each) for split, each in features.items()}
    monkeypatch.setattr(embeddings, "encode", lambda *_: inputs)
    rows = {split: np.arange(len(each)) for split, each in features.items()}
    places = pd.DataFrame({"location": ["a"] * 9 if same_place else list("abcdefghi")})
    labels = random.integers(0, 2, (9, 3)).astype(np.uint8)
    store = SimpleNamespace(index=places, labels=labels, scenes=places["location"].to_numpy(str))
    settings = {"coherence_neighbours": 2, "umap_neighbours": 2, "umap_min_dist": 0.1, "umap_seeds": 1}
    trial, path = {"folder": "none", "method": "mosaic"}, tmp_path / "x.npz"
    with warnings.catch_warnings(action="ignore"):
        embeddings.embed_trial(trial, store, rows, settings, path)
    assert embeddings.read_arrays(path, "map|") == {}
    assert embeddings.read_arrays(path, "embeddings")[""].shape == (patches, 4)
