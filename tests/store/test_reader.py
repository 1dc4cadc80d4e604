import os
import pickle
import re

import numpy as np
import pytest

from mosaic.store import reader
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.utils.errors import PackError
from mosaic.utils.files import sha256_file


def test_any_order_and_repeats_come_back_as_asked(archive, store):
    rows = np.array([19, 0, 8, 7, 0, 15])
    groups = store.read(rows)
    assert {name: values.shape for name, values in groups.items()} == {
        "s2_24": (6, 3, 24, 24),
        "s2_12": (6, 2, 12, 12),
        "s1": (6, 2, 24, 24),
    }
    for place, row in enumerate(rows):
        sample = archive.sample(row)
        for group, channel, band in (("s2_24", 0, "B02"), ("s2_24", 2, "B08"), ("s2_12", 1, "B11")):
            assert np.array_equal(groups[group][place, channel], sample[band])
        assert np.abs(groups["s1"][place, 1] / 100.0 - sample["VH"]).max() <= 0.005 + 1e-6
    out = {name: np.empty_like(values) for name, values in groups.items()}
    assert store.read(rows, out) is out and np.array_equal(out["s1"], groups["s1"])
    assert store.read([])["s1"].shape == (0, 2, 24, 24)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda store: store.read([20]), r"rows 20\.\.20 asked for, .* has 0\.\.19"),
        (lambda store: store.read([3, -1]), r"rows -1\.\.3 asked for"),
        (lambda store: store.split_rows("val"), r"'val' has no patches .*test 4, train 12, validation 4"),
        (lambda store: PackedStore(store.folder, ["B01"]), "'B01' is not packed"),
        (lambda store: PackedStore(store.folder, None, ("country", "x")), "no column 'country'"),
        (
            lambda store: PackedStore(store.folder, None, ("scene", "T3")),
            "no patch .* has scene 'T3', only T33",
        ),
        (lambda store: PackedStore(store.folder.parent), "no packed data .*mosaic pack` first"),
    ],
)
def test_what_is_not_there_is_refused(store, ask, message):
    with pytest.raises(PackError, match=message):
        ask(store)


def test_labels_scenes_and_splits(archive, store):
    named = [[name for name, on in zip(store.class_names, row, strict=True) if on] for row in store.labels]
    assert named == archive.index["labels"].tolist()
    assert store.scenes.tolist() == archive.index["scene"].tolist()
    assert store.split_rows("validation").tolist() == [6, 7, 16, 17]
    assert len(store) == 20


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("shard-00002.bin", None, "shard-00002.bin damaged or missing since it was packed: run `py"),
        ("shard-00001.bin", lambda b: b[:5000] + b[5001:5002] + b[5000:5001] + b[5002:], "1.bin damaged"),
        ("manifest.json", lambda b: b.replace(b'"version": 6', b'"version": 99'), "99, this code reads 6"),
        ("manifest.json", lambda b: b.replace(b'"std": ', b'"std": 1'), "changed since it was written"),
    ],
)
def test_damage_is_named_and_packing_again_mends_it(archive, store, folder, file, change, message):
    path = folder / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(PackError, match=file) as caught:
        PackedStore(folder)
    assert re.search(message, str(caught.value))
    archive.reads.clear()
    assert pack(archive, folder, shard_size=8, workers=1).fingerprint == store.fingerprint
    assert len(archive.reads) == {"shard-00002.bin": 4, "shard-00001.bin": 8}.get(file, 0)


def test_shards_are_compared_once_a_machine_and_always_by_verify(store, folder, monkeypatch):
    compared = []

    def digest(path):
        compared.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(reader, "sha256_file", digest)
    PackedStore(folder)
    assert compared == ["index.parquet"]
    os.utime(folder / "shard-00001.bin")
    PackedStore(folder)
    assert sorted(compared) == ["index.parquet", "index.parquet", "shard-00001.bin"]
    monkeypatch.setattr(reader.platform, "node", lambda: "another")
    assert len(PackedStore(folder)) and len(compared) == 3 + 4
    path, state = folder / "shard-00001.bin", (folder / "shard-00001.bin").stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(PackError, match=r"shard-00001\.bin damaged"):
        PackedStore(folder).verify()


def test_fingerprint_follows_the_content(archive, store, folder, tmp_path):
    assert PackedStore(str(folder)).fingerprint == store.fingerprint
    archive.index.at[0, "split"] = "test"
    assert pack(archive, tmp_path / "other", shard_size=8, workers=1).fingerprint != store.fingerprint


def test_chosen_bands_are_those_of_the_whole(store):
    subset = PackedStore(store.folder, ["VH", "B05", "B02"])
    assert subset.layout.sensor("s1").bands == ("VH",)
    assert subset.layout.sensor("s2").bands == ("B02", "B05")
    assert set(subset.layout.statistics) == {"VH", "B02", "B05"}
    assert PackedStore(store.folder, ["B02"]).layout.sensor_names == ("s2",)
    rows = [3, 17, 3, 9]
    read = subset.read(rows)
    assert {name: values.shape for name, values in read.items()} == {
        group.name: (4, *group.shape) for group in subset.layout.groups
    }
    np.testing.assert_array_equal(read["s1"], store.read(rows)["s1"][:, 1:])
    np.testing.assert_equal(*(s.read_bands(rows, ["VH", "B05"]) for s in (subset, store)))
    again = pickle.loads(pickle.dumps(subset))  # as it travels to another process
    assert again.fingerprint == subset.fingerprint
    np.testing.assert_equal(again.read(rows), read)


def test_what_is_left_out_is_in_neither_training_nor_validation_and_the_test_split_is_whole(store):
    subset = PackedStore(store.folder, leave_out=("scene", "T33UUP_1"))
    for split in ("train", "validation"):
        rows = subset.split_rows(split)
        assert set(rows) < set(store.split_rows(split))
        assert "T33UUP_1" not in set(subset.scenes[rows])
        left = np.setdiff1d(store.split_rows(split), rows)
        assert set(store.scenes[left]) == {"T33UUP_1"}
    np.testing.assert_array_equal(subset.split_rows("test"), store.split_rows("test"))
    assert ", 12 pairs (" in repr(subset)  # of 20; of ten in the scene two are test patches
    with pytest.raises(PackError, match="without split 'train' the split 'train'"):
        PackedStore(store.folder, leave_out=("split", "train")).split_rows("train")


def test_the_other_date_of_a_place_is_no_temporal_positive_if_it_is_left_out(store):
    train = store.split_rows("train")
    assert (store.temporal_positives.counts[train] == 1).all()  # patches 2k and 2k + 1, on two dates
    subset = PackedStore(store.folder, leave_out=("date", "2017-06-02"))
    train, generator = subset.split_rows("train"), np.random.default_rng(0)
    assert subset.temporal_positives.draw(train, generator).tolist() == train.tolist()


def test_a_subset_that_is_the_whole_has_its_fingerprint_and_any_other_its_own(store):
    everything = store.layout.bands
    assert PackedStore(store.folder, everything).fingerprint == store.fingerprint
    choices = ((["VV", "B02"], None), (["VH", "B02"], None))
    choices += tuple((None, ("scene", scene)) for scene in ("T33UUP_0", "T33UUP_1"))
    subsets = {PackedStore(store.folder, *choice).fingerprint for choice in choices}
    assert len({store.fingerprint, *subsets}) == 5
