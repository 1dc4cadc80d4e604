import subprocess
import sys

import numpy as np
import pytest

from mosaic.store.reader import PackedStore, label_matrix
from mosaic.utils.errors import PackError


def test_any_order_and_repeats_come_back_as_asked(archive, store):
    rows = np.array([19, 0, 8, 7, 0, 15])
    groups = store.read(rows)
    assert {name: values.shape for name, values in groups.items()} == {
        "s2_120": (6, 1, 120, 120),
        "s2_60": (6, 1, 60, 60),
        "s2_20": (6, 1, 20, 20),
        "s1": (6, 2, 120, 120),
    }
    for place, row in enumerate(rows):
        sample = archive.sample(row)
        assert np.array_equal(groups["s2_120"][place, 0], sample["B02"])
        assert np.array_equal(groups["s2_60"][place, 0], sample["B05"])
        assert np.array_equal(groups["s2_20"][place, 0], sample["B01"])
        assert np.abs(groups["s1"][place, 1] / 100.0 - sample["VH"]).max() <= 0.005 + 1e-6


def test_given_arrays_are_filled(store):
    out = store.allocate(3)
    assert store.read([1, 2, 3], out) is out
    assert np.array_equal(out["s1"], store.read([1, 2, 3])["s1"])


def test_bands_in_physical_units(archive, store):
    bands = store.read_bands([5, 2], ["VH", "B05"])
    assert list(bands) == ["VH", "B05"]
    assert bands["B05"].dtype == np.float32
    assert np.array_equal(bands["B05"][0], archive.sample(5)["B05"])
    assert np.allclose(bands["VH"][1], archive.sample(2)["VH"], atol=0.00501)


@pytest.mark.parametrize("rows", [[20], [-1], [3, 99]])
def test_rows_that_do_not_exist(store, rows):
    with pytest.raises(PackError, match=r"asked for, .* has 0\.\.19"):
        store.read(rows)


def test_no_rows_give_empty_arrays(store):
    assert store.read([])["s1"].shape == (0, 2, 120, 120)


def test_labels_scenes_and_splits(archive, store):
    assert store.labels[:3].tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert store.scenes.tolist() == archive.index["scene"].tolist()
    assert store.split_rows("validation").tolist() == [3, 8, 13, 18]
    assert len(store) == 20
    with pytest.raises(PackError, match=r"split 'val' has no patches .*test 4, train 12, validation 4"):
        store.split_rows("val")


def test_absent_classes_are_reported_not_refused(archive, store):
    test = [
        names
        for names, split in zip(archive.index["labels"], archive.index["split"], strict=True)
        if split == "test"
    ]
    expected = {name: sum(name in names for names in test) for name in store.class_names}
    assert store.positives("test") == expected
    store.index["labels"] = [["water"]] * 20
    del store.labels
    assert store.positives("test") == {"water": 4, "forest": 0, "town": 0}


def test_label_matrix_names_what_it_does_not_know():
    assert label_matrix([["b"], [], ["b", "a"]], "ab").tolist() == [[0, 1], [0, 0], [1, 1]]
    with pytest.raises(PackError, match=r"\['z'\] are not among the classes"):
        label_matrix([["a", "z"]], "ab")


def test_flipped_byte_is_found(store, folder):
    store.verify()
    with open(folder / "shard-00001.bin", "r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(PackError, match=r"damaged since it was packed: shard-00001.bin. Delete these files"):
        PackedStore(folder).verify()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda path: path.unlink(), "shard-00002.bin is missing"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-2]),
            "shard-00002.bin has 377,598 bytes instead of 377,600",
        ),
    ],
)
def test_missing_and_short_shards_are_named(store, folder, cut, message):
    cut(folder / "shard-00002.bin")
    with pytest.raises(PackError, match=f"{message}: run `python -m mosaic pack` again"):
        PackedStore(folder)


def test_damaged_index_and_manifest_are_named(store, folder):
    index = (folder / "index.parquet").read_bytes()
    (folder / "index.parquet").write_bytes(index[:-100])
    with pytest.raises(PackError, match=r"index.parquet cannot be read"):
        PackedStore(folder)
    (folder / "index.parquet").write_bytes(index)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"version": 3', '"version": 99'))
    with pytest.raises(PackError, match="format version 99, this code reads 3"):
        PackedStore(folder)
    (folder / "manifest.json").write_text(text.replace('"shards"', '"shard"'))
    with pytest.raises(PackError, match="lacks shards"):
        PackedStore(folder)


def test_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(PackError, match=r"holds no packed data .* run `python -m mosaic pack` first"):
        PackedStore(tmp_path)


def test_fingerprint_follows_the_content(archive, store, folder, tmp_path):
    from mosaic.store.writer import pack

    assert PackedStore(folder).fingerprint == store.fingerprint
    archive.index.at[0, "split"] = "test"
    assert pack(archive, tmp_path / "other", shard_size=8, workers=1).fingerprint != store.fingerprint


def test_reading_needs_neither_torchgeo_nor_rasterio_nor_torch(store, folder):
    code = (
        "import sys\n"
        "for name in ('torchgeo', 'rasterio', 'pydantic', 'torch'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from mosaic.store.reader import PackedStore\n"
        f"print(PackedStore(Path({str(folder)!r})).read([3])['s1'].sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == store.read([3])["s1"].sum()
