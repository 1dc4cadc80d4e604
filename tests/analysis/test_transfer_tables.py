from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import transfer_tables
from mosaic.evaluation.bootstrap import resampled_ap

RANDOM = np.random.default_rng(0)


def packed(rows, labels):
    """A store of (split, country, scene) rows."""
    index = pd.DataFrame(rows, columns=["split", "country", "scene"])
    return SimpleNamespace(
        index=index,
        labels=labels,
        scenes=index["scene"].to_numpy(str),
        split_rows=lambda split: np.flatnonzero(index["split"] == split),
        class_names=("wood", "sea", "lake"),
        manifest=SimpleNamespace(coarse={"Forest": ("wood",), "Water": ("sea", "lake")}),
    )


@pytest.fixture
def store():
    """Two domains with 60 test patches of six scenes each."""
    rows = [("test", country, f"{country}{i % 6}") for i in range(60) for country in ("Finland", "Austria")]
    return packed(rows, (RANDOM.random((120, 3)) < 0.4).astype(np.uint8))


def scores(folder, name, labels, noise, key="scores"):
    values = ((1 - noise) * labels + noise * RANDOM.random(labels.shape)).astype(np.float32)
    np.savez(folder / f"{name}.npz", **{key: values})
    return values, str(folder / f"{name}.npz")


def test_a_domain_has_both_trainings_and_their_paired_difference(store, tmp_path):
    finland = np.flatnonzero(store.index["country"] == "Finland")
    trials, arrays = [], {}
    for seed in (0, 1):
        for training, noise in (("seen", 0.3), ("unseen", 0.8)):
            values, path = scores(tmp_path, f"{training}{seed}", store.labels[finland], noise)
            arrays.setdefault(training, []).append(values)
            row = {"domain": "Finland", "method": "mosaic", "training": training}
            trials.append({**row, "seed": seed, "path": path})
    trials.append({**trials[0], "seed": 2})  # whose training without the domain failed
    table = transfer_tables.domain_shift_table(pd.DataFrame(trials), store, 100)
    found = table.set_index("training")
    labels, scenes = store.labels[finland], store.scenes[finland]
    ap = {k: resampled_ap(labels, each, scenes, resamples=100) for k, each in arrays.items()}
    expected = (ap["unseen"] - ap["seen"]).interval()
    assert found.at["change", "value"] == pytest.approx(
        found.at["unseen", "value"] - found.at["seen", "value"]
    )
    assert found.loc["change", ["value", "low", "high"]].tolist() == pytest.approx(
        [expected.value, expected.low, expected.high]
    )
    assert found[["n_seeds", "n", "n_scenes"]].values.tolist() == [[2, 60, 6]] * 3
    assert transfer_tables.mean_change(table).to_dict() == {"mosaic": pytest.approx(expected.value)}
    assert transfer_tables.readable_domain_shift(table)["change"][0][0] == pytest.approx(expected.value)


def test_without_a_domain_there_is_an_empty_table_with_its_columns():
    table = transfer_tables.domain_shift_table(pd.DataFrame(), SimpleNamespace(), 10)
    assert table.empty and "change" not in table and "value" in table
    assert transfer_tables.readable_domain_shift(table).empty
    assert transfer_tables.mean_change(table).empty


def test_transfers_are_scored_over_coarse_classes_and_seeds(store, tmp_path):
    coarse = np.stack([store.labels[:, 0], store.labels[:, 1:].max(1)], axis=1)
    seeds = [scores(tmp_path, f"{seed}", coarse, 0.5, "target|50") for seed in (0, 1)]
    row = {"source": "A", "target": "B", "method": "iai"}
    trials = pd.DataFrame([{**row, "seed": seed, "path": path} for seed, (_, path) in enumerate(seeds)])
    sides = [SimpleNamespace(title="B", store=store)]
    (found,) = transfer_tables.transfer_table(trials, sides, 50).to_dict("records")
    span = resampled_ap(coarse, [values for values, _ in seeds], store.scenes, resamples=50).interval()
    assert found == pytest.approx({**row, "probe": "target", "fraction": 50.0, **vars(span)})
    table = transfer_tables.coarse_table(sides)
    assert table["B"].tolist() == ["wood", "sea; lake"]
    assert table["test patches, B"].tolist() == coarse.sum(0).tolist()


def test_the_loss_away_from_home_is_that_on_all_labels_of_the_target():
    def row(source, target, value, fraction=100.0, probe="target"):
        shared = {"method": "mosaic", "probe": probe, "fraction": fraction, "value": value}
        return {"source": source, "target": target, **shared}

    table = pd.DataFrame(
        [
            row("A", "A", 0.8),
            row("B", "A", 0.7),
            row("B", "B", 0.6),
            row("A", "B", 0.3),
            row("B", "A", 0.0, fraction=5.0),
            row("B", "A", 0.0, fraction=0.0, probe="source"),
            {**row("B", "A", 0.4), "method": "iai"},  # of which A's own run has no encoder
        ]
    )
    assert transfer_tables.transfer_loss(table).to_dict() == {"mosaic": pytest.approx(-0.2)}
    assert transfer_tables.transfer_loss(pd.DataFrame()).empty


def test_readable_transfer_has_a_row_a_method_and_source_and_a_column_a_probe():
    base = {"method": "iai", "value": 0.5, "low": 0.4, "high": 0.6}
    table = pd.DataFrame(
        [
            {**base, "source": s, "target": "B", "probe": p, "fraction": f}
            for s in ("A", "B")
            for p, f in (("target", 5.0), ("target", 100.0), ("source", 0.0))
        ]
    )
    readable = transfer_tables.readable_transfer(table)
    assert readable["pretrained on"].tolist() == ["A", "B"]
    assert readable.columns[2:].tolist() == [
        "B: 5 % of its labels",
        "B: 100 % of its labels",
        "B: no label of it",
    ]
    assert readable.iloc[0, 2] == (0.5, 0.4, 0.6)
