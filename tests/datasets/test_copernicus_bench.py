"""What the reader makes of Copernicus-Bench's 5 %, beside TorchGeo's readers, and every wrong input."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
from torchgeo.datasets import CopernicusBenchBigEarthNetS1, CopernicusBenchBigEarthNetS2

from mosaic.datasets import bigearthnet_layout as layout
from mosaic.datasets.archive import PatchError
from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.copernicus_bench import CopernicusBenchArchive
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.registry import open_archive
from mosaic.datasets.simulation.produce import SIMULATION_NOTE
from mosaic.datasets.verify import verify
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError

FOLDER = "bigearthnet_s1s2"


@pytest.fixture
def written(simulated):
    return simulated("copernicus_bench")


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "bench")


def list_of(root, split):
    return root / FOLDER / f"multilabel-{split}.csv"


def edit(root, change, split="train"):
    change(pd.read_csv(list_of(root, split))).to_csv(list_of(root, split), index=False)


def rewrite(path, change, **profile):
    with rasterio.open(path) as file:
        layers, profile = change(file.read()), {**file.profile, **profile}
    with rasterio.open(path, "w", **profile | {"count": len(layers)}) as file:
        file.write(layers)


def only(root, name):
    """Leave nothing but what a download left."""
    shutil.rmtree(root / FOLDER)
    (root / name).touch()


def test_pairs_are_those_of_torchgeo(written):
    archive = open_archive("copernicus_bench", written)
    assert archive.index["split"].value_counts().to_dict() == {"train": 12, "validation": 6, "test": 6}
    sample = archive[archive.index["split"].tolist().index("train")]
    for source, kind in (("s1", CopernicusBenchBigEarthNetS1), ("s2", CopernicusBenchBigEarthNetS2)):
        theirs = kind(str(written), "train")[0]
        np.testing.assert_array_equal(sample[f"image_{source}"], theirs["image"])
        np.testing.assert_array_equal(sample["label"], theirs["label"])
    assert archive.centre("29UPU") == pytest.approx((-6.7, 52.7), abs=0.1)
    assert archive.read_map(0) is None and (sample["mask"] == 255).all()
    assert len({CopernicusBenchArchive(written, bands).fingerprint() for bands in ("all", "B04")}) == 1
    assert list(CopernicusBenchArchive(written, "10m").read(0)) == ["VV", "VH", "B02", "B03", "B04", "B08"]


def test_pairs_are_those_of_bigearthnet_with_coarser_pixels_repeated(written, simulated):
    stacked, single = CopernicusBenchArchive(written), BigEarthNetArchive(simulated("bigearthnet"))
    indices = [a.index.assign(labels=a.index["labels"].map(sorted)) for a in (stacked, single)]
    pd.testing.assert_frame_equal(indices[0], indices[1][indices[0].columns])
    for i in range(24):
        images = stacked.read(i)
        for band, image in single.read(i).items():
            step = 120 // len(image)
            np.testing.assert_array_equal(images[band], image.repeat(step, 0).repeat(step, 1))
    for source, band in (("s1", "VV"), ("s2", "B02")):
        with rasterio.open(stacked.path(0, source)) as ours, rasterio.open(single.path(0, band)) as theirs:
            assert (ours.bounds, ours.crs, ours.nodata) == (theirs.bounds, theirs.crs, theirs.nodata)


def test_columns_are_read_by_name(root, written):
    for split in ("train", "val", "test"):
        edit(root, lambda table: table[table.columns[::-1]], split)
    pd.testing.assert_frame_equal(CopernicusBenchArchive(root).index, CopernicusBenchArchive(written).index)


LISTS = [  # change of the list of training pairs, message
    (lambda t: t.rename(columns={"Pastures": "Meadows"}), "differs in 'Meadows', 'Pastures'"),
    (lambda t: t.rename(columns={"s2_path": "path"}), "differs in 'path', 's2_path'"),
    (lambda t: t.assign(Pastures=2), r"train.csv, row 2: labels must be 0 or 1"),
    (lambda t: t.assign(**dict.fromkeys(CORINE.classes, 0)), "at least one label"),
    (lambda t: t.assign(s1_path=t["s1_path"].str.upper()), "s1_name '.*' does not follow the official"),
    (lambda t: t.assign(s1_path=[*t["s1_path"]][::-1]), "name different tiles, columns or rows"),
]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *((lambda root, c=change: edit(root, c), message) for change, message in LISTS),
        (lambda root: shutil.copy(list_of(root, "train"), list_of(root, "val")), "in more than one split"),
        (lambda root: list_of(root, "val").unlink(), "multilabel-val.csv missing: give the folder that"),
        (lambda root: list_of(root, "val").write_text(""), "cannot be read as CSV"),
        (lambda root: shutil.rmtree(root / FOLDER / "BigEarthNet-S1-5%"), "BigEarthNet-S1-5% missing"),
        (lambda root: only(root, "bigearthnetv2.zip"), r"extract bigearthnetv2\.zip there first"),
        (lambda root: only(root, "bigearthnetv2.zip.partial"), r"finish the download of bigearthnetv2\.zip"),
    ],
)
def test_lists_that_are_not_the_official_ones_are_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(ArchiveError, match=message):
        CopernicusBenchArchive(root)


@pytest.mark.parametrize(
    ("source", "spoil", "kind", "message"),
    [
        ("s1", os.unlink, "missing file", "the file is missing"),
        ("s2", lambda path: os.truncate(path, 200_000), "unreadable", "truncated or no TIFF"),
        ("s2", lambda path: rewrite(path, lambda image: image[:10]), "shape", r"\(10, 120, 120\)"),
        ("s1", lambda path: rewrite(path, np.array, crs="EPSG:32601"), "place", "its name says EPSG:32"),
    ],
)
def test_a_pair_with_a_wrong_file_is_named_and_left_out(root, tmp_path, source, spoil, kind, message):
    archive = CopernicusBenchArchive(root)
    spoil(archive.path(0, source))
    with pytest.raises(PatchError, match=message):
        archive.read(0)
    table = verify(root, "copernicus_bench", workers=1).query("~note")
    assert table[["patch_id", "kind"]].to_numpy().tolist() == [[archive.ids[0], kind]]
    store = pack(archive, tmp_path / "packed", on_bad_patch="skip", workers=1)
    assert (len(store), store.manifest.counts["skipped"]) == (23, 1)


def test_a_list_that_lost_its_last_rows_is_noted(root):
    assert "folder" not in {note.kind for note in CopernicusBenchArchive(root).notes()}
    edit(root, lambda table: table[:-1])
    details = [note.detail for note in CopernicusBenchArchive(root).notes() if note.kind == "folder"]
    assert details == ["1 folders belong to no patch that was checked"] * 2  # of each sensor


def test_how_coarser_bands_were_resampled_is_noted(root):
    archive = CopernicusBenchArchive(root)
    rewrite(archive.path(0, "s2"), lambda image: image + np.eye(120, dtype=np.uint16))
    (note,) = [note.detail for note in archive.notes() if note.kind == "resampled"]
    assert note.startswith("B01, B05, B06, B07, B8A, B09, B11, B12 came resampled")
    assert "of 5 patches looked at, 4 are blocks of equal pixels" in note
    assert "resampled" not in {note.kind for note in CopernicusBenchArchive(root, "10m").notes()}


def test_published_scores_stand_beside_a_real_test_split_of_the_official_size_only(root):
    unknown = CopernicusBenchArchive(root).reference()
    assert unknown.published_for(map(str, range(5991)))["rows"] == []
    (root / SIMULATION_NOTE).unlink()
    known = CopernicusBenchArchive(root).reference()
    found = known.published_for(map(str, range(5991)))
    assert {"model": "CROMA, frozen", "input": "S2", "ap_micro": 0.764} in found["rows"]
    assert "micro mAP" in found["source"] and len(found["rows"]) == 10
    assert known.published_for(map(str, range(5990)))["rows"] == []


def test_pairs_lie_and_are_named_as_in_the_real_archive():
    s1 = "S1A_IW_GRDH_1SDV_20180420T063852_29UPU_77_6"
    s2 = "S2B_MSIL2A_20180421T114349_N9999_R123_T29UPU_77_06"
    assert layout.stacked_file(s1) == f"S1A_IW_GRDH_1SDV_20180420T063852/{s1}/{s1}_allbands.tif"
    assert layout.stacked_file(s2) == f"S2B_MSIL2A_20180421T114349_N9999_R123_T29UPU/{s2}/{s2}_allbands.tif"
    table = pd.DataFrame({"patch_id": [s2], "s1_name": [s1], "labels": [["Pastures"]], "split": ["train"]})
    index, problems = layout.parse_metadata(table)
    found = index.loc[0, ["date", "s1_date", "scene", "location"]].tolist()
    assert not problems and found == ["2018-04-21", "2018-04-20", "29UPU_20180421", "29UPU_77_6"]
