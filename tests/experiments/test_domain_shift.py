from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.evaluation.bootstrap import resampled_ap
from mosaic.experiments import domain_shift as unseen

RANDOM = np.random.default_rng(0)


def index(rows):
    """Rows of (split, country, scene)."""
    return pd.DataFrame(rows, columns=["split", "country", "scene"])


def store(table):
    return SimpleNamespace(
        index=table,
        scenes=table["scene"].to_numpy(str),
        split_rows=lambda split: np.flatnonzero(table["split"] == split),
    )


def everywhere(country, test, scenes):
    rows = [("train", country, "a"), ("validation", country, "b")]
    return rows + [("test", country, f"{country}{i % scenes}") for i in range(test)]


def test_the_largest_places_of_two_scenes_or_more_are_held_out():
    table = index([*everywhere("Austria", 4, 2), *everywhere("Finland", 9, 3), *everywhere("Serbia", 20, 1)])
    assert unseen.domains(store(table), 5) == ("country", ["Finland", "Austria"])
    assert unseen.domains(store(table), 1) == ("country", ["Finland"])
    assert unseen.domains(store(table), 0) == ("country", [])


def test_a_place_that_is_all_of_training_cannot_be_held_out():
    table = index([*everywhere("Finland", 9, 3), ("test", "Austria", "x"), ("test", "Austria", "y")])
    assert unseen.domains(store(table), 5) == ("country", ["Austria"])


def test_seasons_stand_in_where_no_country_is_known_and_nothing_where_neither_is():
    table = index([*everywhere("spring", 4, 2), *everywhere("fall", 6, 2)])
    assert unseen.domains(store(table.rename(columns={"country": "season"})), 1) == ("season", ["fall"])
    assert unseen.domains(store(table.drop(columns="country")), 1) == ("", [])


def test_the_table_holds_both_trainings_and_their_paired_difference(tmp_path):
    table = index([*everywhere("Finland", 60, 6), *everywhere("Austria", 60, 6)])
    labels = (RANDOM.random((len(table), 4)) < 0.4).astype(np.uint8)
    packed = store(table)
    packed.labels = labels
    test = packed.split_rows("test")
    rows = test[table["country"].to_numpy()[test] == "Finland"]
    kept, arrays = [], {}
    for seed in (0, 1):
        for kind, noise in (("seen", 0.3), ("unseen", 0.8)):
            scores = ((1 - noise) * labels[rows] + noise * RANDOM.random((60, 4))).astype(np.float32)
            path = tmp_path / f"{kind}{seed}.npz"
            np.savez(path, scores=scores)
            arrays.setdefault(kind, []).append(scores)
            about = {"domain": "Finland", "method": "mosaic", "training": kind}
            kept.append({**about, "seed": seed, "path": path})
    found = unseen._unseen_table(pd.DataFrame(kept), packed, "country", 100).set_index("training")
    unseen_ap, seen_ap = (
        resampled_ap(labels[rows], arrays[kind], packed.scenes[rows], resamples=100)
        for kind in ("unseen", "seen")
    )
    expected = (unseen_ap - seen_ap).interval()
    assert found.at["change", "value"] == pytest.approx(expected.value)
    assert found.at["change", "value"] == pytest.approx(
        found.at["unseen", "value"] - found.at["seen", "value"]
    )
    assert (found.at["change", "low"], found.at["change", "high"]) == (expected.low, expected.high)
    assert found["n_seeds"].tolist() == [2] * 3 and found["n"].tolist() == [60] * 3
    assert found["n_scenes"].tolist() == [6] * 3
    assert unseen.mean_change(found.reset_index()).to_dict() == {"mosaic": pytest.approx(expected.value)}
    shown = unseen.shown_unseen(found.reset_index())
    assert shown["change"][0][0] == pytest.approx(expected.value)


def test_without_a_place_there_is_an_empty_table_with_its_columns():
    table = unseen._unseen_table(pd.DataFrame(), SimpleNamespace(), "country", 10)
    assert table.empty and "change" not in table and "value" in table
    assert unseen.shown_unseen(table).empty
    assert unseen.mean_change(table).empty
