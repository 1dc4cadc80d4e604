"""Each mended defect of TorchGeo's reader, on files in the true format; and every wrong input."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from torchgeo.datasets import BigEarthNetV2

from mosaic.archives.bigearthnet import BigEarthNetArchive
from mosaic.archives.patches import PatchError
from mosaic.common.errors import ArchiveError

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def raw(path):
    with rasterio.open(path) as file:
        return file.read(1), file.profile


def rewrite(path, array, **changes):
    _, profile = raw(path)
    profile.update(height=array.shape[0], width=array.shape[1], dtype=array.dtype, **changes)
    with rasterio.open(path, "w", **profile) as file:
        file.write(array, 1)


def edit_metadata(root, **columns):
    """Overwrite columns of the first row."""
    table = pd.read_parquet(root / "metadata.parquet")
    for name, value in columns.items():
        table.at[0, name] = value
    table.to_parquet(root / "metadata.parquet", index=False)


@pytest.fixture
def archive(official_archive, tmp_path):
    return BigEarthNetArchive(official_archive(tmp_path / "ben", patches=4))


def test_radar_keeps_its_decimals_and_its_order(shared_archive):
    ours = BigEarthNetArchive(shared_archive)
    theirs = BigEarthNetV2(shared_archive, split="train")
    i = int(np.flatnonzero(ours.index.patch_id == theirs.metadata_df.patch_id[0])[0])
    vv, _ = raw(ours.path(i, "VV"))
    vh, _ = raw(ours.path(i, "VH"))
    np.testing.assert_array_equal(ours[i]["image_s1"], np.stack([vv, vh]))
    upstream = theirs[0]["image_s1"].numpy()  # whole dB, VH first: why this class exists
    assert np.abs(upstream[1] - vv).max() > 0.3
    assert np.abs(upstream[0] - vh).max() < 0.51


def test_bands_come_native_and_by_name(shared_archive):
    archive = BigEarthNetArchive(shared_archive)
    arrays = archive.read(0)
    assert list(arrays) == ["VV", "VH", *archive.s2_bands]
    assert {b: a.shape[0] for b, a in arrays.items()} == archive.band_sizes
    for band in ("B01", "B02", "B8A", "VH"):
        expected, _ = raw(archive.path(0, band))
        np.testing.assert_array_equal(arrays[band], expected)


def test_nan_and_infinity_are_refused_not_cast(archive):
    path = archive.path(0, "VH")
    for bad in (np.nan, np.inf):
        array, _ = raw(path)
        array[3, 4] = bad
        rewrite(path, array)
        with pytest.raises(PatchError, match=r"1 pixels are NaN or infinite .*_VH\.tif"):
            archive.read(0)


def test_values_no_record_can_hold_are_refused(archive):
    array, _ = raw(archive.path(0, "VV"))
    rewrite(archive.path(0, "VV"), array + 500)
    with pytest.raises(PatchError, match="no backscatter"):
        archive.read(0)
    array, _ = raw(archive.path(1, "B02"))
    array[0, 0] = 40000
    rewrite(archive.path(1, "B02"), array)
    with pytest.raises(PatchError, match="40000 is above 32767"):
        archive.read(1)


def test_missing_band_is_named(archive):
    archive.path(2, "B05").unlink()
    with pytest.raises(PatchError, match=r"file is missing .*_B05\.tif"):
        archive.read(2)


def test_stray_file_changes_no_channel_and_is_reported(archive):
    shutil.copy(archive.path(0, "B02"), archive.path(0, "B02").with_name("B02 (1).tif"))
    assert archive[0]["image_s2"].shape[0] == 12
    assert [p.kind for p in archive.check(0)] == ["stray file"]


def test_wrong_size_and_type_are_refused(archive):
    array, _ = raw(archive.path(0, "B02"))
    rewrite(archive.path(0, "B02"), array[::2, ::2])
    with pytest.raises(PatchError, match="60x60 pixels instead of 120x120"):
        archive.read(0)
    array, _ = raw(archive.path(1, "VV"))
    rewrite(archive.path(1, "VV"), array.astype(np.int16))
    with pytest.raises(PatchError, match="int16 values instead of float32"):
        archive.read(1)


def test_truncated_file_is_named(archive):
    path = archive.path(0, "B03")
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(PatchError, match=r"truncated\?.*_B03\.tif"):
        archive.read(0)


def test_geotransform_must_agree_with_the_name(archive):
    path = archive.path(3, "B08")
    array, profile = raw(path)
    rewrite(path, array, transform=profile["transform"] @ rasterio.Affine.translation(120, 0))
    with pytest.raises(PatchError, match="its name says"):
        archive.read(3)


def test_patch_without_a_value_is_refused(archive):
    for band in archive.s2_bands:
        array, _ = raw(archive.path(0, band))
        rewrite(archive.path(0, band), np.zeros_like(array))
    with pytest.raises(PatchError, match="zero everywhere"):
        archive.read(0)


def test_map_codes_outside_the_nomenclature_are_ignored(archive):
    path = archive.path(0, "map")
    codes, _ = raw(path)
    codes = codes.copy()
    codes[:2], codes[2:4], codes[4:6] = 0, 122, 999
    rewrite(path, codes)
    classes = archive.read_map(0)
    assert (classes[:6] == 255).all()
    assert set(np.unique(classes[6:])) <= set(range(19))
    assert archive.check(0) == []


def test_labels_must_be_the_classes_of_the_map(archive):
    path = archive.path(0, "map")
    codes, _ = raw(path)
    rewrite(path, np.full_like(codes, 523))
    (problem,) = archive.check(0)
    assert problem.kind == "labels"
    assert "only in the map: ['Marine waters']" in problem.detail


def test_maps_are_optional(official_archive, tmp_path):
    archive = BigEarthNetArchive(official_archive(tmp_path, patches=4, with_maps=False))
    assert archive.read_map(0) is None
    assert (archive[0]["mask"] == 255).all()
    assert archive.check(0) == []


def test_sound_archive_has_no_problems(shared_archive):
    archive = BigEarthNetArchive(shared_archive)
    assert [p for i in range(len(archive)) for p in archive.check(i)] == []


def test_band_sets(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=4, bands=("B02", "B03", "B04", "B08"))
    with pytest.raises(ArchiveError, match=r"B01, .*ask for bands=10m"):
        BigEarthNetArchive(root)
    assert BigEarthNetArchive(root, "10m").s2_bands == ("B02", "B03", "B04", "B08")
    assert BigEarthNetArchive(root, ["B08", "B02"]).s2_bands == ("B02", "B08")
    with pytest.raises(ArchiveError, match="unknown Sentinel-2 band 'B10'"):
        BigEarthNetArchive(root, ["B10"])


def test_snow_and_cloud_are_left_out_unless_asked_for(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=8)
    edit_metadata(root, contains_seasonal_snow=True)
    assert len(BigEarthNetArchive(root)) == 7
    assert len(BigEarthNetArchive(root, include_snow_cloud=True)) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["Lava"]}, r"labels outside the nomenclature \(Lava\)"),
        ({"labels": []}, "have no labels"),
        ({"split": "holdout"}, "have a split that is none of"),
        ({"s1_name": "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_1_3"}, "name another place than their s1_name"),
        ({"patch_id": "S2A_33UUP"}, "do not follow the official naming"),
    ],
)
def test_contradictory_metadata_is_refused(official_archive, tmp_path, change, message):
    root = official_archive(tmp_path, patches=4)
    edit_metadata(root, **change)
    with pytest.raises(ArchiveError, match=message):
        BigEarthNetArchive(root)


def test_row_without_folder_is_refused(archive):
    shutil.rmtree(archive.path(0, "VV").parent)
    with pytest.raises(ArchiveError, match=r"1 of 4 patches .* have no folder under"):
        BigEarthNetArchive(archive.root)


def test_place_in_two_splits_is_refused(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=8)
    table = pd.read_parquet(root / "metadata.parquet")
    twin = table.iloc[[0]].assign(
        patch_id=table.patch_id[0].replace("20170613", "20170713"),
        s1_name=table.s1_name[0].replace("20170613", "20170713"),
        split="test",
    )
    pd.concat([table, twin]).to_parquet(root / "metadata.parquet", index=False)
    with pytest.raises(ArchiveError, match="also in another split"):
        BigEarthNetArchive(root)


def test_missing_and_unextracted_archives(tmp_path):
    with pytest.raises(ArchiveError, match="no such folder"):
        BigEarthNetArchive(tmp_path / "nowhere")
    (tmp_path / "BigEarthNet-S1.tar.gzaa").touch()
    with pytest.raises(ArchiveError, match=r"extract BigEarthNet-S1\.tar\.gzaa there first"):
        BigEarthNetArchive(tmp_path)


def test_fingerprint_notices_a_changed_label(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=4)
    before = BigEarthNetArchive(root).fingerprint()
    assert BigEarthNetArchive(root).fingerprint() == before
    edit_metadata(root, labels=["Pastures"])
    assert BigEarthNetArchive(root).fingerprint() != before


@pytest.mark.skipif(not REAL.exists(), reason="the real pairs are not beside this checkout")
def test_real_pairs_pass_every_check():
    mini = BigEarthNetArchive(REAL / "ben_v2_mini", "10m")
    assert len(mini) == 56
    assert [p for i in range(56) for p in mini.check(i)] == []
    full = BigEarthNetArchive(REAL / "ben_12band", include_snow_cloud=True)
    assert [p for i in range(len(full)) for p in full.check(i)] == []
    assert len(BigEarthNetArchive(REAL / "ben_12band")) == len(full) - 1
