from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.experiments import transfer
from mosaic.experiments.probe import Probe, coarse_labels, probe_trial
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import RunError

RANDOM = np.random.default_rng(0)


def store(classes, coarse, labels, bands=(("VV", "VH"), ("B02", "B03")), name="f"):
    rows = np.array_split(np.arange(len(labels)), 3)
    return SimpleNamespace(
        class_names=classes,
        labels=np.asarray(labels, np.uint8),
        manifest=SimpleNamespace(coarse=coarse),
        layout=BandLayout((sentinel1(bands[0]), sentinel2(bands[1])), dict.fromkeys(sum(bands, ()), 8)),
        fingerprint=name,
        split_rows=lambda split: rows[("train", "validation", "test").index(split)],
    )


def test_shared_bands_keep_the_order_of_the_first_and_an_empty_share_is_refused():
    first = store((), {}, np.zeros((3, 0)), (("VV", "VH"), ("B02", "B03", "B08", "B11")))
    second = store((), {}, np.zeros((3, 0)), (("VV", "VH"), ("B11", "B10", "B03")))
    assert transfer.shared_bands([first, second]) == ["VV", "VH", "B03", "B11"]
    other = store((), {}, np.zeros((3, 0)), (("VV", "VH"), ("B10",)))
    with pytest.raises(RunError, match="share no band"):
        transfer.shared_bands([first, other])


def test_a_coarse_label_is_carried_where_any_of_its_classes_is():
    fine = store(
        ("oak", "pine", "lake", "snow"),
        {"Water": ("lake",), "Forest": ("oak", "pine"), "Ice": ("snow",)},
        [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]],
    )
    other = store(("wood", "sea"), {"Forest": ("wood",), "Water": ("sea",)}, [[1, 0], [0, 1], [1, 1]])
    names = transfer.coarse_classes([fine, other])
    assert names == ["Water", "Forest"]
    assert coarse_labels(fine, names).tolist() == [[0, 1], [0, 1], [1, 0], [0, 0]]
    assert coarse_labels(other, names).tolist() == [[0, 1], [1, 0], [1, 1]]


def test_probes_learn_from_the_rows_they_may_and_score_the_rows_of_a_store(tmp_path, monkeypatch):
    """Features are the labels at home and their negation abroad: only a probe of the target can know."""
    coarse = {"Forest": ("wood",), "Water": ("sea",)}
    labels = (RANDOM.random((90, 2)) < 0.5).astype(np.uint8)
    home = store(("wood", "sea"), coarse, labels, name="home")
    abroad = store(("wood", "sea"), coarse, labels[::-1], name="abroad")

    def encoded(where, checkpoint, rows, store_statistics):
        assert store_statistics
        sign = 1.0 if where is home else -1.0
        return {s: {"fused": sign * where.labels[own].astype(np.float32)} for s, own in rows.items()}

    monkeypatch.setattr("mosaic.experiments.probe.encode", encoded)
    classes = ["Forest", "Water"]
    probes = {
        "half": Probe(abroad, np.arange(0, 30, 2), classes),
        "all": Probe(abroad, np.arange(30)),
        "home": Probe(home, np.arange(30), classes),
    }
    path = tmp_path / "x.npz"
    probe_trial({"method": "mosaic", "folder": ""}, probes, abroad, abroad.split_rows("test"), path)
    with np.load(path) as scores:
        assert set(scores.files) == set(probes)
        for column, truth in enumerate(abroad.labels[60:].astype(bool).T):
            for key in ("half", "all"):
                assert scores[key][truth, column].min() > scores[key][~truth, column].max()
            assert scores["home"][truth, column].max() < scores["home"][~truth, column].min()


def everywhere(domain, test, scenes):
    rows = [("train", domain, "a"), ("validation", domain, "b")]
    return rows + [("test", domain, f"{domain}{i % scenes}") for i in range(test)]


MANY = [*everywhere("Austria", 4, 2), *everywhere("Finland", 9, 3), *everywhere("Serbia", 20, 1)]
NO_TRAINING = [*everywhere("Finland", 9, 3), ("test", "Austria", "x"), ("test", "Austria", "y")]


@pytest.mark.parametrize(
    ("rows", "column", "most", "held_out"),
    [
        (MANY, "country", 5, ["Finland", "Austria"]),  # Serbia is one scene
        (MANY, "country", 1, ["Finland"]),
        (MANY, "country", 0, []),
        (MANY, "season", 1, ["Finland"]),  # stands in where no country is known
        (MANY, "place", 1, []),
        (NO_TRAINING, "country", 5, []),  # one is all of training, the other none of it
        ([*NO_TRAINING, ("train", "Austria", "z")], "country", 5, ["Austria"]),
    ],
)
def test_the_largest_domains_that_change_training_are_held_out(rows, column, most, held_out):
    table = pd.DataFrame(rows, columns=["split", column, "scene"])
    divided = SimpleNamespace(index=table, split_rows=lambda split: np.flatnonzero(table["split"] == split))
    assert transfer.largest_domains(divided, most) == held_out
    for name in held_out:
        expected = (table["split"] == "test") & (table[column] == name)
        assert transfer.domain_rows(divided, name).tolist() == np.flatnonzero(expected).tolist()
