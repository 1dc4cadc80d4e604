import shutil

import numpy as np
import pandas as pd
import pytest

from mosaic.datasets.registry import open_archive
from mosaic.datasets.simulation.bigearthnet import training_labels
from mosaic.experiments.prepare import check_fractions, origin, prepare
from mosaic.settings import DataSettings, StudySettings
from mosaic.store.reader import label_matrix
from mosaic.utils import plugins
from mosaic.utils.errors import ArchiveError, BudgetError, PackError


@pytest.fixture
def root(official_archive, tmp_path, monkeypatch):
    """An archive of eight pairs."""
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path / "root"))
    return official_archive(tmp_path / "ben", patches=8)


def packed(tmp_path):
    return list((tmp_path / "root").rglob("manifest.json"))


def test_archive_is_packed_once_and_reused(root, tmp_path, monkeypatch):
    archive, store = prepare(DataSettings(archive=str(root)))
    assert len(archive) == len(store) == 8
    assert origin(archive, store) == "real (8 pairs)"
    assert origin(archive, store, simulated=True) == "simulated"
    (root / "simulation.json").touch()  # simulated earlier, and given by its folder
    assert origin(archive, store) == "simulated"
    (root / "simulation.json").unlink()
    before = packed(tmp_path)[0].stat().st_mtime_ns
    prepare(DataSettings(archive=str(root)))
    assert [path.stat().st_mtime_ns for path in packed(tmp_path)] == [before]
    _, small = prepare(DataSettings(archive=str(root), bands="10m"))  # other bands, apart
    assert small.layout.sensor("s2").bands == ("B02", "B03", "B04", "B08")
    for path in (root / "BigEarthNet-S1").rglob("*_V?.tif"):  # put back, as to repair it
        shutil.copy(path, path.with_suffix(".new")).rename(path)
    _, again = prepare(DataSettings(archive=str(root)))
    assert len({store.folder, small.folder, again.folder}) == len(packed(tmp_path)) == 3
    monkeypatch.setitem(plugins._hashes, type(archive).__module__, "0")  # as if a plugin defined it
    assert prepare(DataSettings(archive=str(root)))[1].folder not in {again.folder, store.folder}
    assert np.array_equal(store.labels, again.labels)


@pytest.mark.parametrize("layout", ["bigearthnet", "copernicus_bench"])
def test_labels_of_a_simulation_are_known_before_it_is_written(simulated, layout):
    root = simulated(layout)
    recipe = {"dataset": layout, "patches": 24, "archive_seed": 3}
    with pytest.raises(BudgetError) as before:
        check_fractions(StudySettings(**recipe, label_fractions=[5]))
    assert check_fractions(StudySettings(**recipe, label_fractions=[100])) == 24
    with pytest.raises(BudgetError) as after:
        check_fractions(StudySettings(dataset=layout, archive=str(root), label_fractions=[5]))
    assert str(before.value) == str(after.value)
    archive = open_archive(layout, root)
    train = archive.index["labels"][archive.index["split"] == "train"]
    written = label_matrix(train, archive.class_names).tolist()
    assert sorted(written) == sorted(training_labels(24, 3).tolist())


def test_a_missing_list_of_patches_is_named_before_anything_is_computed(tmp_path):
    with pytest.raises(BudgetError, match=r"one\.csv is missing: give a file of patch ids"):
        check_fractions(StudySettings(label_budget_files=[str(tmp_path / "one.csv")]))


@pytest.mark.parametrize(("split", "left"), [("train", 1), ("train", 0), ("validation", 0), ("test", 0)])
def test_a_split_of_too_few_patches_is_named_before_anything_is_packed(root, tmp_path, split, left):
    table = pd.read_parquet(root / "metadata.parquet")
    few = table[(table["split"] != split) | (table.groupby("split").cumcount() < left)]
    few.to_parquet(root / "metadata.parquet", index=False)
    told = r"1 patch in split 'train'.* 2 or more" if left else f"no patch in split '{split}'"
    with pytest.raises(ArchiveError, match=told):
        prepare(DataSettings(archive=str(root)))
    assert not packed(tmp_path)


def test_damaged_patch_stops_with_its_name_or_is_skipped_and_counted(root, tmp_path):
    band = next((root / "BigEarthNet-S1").glob("*/*/*_VV.tif"))
    band.write_bytes(band.read_bytes()[:1000])
    with pytest.raises(PackError, match=r"_VV\.tif"):
        prepare(DataSettings(archive=str(root)))
    assert not packed(tmp_path)
    _, store = prepare(DataSettings(archive=str(root), on_bad_patch="skip"))
    assert (len(store), len(store.manifest.skipped)) == (7, 1)
    absent = sorted((root / "BigEarthNet-S2").glob("*/*"))[0]
    shutil.rmtree(absent)  # not yet extracted
    with pytest.raises(ArchiveError, match=r"(?s)missing folder: 1 patches.*on_bad_patch to 'skip'"):
        prepare(DataSettings(archive=str(root)))
    _, store = prepare(DataSettings(archive=str(root), on_bad_patch="skip"))
    skipped = {bad["patch_id"] for bad in store.manifest.skipped}
    assert absent.name in skipped and len(store) + len(skipped) == 8
