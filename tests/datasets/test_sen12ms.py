"""A hand-made archive in the true format of SEN12MS, and what the reader makes of it."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
from torchgeo.datasets import SEN12MS

from mosaic.datasets.archive import PatchError
from mosaic.datasets.geotiff import to_degrees
from mosaic.datasets.nomenclature import IGBP
from mosaic.datasets.sen12ms import SEN12MSArchive
from mosaic.datasets.sen12ms_layout import labels_of, validation_scenes
from mosaic.datasets.simulation.produce import write_geotiff
from mosaic.datasets.verify import verify
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError

SIDE = 256
SPRING, SUMMER = "ROIs1158_spring", "ROIs1868_summer"  # two of the four seasons
PATCHES = {
    "train": [f"{SPRING}_1_p30", f"{SPRING}_1_p31", f"{SPRING}_8_p30", f"{SUMMER}_9_p2"],
    "test": [f"{SUMMER}_59_p7", f"{SUMMER}_59_p8"],
}
#: Rows of a patch by their code of IGBP.
LAND_COVER = {
    14: 12,  # 4.7 %, a mosaic: counts as the croplands below
    1: 20,  # 7.8 % needles
    5: 8,  # 3.1 % mixed: together with the needles above 10 %
    17: 20,  # 7.8 % water: below 10 %
    12: 196,
}


def path_of(root, patch_id, source):
    season, scene, patch = patch_id.rsplit("_", 2)
    return root / season / f"{source}_{scene}" / f"{season}_{source}_{scene}_{patch}.tif"


def rewrite(path, change, **profile):
    with rasterio.open(path) as file:
        layers, profile = change(file.read()), {**file.profile, **profile}
    with rasterio.open(path, "w", **profile | {"count": len(layers)}) as file:
        file.write(layers)


def rows_of(codes):
    return np.concatenate([np.full((rows, SIDE), code, np.uint8) for code, rows in codes.items()])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("sen12ms"), np.random.default_rng(0)
    cover = np.zeros((4, SIDE, SIDE), np.uint8)
    cover[0] = rows_of(LAND_COVER)
    for split, patches in PATCHES.items():
        for patch_id in patches:
            radar = random.normal([[[-11]], [[-30]]], 3, (2, SIDE, SIDE)).astype(np.float32)
            optical = random.integers(200, 9000, (13, SIDE, SIDE)).astype(np.uint16)
            optical[10] = 12  # cirrus
            corner = (500000.0 + 1280 * int(patch_id.split("_p")[1]), 5000000.0)
            for source, layers in (("s1", radar), ("s2", optical), ("lc", cover)):
                write_geotiff(path_of(root, patch_id, source), layers, corner, 32633)
        names = [path_of(root, patch_id, "s2").name for patch_id in patches]
        # of a season that is not there
        names += ["ROIs1970_fall_s2_3_p5.tif"] if split == "train" else []
        (root / f"{split}_list.txt").write_bytes("\r\n".join([*names, "", ""]).encode())
    return root


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "archive")


@pytest.fixture
def archive(written):
    return SEN12MSArchive(written)


def test_any_subset_of_seasons_is_an_archive(archive):
    assert isinstance(archive, SEN12MS)
    assert archive.ids == sorted(PATCHES["train"] + PATCHES["test"])
    assert archive.absent == 1
    assert (archive.index["location"] == archive.index["scene"]).all()  # patches of a scene overlap
    assert set(archive.index["scene"]) == {f"{SPRING}_1", f"{SPRING}_8", f"{SUMMER}_9", f"{SUMMER}_59"}
    row = archive.index.set_index("patch_id").loc[f"{SUMMER}_59_p7"]
    assert (row["split"], row["season"]) == ("test", "summer")
    assert archive.index["labels"].tolist() == [["Forest", "Croplands"]] * 6


def test_lists_may_begin_with_a_mark_of_their_encoding_and_name_files_in_capitals(root, archive):
    path = root / "train_list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b".tif", b".TIF"))
    pd.testing.assert_frame_equal(SEN12MSArchive(root).index, archive.index)


def test_validation_is_whole_training_scenes_and_always_the_same(archive):
    splits = archive.index.groupby("scene")["split"]
    assert splits.nunique().max() == 1
    assert splits.first().value_counts().to_dict() == {"train": 2, "validation": 1, "test": 1}
    assert splits.first()[f"{SUMMER}_59"] == "test"
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
    assert labels_of(IGBP.class_of_code[rows_of(codes)]) == labels


def test_values_are_those_of_the_files_and_backscatter_is_cut(archive):
    i = archive.ids.index(f"{SPRING}_1_p31")
    sample = archive.read(i)
    with rasterio.open(archive.path(i, "s2")) as file:
        assert (sample["B12"] == file.read(13)).all()
        assert (sample["B10"] == 12).all()
    with rasterio.open(archive.path(i, "s1")) as file:
        assert (sample["VH"] == np.clip(file.read(2), -25, 0)).all()
    assert sample["VH"].dtype == np.float32
    assert sample["VH"].min() == -25  # the hand-made VH lies about -30 dB
    torch_sample = archive[i]
    assert torch_sample["image_s2"].shape == (13, SIDE, SIDE)
    assert torch_sample["label"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert torch_sample["mask"].unique().tolist() == [0, 5, 9]


@pytest.mark.parametrize(
    ("source", "damage", "kind"),
    [
        ("s1", os.unlink, "missing file"),
        ("s1", lambda path: rewrite(path, lambda layers: layers * np.nan), "not finite"),
        ("s1", lambda path: rewrite(path, np.array, transform=rasterio.Affine.scale(10, -10)), "place"),
        ("lc", lambda path: rewrite(path, lambda layers: layers * 0 + 255), "labels"),
    ],
)
def test_faults_are_named_by_read_and_listed_by_verify(root, source, damage, kind):
    patch_id = f"{SPRING}_1_p30"
    damage(path_of(root, patch_id, source))
    archive = SEN12MSArchive(root)
    with pytest.raises(PatchError, match=patch_id) as error:
        archive.read(archive.ids.index(patch_id))
    assert error.value.kind == kind
    faults = verify(root, "sen12ms", workers=1).query("~note")
    assert set(faults["patch_id"]) == {patch_id}
    assert kind in set(faults["kind"])


def test_absent_and_unlisted_patches_and_half_scenes_are_told(root):
    table = verify(root, "sen12ms")
    assert (table["kind"].tolist(), table["note"].tolist()) == (["subset"], [True])
    assert "1 listed patches" in table["detail"].iloc[0]
    path_of(root, f"{SPRING}_8_p99", "s2").touch()
    assert "stray file" in set(verify(root, "sen12ms", workers=1)["kind"])
    shutil.rmtree(root / SPRING / "lc_8")
    with pytest.raises(ArchiveError, match="no lc_ folder"):
        SEN12MSArchive(root)
    assert verify(root, "sen12ms", workers=1).query("~note")["kind"].tolist() == ["missing folder"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "test_list.txt").unlink(), "test_list.txt missing"),
        (lambda root: (root / "train_list.txt").write_text("p30.tif\n"), "name no patch: p30"),
        (lambda r: (r / "train_list.txt").write_bytes(b"ROIs1158_spring_s2_1_p3\xa4"), "name no patch: ROIs"),
        (lambda r: (r / "test_list.txt").write_text("ROIs1158_spring_s2_1_p31.tif\n"), "ROIs1158_spring_1"),
        (lambda root: [shutil.rmtree(p) for p in root.glob("ROIs*")], "extract a season"),
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


def test_centre_is_in_degrees(archive):
    # 500000 m is the central meridian of zone 33, 15 degrees
    assert archive.centre(f"{SUMMER}_9") == pytest.approx((15.05, 45.14), abs=0.02)


def test_centre_is_that_of_a_sound_patch(root):
    os.unlink(path_of(root, f"{SPRING}_1_p30", "lc"))
    next_one = to_degrees(32633, 500000 + 1280 * 32, 5000000 - 1280)
    assert SEN12MSArchive(root).centre(f"{SPRING}_1") == pytest.approx(next_one)
