"""A hand-made archive in the true format of SEN12MS, and what the reader makes of it."""

import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
from torchgeo.datasets import SEN12MS

from mosaic.datasets.archive import PatchError
from mosaic.datasets.nomenclature import IGBP
from mosaic.datasets.sen12ms import SEN12MSArchive
from mosaic.datasets.sen12ms_layout import labels_of, validation_scenes
from mosaic.datasets.simulation.produce import write_geotiff
from mosaic.datasets.verify import verify
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError

SIDE = 256
#: Scene -> (season, split, patches). Only two of the four seasons are there.
SCENES = {
    "1": ("ROIs1158_spring", "train", (30, 31)),
    "8": ("ROIs1158_spring", "train", (30,)),
    "9": ("ROIs1868_summer", "train", (2,)),
    "59": ("ROIs1868_summer", "test", (7, 8)),
}


def write_tif(path, layers, corner=(500000.0, 5000000.0)):
    write_geotiff(path, layers, corner, 32633)


def file_of(root, season, source, scene, patch):
    return root / season / f"{source}_{scene}" / f"{season}_{source}_{scene}_p{patch}.tif"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("sen12ms")
    random = np.random.default_rng(0)
    lists = {"train": [], "test": []}
    for scene, (season, split, patches) in SCENES.items():
        for patch in patches:
            corner = (500000.0 + 1280 * patch, 5000000.0)
            radar = random.normal([[[-11]], [[-30]]], 3, (2, SIDE, SIDE)).astype(np.float32)
            write_tif(file_of(root, season, "s1", scene, patch), radar, corner)
            optical = random.integers(200, 9000, (13, SIDE, SIDE)).astype(np.uint16)
            optical[10] = 12  # cirrus
            write_tif(file_of(root, season, "s2", scene, patch), optical, corner)
            cover = np.zeros((4, SIDE, SIDE), np.uint8)
            cover[0] = 12  # croplands
            cover[0, :12] = 14  # 4.7 %, a mosaic: counts as croplands
            cover[0, 12:32] = 1  # 7.8 % needles
            cover[0, 32:40] = 5  # 3.1 % mixed: together with the needles above 10 %
            cover[0, 40:60] = 17  # 7.8 % water: below 10 %
            write_tif(file_of(root, season, "lc", scene, patch), cover, corner)
            lists[split].append(f"{season}_s2_{scene}_p{patch}.tif")
    lists["train"].append("ROIs1970_fall_s2_3_p5.tif")  # of a season that is not there
    (root / "train_list.txt").write_bytes(("\r\n".join(lists["train"]) + "\r\n\r\n").encode())
    (root / "test_list.txt").write_bytes(("\r\n".join(lists["test"]) + "\r\n").encode())
    return root


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "archive")


def place(archive, patch_id):
    return archive.index["patch_id"].tolist().index(patch_id)


def test_any_subset_of_seasons_is_an_archive(written):
    archive = SEN12MSArchive(written)
    assert isinstance(archive, SEN12MS)
    assert len(archive) == 6
    assert (archive.index["location"] == archive.index["scene"]).all()  # patches of a scene overlap
    assert archive.absent == 1
    assert set(archive.index["scene"]) == {
        "ROIs1158_spring_1", "ROIs1158_spring_8", "ROIs1868_summer_9", "ROIs1868_summer_59",
    }  # fmt: skip
    row = archive.index.iloc[place(archive, "ROIs1868_summer_59_p7")]
    assert (row["split"], row["season"]) == ("test", "summer")
    assert archive.index["labels"].tolist() == [["Forest", "Croplands"]] * 6


def test_lists_may_begin_with_a_mark_of_their_encoding_and_name_files_in_capitals(root):
    before = SEN12MSArchive(root).index
    path = root / "train_list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b".tif", b".TIF"))
    pd.testing.assert_frame_equal(SEN12MSArchive(root).index, before)


def test_validation_is_whole_training_scenes_and_always_the_same(written):
    index = SEN12MSArchive(written).index
    assert index.groupby("scene")["split"].nunique().max() == 1
    assert set(index["split"]) == {"train", "validation", "test"}
    assert set(index["split"][index["scene"] == "ROIs1868_summer_59"]) == {"test"}
    scenes = [f"ROIs1158_spring_{n}" for n in range(100)]
    assert len(validation_scenes(scenes)) == 20
    assert validation_scenes(scenes) == validation_scenes(scenes[::-1])
    assert validation_scenes(["only"]) == []


@pytest.mark.parametrize(
    ("codes", "labels"),
    [
        ({17: 256}, ["Water"]),
        ({17: 230, 13: 26}, ["Urban and built-up", "Water"]),  # 26 of 256 rows: 10.2 %
        ({17: 231, 13: 25}, ["Water"]),  # 9.8 %
        ({8: 13, 9: 13, 16: 230}, ["Savanna", "Barren"]),  # neither member alone has 10 %
        ({255: 100, 0: 100, 11: 56}, ["Wetlands"]),  # codes of no class cover ground all the same
        ({255: 256}, []),
    ],
)
def test_a_label_needs_a_tenth_of_the_patch(codes, labels):
    cover = np.concatenate([np.full((rows, SIDE), code) for code, rows in codes.items()])
    assert labels_of(IGBP.class_of_code[cover]) == labels


def test_values_are_those_of_the_files_and_backscatter_is_cut(written):
    archive = SEN12MSArchive(written)
    i = place(archive, "ROIs1158_spring_1_p31")
    sample = archive.read(i)
    with rasterio.open(file_of(written, "ROIs1158_spring", "s2", 1, 31)) as file:
        assert (sample["B12"] == file.read(13)).all()
        assert (sample["B10"] == 12).all()
    with rasterio.open(file_of(written, "ROIs1158_spring", "s1", 1, 31)) as file:
        vh = file.read(2)
    assert sample["VH"].dtype == np.float32
    assert sample["VH"].min() == -25  # the hand-made VH lies about -30 dB
    assert (sample["VH"] == np.clip(vh, -25, 0)).all()
    torch_sample = archive[i]
    assert torch_sample["image_s2"].shape == (13, SIDE, SIDE)
    assert torch_sample["label"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert torch_sample["mask"].unique().tolist() == [0, 5, 9]


CORNER = (500000.0 + 1280 * 30, 5000000.0)
NAN = np.full((2, SIDE, SIDE), -10, np.float32)
NAN[:, :5] = np.nan


@pytest.mark.parametrize(
    ("source", "damage", "kind"),
    [
        ("s1", lambda path: path.unlink(), "missing file"),
        ("s1", lambda path: write_tif(path, np.ones((1, SIDE, SIDE), np.float32)), "shape"),
        ("s1", lambda path: write_tif(path, np.zeros((2, SIDE, SIDE), np.float32)), "all-zero"),
        ("s1", lambda path: write_tif(path, NAN, CORNER), "not finite"),  # as of the known damaged patch
        ("s1", lambda path: write_tif(path, np.nan_to_num(NAN, nan=-11), (0.0, 0.0)), "place"),
        ("lc", lambda path: write_tif(path, np.full((4, SIDE, SIDE), 255, np.uint8), CORNER), "labels"),
    ],
)
def test_faults_are_named_by_read_and_listed_by_verify(root, source, damage, kind):
    damage(file_of(root, "ROIs1158_spring", source, 1, 30))
    archive = SEN12MSArchive(root)
    with pytest.raises(PatchError, match="ROIs1158_spring_1_p30") as error:
        archive.read(place(archive, "ROIs1158_spring_1_p30"))
    assert error.value.kind == kind
    table = verify(root, "sen12ms", workers=1)
    faults = table[~table["note"]]
    assert set(faults["patch_id"]) == {"ROIs1158_spring_1_p30"}
    assert kind in set(faults["kind"])


def test_absent_and_unlisted_patches_and_half_scenes_are_told(root):
    table = verify(root, "sen12ms")
    assert (table["kind"].tolist(), table["note"].tolist()) == (["subset"], [True])
    assert "1 listed patches" in table["detail"].iloc[0]
    shutil.copy(
        file_of(root, "ROIs1158_spring", "s2", 8, 30),
        root / "ROIs1158_spring/s2_8/ROIs1158_spring_s2_8_p99.tif",
    )
    assert "stray file" in set(verify(root, "sen12ms", workers=1)["kind"])
    shutil.rmtree(root / "ROIs1158_spring" / "lc_8")
    with pytest.raises(ArchiveError, match="no lc_ folder"):
        SEN12MSArchive(root)
    table = verify(root, "sen12ms", workers=1)
    assert table[~table["note"]]["kind"].tolist() == ["missing folder"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "test_list.txt").unlink(), "test_list.txt missing"),
        (lambda root: (root / "train_list.txt").write_text("p30.tif\n"), "name no patch: p30"),
        (lambda r: (r / "test_list.txt").write_text("ROIs1158_spring_s2_1_p31.tif\n"), "ROIs1158_spring_1"),
        (lambda root: [shutil.rmtree(p) for p in root.glob("ROIs*")], "extract a season"),
        (shutil.rmtree, "make one with"),
    ],
)
def test_what_is_no_archive_says_why(root, spoil, message):
    spoil(root)
    with pytest.raises(ArchiveError, match=message):
        SEN12MSArchive(root)


def test_averaged_bands_are_means_and_decibels_are_averaged_as_power(written, tmp_path):
    archive = SEN12MSArchive(written, bands="10m")
    small = pack(archive, tmp_path / "small", workers=1, most_pixels=128)
    assert [(g.name, g.size) for g in small.layout.groups] == [("s2", 128), ("s1", 128)]
    sample, bands = archive.read(0), small.read_bands([0], ["B03", "VV"])
    mean = sample["B03"].astype(float).reshape(128, 2, 128, 2).mean((1, 3))
    assert np.abs(bands["B03"][0] - mean).max() <= 0.5
    power = (10 ** (sample["VV"].astype(float) / 10)).reshape(128, 2, 128, 2).mean((1, 3))
    assert np.abs(bands["VV"][0] - 10 * np.log10(power)).max() <= 0.0051


def test_centre_is_in_degrees(written):
    lon, lat = SEN12MSArchive(written).centre("ROIs1868_summer_9")
    assert lon == pytest.approx(15.05, abs=0.02)  # 500000 m is the central meridian of zone 33, 15 degrees
    assert lat == pytest.approx(45.14, abs=0.02)
