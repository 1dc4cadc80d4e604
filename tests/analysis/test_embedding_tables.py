from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import embedding_tables
from mosaic.evaluation import coherence

RANDOM = np.random.default_rng(0)
N = 40


def trial_row(folder, method, seed, **arrays):
    path = folder / f"{method}-{seed}.npz"
    np.savez(path, **arrays)
    return {"method": method, "seed": seed, "path": str(path)}


def test_coherence_table_averages_seeds(tmp_path):
    names = [f"measure|{name}" for name in coherence.MEASURES]
    trials = [trial_row(tmp_path, "iai", s, **dict.fromkeys(names, v)) for s, v in ((0, 0.2), (1, 0.4))]
    embedded = pd.DataFrame(trials)
    table = embedding_tables.coherence_table(embedded)
    assert table["value"].tolist() == pytest.approx([0.3] * len(table))
    assert table["n_seeds"].unique().tolist() == [2]
    assert table["spread"].iloc[0] == pytest.approx(np.std([0.2, 0.4], ddof=1))


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


def test_level1_names_a_patch_only_when_all_its_labels_agree():
    store = SimpleNamespace(
        manifest=SimpleNamespace(level1={"Water bodies": ("sea", "lake"), "Wetlands": ("bog",)}),
        class_names=["bog", "lake", "sea"],
        labels=np.array([[0, 1, 1], [1, 1, 0], [1, 0, 0]], np.uint8),
    )
    assert embedding_tables.coarse_groups(store, np.arange(3)) == ["Water bodies", "several", "Wetlands"]


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


def test_kernels_weigh_the_batch_with_zero_diagonals_and_msc_has_prototypes():
    labels = (RANDOM.random((12, 5)) < 0.5).astype(np.uint8)
    weights = embedding_tables.kernel_weights(labels)
    assert weights["jaccard"].shape == (12, 12)
    assert weights["msc"].shape == (12, 17)
    assert not np.diag(weights["any"]).any()


def test_cosines_of_one_place_are_left_out(tmp_path):
    one_place = {"cosine|same": np.ones(3), "cosine|different": np.empty(0)}
    assert embedding_tables.sensor_cosines(pd.DataFrame([trial_row(tmp_path, "iai", 0, **one_place)])) == {}


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"iai": np.nan}, "Coherence is unknown: no test patch has a neighbour from another place."),
        ({"iai": 0.2}, "The neighbourhoods of IaI-SimCLR, the only method, have a label Jaccard index of "
         "0.200."),
        ({"iai": 0.2291, "mosaic": 0.2292}, "Neighbourhoods of all 2 methods are alike (label Jaccard index "
         "0.229)."),
        ({"iai": 0.3, "mosaic": 0.2}, "The most coherent neighbourhoods are those of IaI-SimCLR (label "
         "Jaccard index 0.300), the least those of MoSAiC (0.200)."),
    ],
)  # fmt: skip
def test_the_answer_on_coherence_at_its_edges(values, answer):
    measures = pd.DataFrame({"method": list(values), "name": "knn_jaccard", "value": list(values.values())})
    assert embedding_tables.coherence_answer(measures) == answer
