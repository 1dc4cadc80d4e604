import numpy as np
import pytest

from mosaic.evaluation.features import encode_splits
from mosaic.experiments import probe


@pytest.fixture
def encoded(untrained, tmp_path, monkeypatch):
    """An encoder, and the number of rows that were encoded so far, call by call."""
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    counts = []

    def extract(store, checkpoint, rows, *settings):
        counts.append(len(rows))
        return extract_features(store, checkpoint, rows, *settings)

    extract_features = probe.extract_features
    monkeypatch.setattr(probe, "extract_features", extract)
    return untrained, counts


def test_features_are_computed_once_for_an_encoder_and_split(store, encoded):
    folder, counts = encoded
    rows, some = probe.split_rows(store), {split: own[::7] for split, own in probe.split_rows(store).items()}
    expected = encode_splits(store, folder, some)
    for chosen in (rows, some, rows):
        found = probe.encode(store, folder, chosen)
    assert sorted(counts) == [30, 30, 90]
    found = probe.encode(store, folder, some, store_statistics=True)  # the store's are the encoder's
    assert len(counts) == 3
    for split, inputs in expected.items():
        for name, values in inputs.items():
            np.testing.assert_allclose(found[split][name], values, atol=1e-5)


def test_features_of_other_data_and_of_damaged_files_are_computed_anew(
    store, encoded, tmp_path, monkeypatch, capsys
):
    folder, counts = encoded
    rows = {"train": store.split_rows("train")[:5]}
    probe.encode(store, folder, rows)
    (kept,) = (tmp_path / "data" / "cache" / "features").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40])
    probe.encode(store, folder, rows)
    assert f"{kept} is damaged" in capsys.readouterr().err
    monkeypatch.setattr(probe, "read_json", lambda path: {"data": "elsewhere"})
    for _ in range(2):
        probe.encode(store, folder, rows, store_statistics=True)
    assert counts == [5, 5, 5]


def test_features_that_would_fill_the_disk_are_not_kept(store, encoded, tmp_path, monkeypatch):
    folder, counts = encoded
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    for _ in range(2):
        probe.encode(store, folder, {"train": store.split_rows("train")})
    assert counts == [90, 90] and not list((tmp_path / "data" / "cache" / "features").iterdir())
