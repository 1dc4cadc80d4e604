from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.experiments import transfer
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import RunError

RANDOM = np.random.default_rng(0)


def layout(s1, s2):
    return BandLayout((sentinel1(s1), sentinel2(s2)), dict.fromkeys((*s1, *s2), 8))


def store(classes, coarse, labels, bands=(("VV", "VH"), ("B02", "B03"))):
    rows = np.array_split(np.arange(len(labels)), 3)
    return SimpleNamespace(
        class_names=classes,
        labels=np.asarray(labels, np.uint8),
        manifest=SimpleNamespace(coarse=coarse),
        layout=layout(*bands),
        split_rows=lambda split: rows[("train", "validation", "test").index(split)],
    )


def test_shared_bands_keep_the_order_of_the_first_and_an_empty_share_is_refused():
    ours = store((), {}, np.zeros((3, 0)), (("VV", "VH"), ("B02", "B03", "B08", "B11")))
    theirs = store((), {}, np.zeros((3, 0)), (("VV", "VH"), ("B11", "B10", "B03")))
    assert transfer.shared_bands([ours, theirs]) == ["VV", "VH", "B03", "B11"]
    other = store((), {}, np.zeros((3, 0)), (("VV", "VH"), ("B10",)))
    with pytest.raises(RunError, match="share no band"):
        transfer.shared_bands([ours, other])


def test_a_coarse_label_is_there_where_any_of_its_classes_is():
    fine = store(
        ("oak", "pine", "lake", "snow"),
        {"Water": ("lake",), "Forest": ("oak", "pine"), "Ice": ("snow",)},
        [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]],
    )
    other = store(("wood", "sea"), {"Forest": ("wood",), "Water": ("sea",)}, [[1, 0], [0, 1], [1, 1]])
    names = transfer.coarse_classes([fine, other])
    assert names == ["Water", "Forest"]
    assert transfer.coarse_labels(fine, names).tolist() == [[0, 1], [0, 1], [1, 0], [0, 0]]
    assert transfer.coarse_labels(other, names).tolist() == [[0, 1], [1, 0], [1, 1]]


def test_probes_learn_from_the_rows_they_may_and_score_the_targets_test_split(tmp_path, monkeypatch):
    """Features are the labels at home and their negation abroad: only a probe of the target can know."""
    coarse = {"Forest": ("wood",), "Water": ("sea",)}
    labels = (RANDOM.random((90, 2)) < 0.5).astype(np.uint8)
    home, abroad = (store(("wood", "sea"), coarse, part) for part in (labels, labels[::-1]))

    def encoded(where, checkpoint, method, rows):
        sign = 1.0 if where is home else -1.0
        return {s: sign * where.labels[own].astype(np.float32) for s, own in rows.items()}

    monkeypatch.setattr(transfer, "encoded", encoded)
    budgets = {50.0: np.arange(0, 30, 2), 100.0: np.arange(30)}
    path = transfer.carry_over(
        tmp_path, "mosaic", home, abroad, ["Forest", "Water"], budgets, tmp_path / "x.npz"
    )
    with np.load(path) as found:
        assert set(found.files) == {"target|50", "target|100", "source|0"}
        for place, truth in enumerate(abroad.labels[60:].astype(bool).T):
            for key in ("target|50", "target|100"):
                scores = found[key][:, place]
                assert scores[truth].min() > scores[~truth].max()
            scores = found["source|0"][:, place]
            assert scores[truth].max() < scores[~truth].min()


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
    assert transfer.away_from_home(table).to_dict() == {"mosaic": pytest.approx(-0.2)}
    assert transfer.away_from_home(pd.DataFrame()).empty


def test_shown_transfer_has_a_row_a_method_and_source_and_a_column_a_probe():
    base = {"method": "iai", "value": 0.5, "low": 0.4, "high": 0.6}
    table = pd.DataFrame(
        [
            {**base, "source": s, "target": "B", "probe": p, "fraction": f}
            for s in ("A", "B")
            for p, f in (("target", 5.0), ("target", 100.0), ("source", 0.0))
        ]
    )
    shown = transfer.shown_transfer(table)
    assert shown["pretrained on"].tolist() == ["A", "B"]
    assert shown.columns[2:].tolist() == [
        "B: 5 % of its labels",
        "B: 100 % of its labels",
        "B: no label of it",
    ]
    assert shown.iloc[0, 2] == (0.5, 0.4, 0.6)
