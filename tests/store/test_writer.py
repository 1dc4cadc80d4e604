import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mosaic.datasets.archive import PatchError
from mosaic.store import writer
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.utils import files
from mosaic.utils.errors import PackError, RunError


def broken(_sample):
    raise PatchError("patch_x", "B02.tif", "truncated")


def not_a_number(sample):
    sample["VV"][0, 0] = np.nan


def killed(_sample):
    raise KeyboardInterrupt


def test_statistics_are_those_of_numpy_over_the_training_split(archive, store):
    rows = np.flatnonzero(archive.index["split"] == "train")
    samples = [archive.sample(i) for i in rows]
    for band in archive.band_sizes:
        values = np.stack([sample[band] for sample in samples]).astype(np.float64)
        if band in archive.s1_bands:
            values = np.rint(values * 100) / 100
        found = store.layout.statistics[band]
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert found["std"] == pytest.approx(values.std(), rel=1e-12)


def test_manifest_and_index_say_what_was_packed(archive, store):
    manifest = store.manifest
    assert manifest.counts == {"patches": 20, "train": 12, "validation": 4, "test": 4, "skipped": 0}
    assert [shard.records for shard in manifest.shards] == [8, 8, 4]
    assert (manifest.dataset, manifest.fingerprint) == ("fake", "v1")
    for name in ("class_names", "class_colors", "level1", "confusable", "coarse"):
        assert getattr(manifest, name) == getattr(archive, name)
    for column in archive.index:  # what the archive knows is kept
        assert store.index[column].tolist() == archive.index[column].tolist()


def test_second_pack_reads_nothing_but_the_groups_of_classes(archive, store, folder, monkeypatch):
    archive.reads.clear()
    assert pack(archive, str(folder), shard_size=5).fingerprint == store.fingerprint
    monkeypatch.setattr(archive, "confusable", {"wet": archive.class_names[:2]})  # as another version groups
    assert pack(archive, folder).manifest.confusable == PackedStore(folder).manifest.confusable
    assert PackedStore(folder).manifest.confusable == {"wet": archive.class_names[:2]}
    monkeypatch.undo()
    pack(archive, folder)
    assert archive.reads == [] and PackedStore(folder).manifest == store.manifest


@pytest.fixture
def interrupted(archive, tmp_path):
    """A folder in which packing was interrupted in the second of three shards."""
    archive.faults[12] = killed
    with pytest.raises(KeyboardInterrupt):
        pack(archive, tmp_path / "interrupted", shard_size=8, workers=1)
    archive.faults.clear()
    archive.reads.clear()
    return tmp_path / "interrupted"


def test_killed_pack_resumes_by_shard(archive, interrupted, folder):
    with pytest.raises(PackError, match="unfinished"):
        PackedStore(interrupted)
    (interrupted / ".shard-00001.77.partial.bin").write_bytes(b"half")
    resumed = pack(archive, interrupted, shard_size=8, workers=1)
    assert archive.reads == list(range(8, 20))
    assert sorted(path.name for path in interrupted.iterdir() if not path.name.startswith(".")) == [
        "index.parquet",
        "manifest.json",
        *(f"shard-0000{n}.{suffix}" for n in range(3) for suffix in ("bin", "json")),
    ]
    plain = pack(archive, folder, shard_size=8, workers=1)  # never interrupted
    assert (resumed.fingerprint, resumed.layout) == (plain.fingerprint, plain.layout)


def test_unfinished_shards_of_a_changed_source_are_packed_anew(archive, interrupted, capsys):
    archive.version = "v2"
    pack(archive, interrupted, shard_size=8, workers=1)
    assert archive.reads == list(range(20))
    assert "another source" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "most_pixels", "message"),
    [
        ({"version": "v2"}, None, r"fake v1 .* is now fake v2 .*delete that folder or choose another"),
        ({"s2_bands": ("B02",)}, None, "bands B02 at 24 px; VV, VH at 24 px: delete"),
        (
            {},
            12,
            "VV, VH at 24 px, packed .* B02, B03, B08 at 12 px; B05, B11 at 6 px; VV, ",
        ),
    ],
)
def test_finished_data_of_another_source_bands_or_sizes_is_not_overwritten(
    archive, store, folder, change, most_pixels, message
):
    vars(archive).update(change)
    with pytest.raises(PackError, match=message):
        pack(archive, folder, workers=1, most_pixels=most_pixels)
    assert PackedStore(folder).fingerprint == store.fingerprint


def test_bad_patches_stop_with_the_list_of_which_ten_are_shown(archive, folder):
    archive.faults = dict.fromkeys(range(2, 16), not_a_number) | {1: broken}
    with pytest.raises(PackError) as caught:
        pack(archive, folder, shard_size=8, workers=1)
    message = str(caught.value)
    assert message.startswith("15 of 20 patches cannot be packed")
    shown = ("patch_x: truncated (B02.tif)", "patch_009: VV has 1 values that are NaN", "and 5 more")
    assert all(part in message for part in (*shown, "on_bad_patch"))
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize("bad", [(1, 9), tuple(range(8, 16))], ids=["some", "a whole shard"])
def test_bad_patches_may_be_skipped_and_are_counted(archive, folder, bad):
    archive.faults = dict.fromkeys(bad, broken)
    store = pack(archive, folder, on_bad_patch="skip", shard_size=8, workers=1)
    store.verify()
    assert store.manifest.counts["skipped"] == len(bad)
    assert [skipped["reason"] for skipped in store.manifest.skipped] == ["truncated"] * len(bad)
    kept = [i for i in range(20) if i not in bad]
    assert store.index["patch_id"].tolist() == [f"patch_{i:03d}" for i in kept]
    expected = np.stack([archive.sample(i)["B02"] for i in kept])
    assert np.array_equal(store.read(np.arange(len(kept)))["s2_24"][:, 0], expected)


@pytest.mark.parametrize(
    ("bands", "title"),
    [(("VV", "VH", "B02", "B03", "B05", "B08", "B11"), ""), (("VV", "VH"), "Sentinel-1 ")],
)
def test_a_record_or_one_sensor_of_it_in_another_split_is_refused(archive, folder, bands, title):
    same = {band: archive.sample(0)[band] for band in bands}
    archive.faults = {row: lambda sample: sample.update(same) for row in (1, 18)}  # of row 0
    with pytest.raises(
        PackError,
        match=rf"has 1 patch in two splits.*\n  patch_018 \(test\) has the {title}pixels of "
        r"patch_000 \(train\)\n.* keep one of each pair",
    ):
        pack(archive, folder, shard_size=8, workers=1)
    with pytest.raises(PackError, match="unfinished"):
        PackedStore(folder)


def test_stop_after_skip_still_stops_and_mended_patches_are_taken(archive, store, tmp_path):
    archive.faults = {9: not_a_number}
    pack(archive, tmp_path / "skip", on_bad_patch="skip", shard_size=8, workers=1)
    with pytest.raises(PackError, match="1 of 20"):
        pack(archive, tmp_path / "skip", shard_size=8, workers=1)
    archive.faults.clear()
    mended = pack(archive, tmp_path / "skip", shard_size=8, workers=1)
    assert mended.fingerprint == store.fingerprint


def test_several_processes_give_the_same_bytes(archive, store, tmp_path):
    assert pack(archive, tmp_path / "two", shard_size=8, workers=2).fingerprint == store.fingerprint


def test_a_killed_reading_process_is_named(archive, folder):
    archive.faults = {3: lambda _sample: os._exit(9)}
    with pytest.raises(RunError, match="process was killed, perhaps for lack of memory"):
        pack(archive, folder, shard_size=8, workers=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.assign(split="test"), "no usable patch in split 'train'"),
        (lambda index: index.assign(labels=[["lava"]] * 20), "'lava'. are not"),
        (lambda index: index.drop(columns=["scene", "date"]), "lacks date, scene: see"),
    ],
)
def test_faults_of_the_index_are_found_before_reading(archive, folder, change, message):
    archive.index = change(archive.index)
    with pytest.raises(PackError, match=message):
        pack(archive, folder)
    assert archive.reads == []


def test_constant_band_cannot_be_normalised(archive, folder):
    archive.faults = dict.fromkeys(range(20), lambda sample: sample["B05"].fill(7))
    with pytest.raises(PackError, match="B05 has the same value in every training patch"):
        pack(archive, folder, workers=1)


def test_disk_too_small_is_refused_and_a_full_one_leaves_nothing_half_written(archive, folder, monkeypatch):
    usage = type("Usage", (), {"free": 20 * 6336 - 1})
    with monkeypatch.context() as patch, pytest.raises(RunError, match="free some space"):
        patch.setattr(files.shutil, "disk_usage", lambda _path: usage)
        pack(archive, folder)
    assert archive.reads == []

    def full(*_args):  # in between
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "to_record", full)
    with pytest.raises(RunError, match="no space left"):
        pack(archive, folder, workers=1)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_second_packer_waits_for_the_first_and_takes_its_data(archive, folder, capsys, wait_until):
    folder.mkdir()
    with ThreadPoolExecutor() as pool:
        with files.lock(folder):
            second = pool.submit(pack, type(archive)(archive.root), folder, shard_size=8, workers=1)
            wait_until(lambda: "waiting for it" in capsys.readouterr().err)
            (folder / ".lock").rename(folder / ".lock-of-the-first")  # which this process holds
            first = pack(archive, folder, shard_size=8, workers=1)
        assert second.result().fingerprint == first.fingerprint
    assert f"packed data in {folder} is up to date: 20 patches reused" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_takes_packed_data_all_the_same(
    archive, folder, monkeypatch, capsys, number
):
    def unsupported(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert len(pack(archive, folder, shard_size=8, workers=1)) == 20
    assert "see to it that only one run uses it" in capsys.readouterr().err
