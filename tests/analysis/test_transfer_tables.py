from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import transfer_tables
from mosaic.evaluation.uncertainty import estimate_ap

RANDOM = np.random.default_rng(0)


@pytest.fixture
def coarse(truth):
    """Test labels of water, which is wet, and of the other classes, which are dry."""
    return np.stack([truth[0][:, 0], truth[0][:, 1:].max(1)], axis=1)


def scores(folder, name, labels, noise, key="scores"):
    values = ((1 - noise) * labels + noise * RANDOM.random(labels.shape)).astype(np.float32)
    np.savez(folder / f"{name}.npz", **{key: values})
    return values, str(folder / f"{name}.npz")


def test_a_domain_has_both_trainings_and_their_paired_difference(store, tmp_path):
    finland = np.flatnonzero(store.index[["country", "split"]].eq(["Finland", "test"]).all(axis=1))
    trials, arrays = [], {}
    for seed in (0, 1):
        for training, noise in (("seen", 0.3), ("unseen", 0.8)):
            values, path = scores(tmp_path, f"{training}{seed}", store.labels[finland], noise)
            arrays.setdefault(training, []).append(values)
            row = {"domain": "Finland", "method": "mosaic", "training": training}
            trials.append({**row, "seed": seed, "path": path})
    trials.append({**trials[0], "seed": 2})  # whose training without the domain failed
    table = transfer_tables.domain_shift_table(pd.DataFrame(trials), store)
    found = table.set_index("training")
    labels, scenes = store.labels[finland], store.scenes[finland]
    ap = {k: estimate_ap(labels, each, scenes) for k, each in arrays.items()}
    expected = (ap["unseen"] - ap["seen"]).interval()
    numbers = [expected.value, expected.low, expected.high]
    assert found.loc["change", ["value", "low", "high"]].tolist() == pytest.approx(numbers)
    assert found[["n_seeds", "n", "n_scenes"]].values.tolist() == [[2, 60, 30]] * 3
    (change,) = transfer_tables.changes_table(pd.DataFrame(), table, "country").to_dict("records")
    assert change["where"] == "in a country never seen (Finland)"
    assert (change["value"], change["n"]) == (pytest.approx(expected.value), 60)


def test_without_a_domain_there_is_an_empty_table_with_its_columns(store):
    sides = [SimpleNamespace(title="A", store=store)]
    assert transfer_tables.transfer_table(pd.DataFrame(), sides).empty  # none of the methods asked for ran
    table = transfer_tables.domain_shift_table(pd.DataFrame(), SimpleNamespace())
    assert table.empty and "change" not in table and "value" in table
    assert transfer_tables.changes_table(table, table, "country").empty


def test_transfers_are_scored_over_coarse_classes_and_seeds(store, truth, coarse, tmp_path):
    seeds = [scores(tmp_path, f"{seed}", coarse, 0.5, "target|50") for seed in (0, 1)]
    row = {"source": "A", "target": "B", "method": "iai"}
    trials = pd.DataFrame([{**row, "seed": seed, "path": path} for seed, (_, path) in enumerate(seeds)])
    sides = [SimpleNamespace(title="B", store=store)]
    (found,) = transfer_tables.transfer_table(trials, sides).to_dict("records")
    span = estimate_ap(coarse, [values for values, _ in seeds], truth[1]).interval()
    assert found == pytest.approx({**row, "probe": "target", "fraction": 50.0, "n": 120, **vars(span)})


def test_the_change_away_from_home_is_paired_with_the_targets_own_encoder(store, truth, coarse, tmp_path):
    values, trials = {}, []
    for source, noise, seeds in (("A", 0.8, (0, 1)), ("B", 0.4, (1, 2))):
        for seed in seeds:
            scored, path = scores(tmp_path, f"{source}{seed}", coarse, noise, "target|100")
            values[source, seed] = scored
            trials.append({"source": source, "target": "B", "method": "iai", "seed": seed, "path": path})
    sides = [SimpleNamespace(title="B", store=store)]
    table = transfer_tables.transfer_table(pd.DataFrame(trials), sides)
    (change,) = table.query("probe == 'change'").to_dict("records")
    away, home = (estimate_ap(coarse, [values[side, 1]], truth[1]) for side in "AB")
    expected = (away - home).interval()
    assert (change["source"], change["n_seeds"]) == ("A", 1)  # the seed that both have
    assert (change["value"], change["low"]) == pytest.approx((expected.value, expected.low))
    none = transfer_tables.domain_shift_table(pd.DataFrame(), SimpleNamespace())
    (row,) = transfer_tables.changes_table(table, none, "country").to_dict("records")
    assert row["where"] == "from A to B"
    assert row["n"] == 120
