"""TorchGeo's defects, each shown on files in the true format and mended; and every wrong input."""

import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets import geotiff, sentinel12
from mosaic.datasets.archive import PatchError
from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError


def raw(path):
    with rasterio.open(path) as file:
        return file.read(1), file.profile


def rewrite(path, array, **changes):
    _, profile = raw(path)
    profile.update(height=array.shape[0], width=array.shape[1], dtype=array.dtype, **changes)
    with rasterio.open(path, "w", **profile) as file:
        file.write(array, 1)


def set_pixels(path, value, where=np.s_[3, 4]):
    array, _ = raw(path)
    array[where] = value
    rewrite(path, array)


def edit_metadata(root, **columns):
    """Overwrite columns of the first row."""
    table = pd.read_parquet(root / "metadata.parquet")
    for name, value in columns.items():
        table.at[0, name] = value
    table.to_parquet(root / "metadata.parquet", index=False)


@pytest.fixture
def root(official_archive, tmp_path):
    return official_archive(tmp_path / "ben", patches=4)


@pytest.fixture
def archive(root):
    return BigEarthNetArchive(root)


@pytest.fixture
def first(archive):
    """Number of the pair that is TorchGeo's first of the training split."""
    name = pd.read_parquet(archive.root / "metadata.parquet").query("split == 'train'").patch_id.iloc[0]
    return int(np.flatnonzero(archive.index.patch_id == name)[0])


def upstream(archive):
    return BigEarthNetV2(archive.root, split="train")


# --- what TorchGeo does (B1 ... of its defects) and we do not ---


def test_b1_b3_radar_keeps_its_decimals_and_vv_comes_before_vh(archive, first):
    vv, vh = (raw(archive.path(first, band))[0] for band in ("VV", "VH"))
    np.testing.assert_array_equal(archive[first]["image_s1"], [vv, vh])
    theirs = upstream(archive)[0]["image_s1"]
    assert torch.equal(theirs, theirs.round())
    assert np.abs(theirs[0] - vh).max() <= 0.5  # VH where VV is documented


def test_b2_nan_and_infinity_are_refused_before_any_cast(archive, first):
    set_pixels(archive.path(first, "VH"), np.nan)
    assert upstream(archive)[0]["image_s1"][0, 3, 4] == 0  # dB, brighter than any roof
    with pytest.raises(PatchError, match=r"1 of 14400 values are NaN or infinite.*_VH\.tif"):
        archive.read(first)
    set_pixels(archive.path(first, "VH"), -np.inf)
    with pytest.raises(PatchError, match="NaN or infinite"):
        archive[first]


def test_b4_codes_without_a_class_are_ignored(archive, first):
    set_pixels(archive.path(first, "map"), [[0], [122], [999]], np.s_[:3])
    theirs = upstream(archive)[0]["mask"]
    assert theirs[0, :3, 0].tolist() == [0, 122, 999]  # no data has become urban fabric
    ours = archive[first]["mask"]
    assert (ours[0, :3] == 255).all()
    assert set(ours.unique().tolist()) <= {*range(19), 255}
    assert torch.equal(ours[0, 5:], theirs[0, 5:])  # elsewhere they agree


def test_b5_missing_and_stray_files_change_no_channel(archive, first):
    folder = archive.path(first, "B02").parent
    shutil.copy(archive.path(first, "B02"), folder / "B02 (1).tif")
    assert len(upstream(archive)[0]["image_s2"]) == 13
    assert len(archive[first]["image_s2"]) == 12
    assert [(p.kind, p.note) for p in archive.check(first)] == [("stray file", True)]
    (folder / "B02 (1).tif").unlink()
    archive.path(first, "B05").unlink()
    assert len(upstream(archive)[0]["image_s2"]) == 11
    with pytest.raises(PatchError, match=r"the file is missing.*_B05\.tif") as caught:
        archive.read(first)
    assert caught.value.patch_id == archive.index.patch_id[first]
    assert caught.value.path == archive.path(first, "B05")


def test_b6_wrong_sizes_are_refused(archive, first):
    rewrite(archive.path(first, "B02"), raw(archive.path(first, "B02"))[0][::2, ::2])
    assert upstream(archive)[0]["image_s2"].shape == (12, 120, 120)
    with pytest.raises(PatchError, match="shape"):
        archive[first]


def test_b7_coarse_bands_are_interpolated_as_real_numbers(archive, first):
    native, _ = raw(archive.path(first, "B05"))
    ours = archive[first]["image_s2"][archive.s2_bands.index("B05")]
    # Half a coarse pixel off its centre, bilinear weights are 3/4 and 1/4 along each axis.
    block = native[4:6, 7:9].astype(float)
    expected = np.array([0.75, 0.25]) @ block @ np.array([0.75, 0.25])
    assert ours[9, 15].item() == pytest.approx(expected)
    theirs = upstream(archive)[0]["image_s2"][4]
    assert torch.equal(theirs, theirs.round())


def test_b8_maps_are_optional_and_empty_folders_are_not_an_archive(archive, root, tmp_path):
    shutil.rmtree(root / "Reference_Maps")
    with pytest.raises(FileNotFoundError):
        upstream(archive)
    without = BigEarthNetArchive(root)
    assert without.read_map(0) is None
    assert (without[0]["mask"] == 255).all()
    assert without.check(0) == []
    shutil.rmtree(root / "BigEarthNet-S1")
    (root / "BigEarthNet-S1").mkdir()
    with pytest.raises(ArchiveError, match="missing folder: 4 patches"):
        BigEarthNetArchive(root)


def test_b9_unextracted_archives_are_named(root):
    for key, folder in (("s1", "BigEarthNet-S1"), ("s2", "BigEarthNet-S2"), ("maps", "Reference_Maps")):
        shutil.rmtree(root / folder)
        for name in BigEarthNetV2.metadata_locs[key]["files"]:
            (root / name).touch()
    assert len(BigEarthNetV2(root)) == 2  # and fails when it is read
    with pytest.raises(ArchiveError, match=r"extract BigEarthNet-S1\.tar\.gzaa, .* there first"):
        BigEarthNetArchive(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["Lava"]}, "unknown label 'Lava'"),
        ({"labels": ["Pasture"]}, "unknown label 'Pasture'; did you mean 'Pastures'"),
        ({"labels": []}, "at least one label"),
        ({"labels": None}, "at least one label"),
        ({"split": "holdout"}, "split 'holdout' is not one of train, validation, test"),
        ({"s1_name": "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_1_3"}, "name different tiles, columns or rows"),
        ({"s1_name": "S1A_33UUP"}, "s1_name 'S1A_33UUP' does not follow the official naming"),
        ({"patch_id": "S2A_33UUP"}, "patch_id does not follow the official naming"),
        ({"patch_id": "S2A_MSIL2A_20171313T101031_N9999_R022_T33UUP_00_03"}, "official naming"),
        ({"patch_id": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UIP_00_03"}, "official naming"),
    ],
)
def test_b10_contradictory_metadata_is_refused(root, change, message):
    edit_metadata(root, **change)
    with pytest.raises(ArchiveError, match=message):
        BigEarthNetArchive(root)


def test_b10_numbers_count_from_the_end_and_stop_there(archive):
    assert torch.equal(archive[-1]["image_s1"], archive[3]["image_s1"])
    with pytest.raises(IndexError):
        archive[4]


def test_sample_is_torchgeos_protocol(archive):
    sample = archive[0]
    assert {name: (tuple(v.shape), v.dtype) for name, v in sample.items()} == {
        "image_s1": ((2, 120, 120), torch.float32),
        "image_s2": ((12, 120, 120), torch.float32),
        "mask": ((1, 120, 120), torch.int64),
        "label": ((19,), torch.int64),
    }
    named = {archive.class_names[c] for c in sample["label"].nonzero().flatten()}
    assert named == set(archive.index.labels[0])


# --- reading ---


def test_bands_come_native_and_by_name(archive):
    arrays = archive.read(0)
    assert list(arrays) == ["VV", "VH", *archive.s2_bands]
    assert {band: array.shape[0] for band, array in arrays.items()} == archive.band_sizes
    for band, array in arrays.items():
        expected, _ = raw(archive.path(0, band))
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype


def moved(path, **changes):
    array, profile = raw(path)
    rewrite(path, array, **{"transform": profile["transform"], **changes})


EAST = rasterio.Affine.translation(120, 0)
FAULTS = {  # kind -> band, what is done to its file, message
    "range": ("VV", lambda p: set_pixels(p, 500), "to 500 dB, expected -327 to 327 dB"),
    "range of DN": ("B02", lambda p: set_pixels(p, 40000), "to 40000 DN, expected 0 to 32767 DN"),
    "unreadable": ("B03", lambda p: p.write_bytes(b""), r"truncated.*_B03\.tif"),
    "unreadable header": ("B03", lambda p: p.write_bytes(p.read_bytes()[:300]), r"truncated.*_B03\.tif"),
    "unreadable pixels": ("B03", lambda p: p.write_bytes(p.read_bytes()[:9000]), r"truncated.*_B03\.tif"),
    "missing file": ("map", lambda p: p.unlink(), "the file is missing.*_reference_map"),
    "shape": ("B02", lambda p: rewrite(p, raw(p)[0][::2, ::2]), r"\(1, 60, 60\), expected \(1, 120, 120\)"),
    "dtype": ("VV", lambda p: rewrite(p, raw(p)[0].astype(np.int16)), "are int16, expected float32"),
    "place": ("B08", lambda p: moved(p, crs="EPSG:32631"), "its name says EPSG:"),
    "place on the ground": (
        "B08",
        lambda p: moved(p, transform=raw(p)[1]["transform"] @ EAST),
        "the geotransform is .* its name says",
    ),
    "labels": ("map", lambda p: set_pixels(p, 523, np.s_[:]), r"only in the map \['Marine waters'\]"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_file_is_refused_and_named(archive, kind):
    band, damage, message = FAULTS[kind]
    damage(archive.path(3, band))
    with pytest.raises(PatchError, match=message) as caught:
        archive.read(3)
    assert kind.startswith(caught.value.kind)
    assert [problem.kind for problem in archive.check(3)] == [caught.value.kind]


@pytest.mark.parametrize(("sensor", "value"), [("s1", 0), ("s1", -12), ("s2", 0)])
def test_patch_without_content_is_refused_and_one_constant_band_is_not(archive, sensor, value):
    bands = archive.s1_bands if sensor == "s1" else archive.s2_bands
    set_pixels(archive.path(0, bands[0]), value, np.s_[:])
    assert (np.asarray(archive.read(0)[bands[0]]) == value).all()
    for band in bands:
        set_pixels(archive.path(0, band), value, np.s_[:])
    what = "zero" if value == 0 else "one and the same value"
    with pytest.raises(PatchError, match=rf"band is {what} everywhere"):
        archive.read(0)


def test_packed_data_do_not_depend_on_which_reader_read_the_files(shared_archive, tmp_path, monkeypatch):
    archive = BigEarthNetArchive(shared_archive)
    by_strips = pack(archive, tmp_path / "strips", workers=1)
    taken = []
    monkeypatch.setattr(geotiff, "read_strips", taken.append)
    by_rasterio = pack(archive, tmp_path / "rasterio", workers=1)
    assert len(taken) == 15 * len(archive)
    assert by_rasterio.manifest == by_strips.manifest


# --- checking ---


def test_check_lists_every_fault_of_a_patch(archive):
    archive.path(0, "B05").unlink()
    archive.path(0, "map").unlink()
    set_pixels(archive.path(0, "VV"), np.nan)
    kinds = {problem.path.name.rsplit("_", 1)[1]: problem.kind for problem in archive.check(0)}
    assert kinds == {"VV.tif": "not finite", "B05.tif": "missing file", "map.tif": "missing file"}


def test_long_time_between_the_sensors_is_noted(root):
    old = pd.read_parquet(root / "metadata.parquet").s1_name[0]
    new = old.replace("20170613", "20170620")
    folders = [root / "BigEarthNet-S1" / name.rsplit("_", 3)[0] / name for name in (old, new)]
    for band in ("VV", "VH"):
        folders[1].mkdir(parents=True, exist_ok=True)
        (folders[0] / f"{old}_{band}.tif").rename(folders[1] / f"{new}_{band}.tif")
    edit_metadata(root, s1_name=new)
    archive = BigEarthNetArchive(root)
    i = archive.index.s1_name.tolist().index(new)
    assert [(p.kind, p.note) for p in archive.check(i)] == [("days apart", True)]


# --- opening ---


def test_index_says_when_and_where(archive):
    row = archive.index.set_index("patch_id").loc["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_00_05"]
    assert (row.date, row.s1_date) == ("2017-06-13", "2017-06-13")
    assert (row.tile, row.column, row.row) == ("33UUP", 0, 5)
    assert (row.scene, row.location) == ("33UUP_20170613", "33UUP_0_5")
    assert archive.index.patch_id.is_monotonic_increasing


def test_band_sets(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=4, bands=("B02", "B03", "B04", "B08"))
    with pytest.raises(ArchiveError, match=r"no files of bands B01, .*ask for bands=10m"):
        BigEarthNetArchive(root)
    with pytest.raises(ArchiveError, match="no files of bands B11, only of B02, B03, B04, B08"):
        BigEarthNetArchive(root, ["B11", "B02"])
    assert BigEarthNetArchive(root, "10m").s2_bands == ("B02", "B03", "B04", "B08")
    assert BigEarthNetArchive(root, ["B08", "B02"]).s2_bands == ("B02", "B08")
    for bands, message in (
        (["B10"], "unknown Sentinel-2 band 'B10'"),
        (["VV"], "VV is always read"),
        ([], "no Sentinel-2 band"),
    ):
        with pytest.raises(ArchiveError, match=message):
            BigEarthNetArchive(root, bands)


def test_a_band_that_one_patch_lacks_is_that_patch_s_fault(root, archive):
    for i in (0, 3):
        archive.path(i, "B09").unlink()
    assert BigEarthNetArchive(root).s2_bands == archive.s2_bands


def test_snow_and_cloud_are_left_out_unless_asked_for(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=8)
    edit_metadata(root, contains_seasonal_snow=True)
    assert len(BigEarthNetArchive(root)) == 7
    assert len(BigEarthNetArchive(root, include_snow_cloud=True)) == 8
    table = pd.read_parquet(root / "metadata.parquet")
    table[1:].to_parquet(root / "metadata.parquet", index=False)
    table[:1].to_parquet(root / "metadata_for_patches_with_snow_cloud_or_shadow.parquet", index=False)
    assert len(BigEarthNetArchive(root)) == 7
    assert len(BigEarthNetArchive(root, include_snow_cloud=True)) == 8


def test_rows_without_folder_are_refused(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=24)
    for folder in sorted((root / "BigEarthNet-S2").glob("*/*"))[:12]:
        shutil.rmtree(folder)
    with pytest.raises(ArchiveError, match=r"(?s)missing folder: 12 patches.* and 2 more"):
        BigEarthNetArchive(root)


@pytest.mark.parametrize(
    ("month", "split", "message"),
    [("07", "test", "33UUP_0_3 is in more than one split"), ("06", "train", "lists this patch twice")],
)
def test_a_location_in_two_splits_and_a_patch_listed_twice_are_refused(root, month, split, message):
    table = pd.read_parquet(root / "metadata.parquet")
    names = {key: table[key][0].replace("201706", f"2017{month}") for key in ("patch_id", "s1_name")}
    twin = table.iloc[[0]].assign(**names, split=split)
    pd.concat([table, twin]).to_parquet(root / "metadata.parquet", index=False)
    with pytest.raises(ArchiveError, match=message):
        BigEarthNetArchive(root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path, table: shutil.rmtree(path.parent), "there is no folder"),
        (
            lambda path, table: table.drop(columns="s1_name").to_parquet(path),
            r"lacks the column\(s\) s1_name",
        ),
        (lambda path, table: table[:0].to_parquet(path), "lists no patch"),
        (lambda path, table: path.write_bytes(b"PAR1 not really"), "cannot be read as parquet"),
        (lambda path, table: path.unlink(), r"metadata\.parquet missing"),
    ],
)
def test_missing_damaged_and_foreign_metadata(root, spoil, message):
    path = root / "metadata.parquet"
    spoil(path, pd.read_parquet(path))
    with pytest.raises(ArchiveError, match=message):
        BigEarthNetArchive(root)


def test_problems_can_be_collected_instead(root, archive):
    shutil.rmtree(archive.path(0, "VV").parent)
    problems = []
    rest = BigEarthNetArchive(root, problems=problems)
    assert [problem.patch_id for problem in problems] == [archive.index.patch_id[0]]
    assert list(rest.index.patch_id) == list(archive.index.patch_id[1:])


def test_fingerprint_is_the_same_from_several_processes(shared_archive, monkeypatch):
    alone = BigEarthNetArchive(shared_archive).fingerprint()
    monkeypatch.setattr(sentinel12, "_FORK_FROM", 1)
    assert BigEarthNetArchive(shared_archive).fingerprint() == alone


def test_fingerprint_notices_what_changes(root, archive):
    before = archive.fingerprint()
    assert BigEarthNetArchive(root).fingerprint() == before
    assert BigEarthNetArchive(root, "10m").fingerprint() != before
    set_pixels(archive.path(2, "B07"), 7)  # in place: neither size nor folder change
    changed = archive.fingerprint()
    assert changed != before
    edit_metadata(root, labels=["Pastures"])
    assert BigEarthNetArchive(root).fingerprint() not in (before, changed)
    archive.path(2, "B07").unlink()
    assert archive.fingerprint() != changed
