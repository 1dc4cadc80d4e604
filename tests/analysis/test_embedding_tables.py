from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mosaic.analysis import embedding_tables
from mosaic.evaluation import coherence

RANDOM = np.random.default_rng(0)
N = 40


def trial_row(folder, method, seed, **arrays):
    path = folder / f"{method}-{seed}.npz"
    np.savez(path, **arrays)
    return {"method": method, "seed": seed, "path": str(path)}


def left_out(values):
    """Return the mean of values, and that without each."""
    return np.append(values.mean(), (values.sum() - values) / (len(values) - 1))


def test_coherence_table_averages_seeds_and_jaccard_has_the_interval_of_its_scenes(tmp_path):
    names, per_scene = [f"measure|{name}" for name in coherence.MEASURES], RANDOM.random(N)
    trials = [
        trial_row(tmp_path, "iai", s, **dict.fromkeys(names, v), **{"neighbours|test": left_out(per_scene)})
        for s, v in ((0, 0.2), (1, 0.4))
    ]
    table = embedding_tables.coherence_table(pd.DataFrame(trials))
    assert table["value"].tolist() == pytest.approx([0.3] * len(table))
    assert table["n_seeds"].unique().tolist() == [2]
    assert table["spread"].iloc[0] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    interval = stats.ttest_1samp(per_scene, 0).confidence_interval()
    jaccard = table.set_index("name").loc["knn_jaccard"]
    assert (jaccard["low"], jaccard["high"]) == pytest.approx((interval.low, interval.high))
    assert table["low"].notna().sum() == 1


def test_arrays_of_the_first_seed_are_found_by_method_and_name(tmp_path):
    rows = [
        trial_row(tmp_path, m, s, **{"map|0": s, "map|1": 7, "x": 0})
        for m in ("iai", "mosaic")
        for s in (0, 1)
    ]
    found = embedding_tables.of_first_seed(pd.DataFrame(rows), "map|")
    assert found == {("iai", "0"): 0, ("iai", "1"): 7, ("mosaic", "0"): 0, ("mosaic", "1"): 7}


def test_retrieval_table_counts_ranks_and_skips_single_sensor_methods(tmp_path):
    ranks = np.arange(1, N + 1)
    directions = ("s1_to_s2", "s2_to_s1")
    both = {f"rank|{d}": ranks for d in directions} | {f"map_at_k|{d}": np.full(N, 0.25) for d in directions}
    single = trial_row(tmp_path, "simclr_s2", 0, embeddings=np.zeros((N, 2)))
    embedded = pd.DataFrame([trial_row(tmp_path, "iai", 0, **both), single])
    table = embedding_tables.retrieval_table(embedded, np.arange(N).astype(str))
    assert set(table["method"]) == {"iai"}
    assert table["direction"].unique().tolist() == ["S1 → S2", "S2 → S1"]
    assert table.query("k == 10")["recall"].tolist() == [10 / N] * 2
    assert table["map_at_20"].unique().tolist() == [0.25]
    assert table["k"].max() < N
    assert embedding_tables.retrieval_table(embedded, np.array(["one"])).empty


def test_gallery_shows_the_nearest_of_other_places(tmp_path):
    space = RANDOM.normal(size=(N, 4)).astype(np.float32)
    space /= np.linalg.norm(space, axis=1, keepdims=True)
    store = SimpleNamespace(
        index=pd.DataFrame({"location": [f"p{i // 2}" for i in range(200)]}),
        layout=SimpleNamespace(sensors=[SimpleNamespace(unit="DN", bands=("B02", "B03", "B04"))]),
        read_bands=lambda rows, bands: {
            band: np.broadcast_to(rows[:, None, None], (len(rows), 2, 2)) for band in bands
        },
        labels=np.arange(200)[:, None],
        class_names=("a",),
    )
    rows = np.arange(100, 100 + N)
    trial = trial_row(tmp_path, "mosaic", 0, embeddings=space)
    shown = embedding_tables.neighbour_images(store, trial, rows, 5, k=3)
    assert shown["neighbours"].shape == (5, 3, 2, 2, 3)
    for query, found in zip(shown["queries"][:, 0, 0, 0], shown["neighbours"][:, :, 0, 0, 0], strict=True):
        others = [r for r in rows if r // 2 != query // 2]
        order = sorted(others, key=lambda r: -(space[r - 100] @ space[query - 100]))
        assert found.tolist() == order[:3]
    assert shown["neighbour_labels"][:, :, 0].tolist() == shown["neighbours"][:, :, 0, 0, 0].tolist()
    same_place = trial_row(tmp_path, "iai", 0, embeddings=space[:2])
    assert embedding_tables.neighbour_images(store, same_place, rows[:2], 5) == {}


def test_the_difference_of_neighbourhoods_is_paired_by_scene_and_by_common_seed(tmp_path):
    random, rows, values = np.random.default_rng(0), [], {}
    for method, seeds in (("mosaic", (0, 1)), ("iai", (1, 0, 2))):
        for seed in seeds:
            values[method, seed] = random.random(7)
            rows.append(
                trial_row(tmp_path, method, seed, **{"neighbours|test": left_out(values[method, seed])})
            )
    found = embedding_tables.difference_to(pd.DataFrame(rows), "iai")
    by_hand = [np.mean(values["mosaic", seed] - values["iai", seed]) for seed in (0, 1)]
    assert (found.n_seeds, found.n_scenes) == (2, 7)
    assert found.value == pytest.approx(np.mean(by_hand)) and found.low < found.value < found.high
