"""Files in the true format, what the reader makes of them, and every wrong input."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch

from mosaic.datasets import sentinel12
from mosaic.datasets.archive import PatchError
from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.bigearthnet_layout import shared_ground
from mosaic.datasets.registry import DATASETS, open_archive
from mosaic.datasets.verify import format_table, verify
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError, PackError


def raw(path):
    with rasterio.open(path) as file:
        return file.read(1)


def rewrite(path, change, **profile):
    with rasterio.open(path) as file:
        array, profile = change(file.read(1)), {**file.profile, **profile}
    profile |= {"height": array.shape[0], "width": array.shape[1], "dtype": array.dtype}
    with rasterio.open(path, "w", **profile) as file:
        file.write(array, 1)


def set_pixels(path, value, where=np.s_[3, 4], **profile):
    array = raw(path)
    array[where] = value
    rewrite(path, lambda _: array, **profile)


def change_metadata(root, change):
    change(pd.read_parquet(root / "metadata.parquet")).to_parquet(root / "metadata.parquet", index=False)


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


# --- TorchGeo's sample, mended: decimals of dB, VV before VH, codes without a class, real bilinear bands ---


def test_sample_holds_the_values_of_the_files(archive):
    set_pixels(archive.path(0, "map"), [[0], [122], [999]], np.s_[:3])
    sample = archive[0]
    assert {name: (tuple(v.shape), v.dtype) for name, v in sample.items()} == {
        "image_s1": ((2, 120, 120), torch.float32),
        "image_s2": ((12, 120, 120), torch.float32),
        "mask": ((1, 120, 120), torch.int64),
        "label": ((19,), torch.int64),
    }
    np.testing.assert_array_equal(sample["image_s1"], [raw(archive.path(0, b)) for b in ("VV", "VH")])
    # Half a coarse pixel off its centre, bilinear weights are 3/4 and 1/4 along each axis.
    native, weights = raw(archive.path(0, "B05")), np.array([0.75, 0.25])
    expected = weights @ native[4:6, 7:9].astype(float) @ weights
    assert sample["image_s2"][archive.s2_bands.index("B05"), 9, 15].item() == pytest.approx(expected)
    assert (sample["mask"][0, :3] == 255).all()
    named = {archive.class_names[c] for c in sample["label"].nonzero().flatten()}
    assert {archive.class_names[c] for c in sample["mask"].unique() if c != 255} == named
    assert named == set(archive.index.labels[0])
    assert torch.equal(archive[-4]["image_s1"], sample["image_s1"])
    with pytest.raises(IndexError):
        archive[4]


def test_stray_files_change_no_channel(archive):
    folder = archive.path(0, "s2")
    shutil.copy(archive.path(0, "B02"), folder / "B02 (1).tif")
    assert len(archive[0]["image_s2"]) == 12
    assert [(p.kind, p.note) for p in archive.check(0)] == [("stray file", True)]


def test_maps_are_optional_and_empty_folders_are_not_an_archive(root):
    shutil.rmtree(root / "Reference_Maps")
    without = BigEarthNetArchive(root)
    assert without.read_map(0) is None
    assert (without[0]["mask"] == 255).all()
    assert without.check(0) == []
    shutil.rmtree(root / "BigEarthNet-S1")
    (root / "BigEarthNet-S1").mkdir()
    with pytest.raises(ArchiveError, match="missing folder: 4 patches"):
        BigEarthNetArchive(root)


SNOW, CLOUD = "contains_seasonal_snow", "contains_cloud_or_shadow"


def twin(table, month, split):
    names = {key: table[key][0].replace("201706", f"2017{month}") for key in ("patch_id", "s1_name")}
    return pd.concat([table, table.iloc[[0]].assign(**names, split=split)])


FIRST = [  # columns of the first row, message
    ({"labels": ["Lava"]}, "unknown label 'Lava'"),
    ({"labels": ["Pasture"]}, "unknown label 'Pasture'; did you mean 'Pastures'"),
    ({"labels": []}, "at least one label"),
    ({"labels": None}, "at least one label"),
    ({"split": "holdout"}, "split 'holdout' is not one of train, validation, test"),
    ({"s1_name": "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_1_3"}, "name different tiles, columns or rows"),
    ({"s1_name": "S1A_33UUP"}, "s1_name 'S1A_33UUP' does not follow the official naming"),
    ({"patch_id": "S2A_33UUP"}, "patch_id does not follow the official naming"),
    ({"patch_id": None}, "patch_id does not follow the official naming"),
    ({"s1_name": None}, "s1_name '.*' does not follow the official naming"),
    ({"split": None}, "split '.*' is not one of train, validation, test"),
    ({"patch_id": "S2A_MSIL2A_20171313T101031_N9999_R022_T33UUP_00_03"}, "official naming"),
    ({"patch_id": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UIP_00_03"}, "official naming"),
]
TABLES = [  # change of the table, message
    (lambda t: t.assign(split=[["train"]] * 4), "split .*train.* is not one of train, validation, test"),
    (lambda t: twin(t, "07", "test"), "33UUP_0_3 is in more than one split"),
    (lambda t: twin(t, "06", "train"), "lists this patch twice"),
    (lambda t: t.drop(columns="s1_name"), r"lacks the column\(s\) s1_name"),
    (lambda t: t[:0], "lists no patch"),
    (lambda t: t.assign(**{SNOW: [None, False, False, False]}), f"1 of 4 values of {SNOW} are neither"),
    (lambda t: t.assign(**{CLOUD: pd.array([True, None, None, False], "boolean")}), f"2 of 4 .* {CLOUD} are"),
    (lambda t: t.assign(**{CLOUD: "False"}), f"4 of 4 values of {CLOUD} are neither true nor false"),
    (lambda t: t.assign(**{SNOW: [0.5, 0, 0, 0]}), f"1 of 4 values of {SNOW} are neither true nor false"),
]
FILES = [  # what is done to the folder, message
    (shutil.rmtree, "there is no folder"),
    (lambda root: (root / "metadata.parquet").write_bytes(b"PAR1 not really"), "cannot be read as parquet"),
    (lambda root: (root / "metadata.parquet").unlink(), r"metadata\.parquet missing"),
    (lambda root: [p.rename(f"{p}.tar.gz") for p in root.glob("*-S?")], r"extract BigEarthNet-S1\.tar\.gz, "),
    (lambda root: [p.rename(p.with_suffix(".TIF")) for p in root.rglob("S2*.tif")], r"from \.TIF to \.tif"),
]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *((lambda root, c=columns: edit_metadata(root, **c), message) for columns, message in FIRST),
        *((lambda root, c=change: change_metadata(root, c), message) for change, message in TABLES),
        *FILES,
    ],
)
def test_a_wrong_table_or_folder_is_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(ArchiveError, match=message):
        BigEarthNetArchive(root)


def test_rows_without_a_name_are_left_out_where_faults_are_listed(root):
    edit_metadata(root, patch_id=None)
    problems = []
    assert len(BigEarthNetArchive(root, problems=problems)) == 3 and len(problems) == 1


# --- reading ---


def test_bands_come_native_and_by_name(archive):
    arrays = archive.read(0)
    assert list(arrays) == ["VV", "VH", *archive.s2_bands]
    assert {band: array.shape[0] for band, array in arrays.items()} == archive.band_sizes
    for band, array in arrays.items():
        expected = raw(archive.path(0, band))
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype


EAST = rasterio.Affine(10, 0, 601200, 0, -10, 6992820)  # of the pair, by the side of a patch
FAULTS = {  # kind -> band, what is done to its file, message
    "not finite": ("VH", lambda p: set_pixels(p, np.nan), r"1 of 14400 values are NaN or infinite.*_VH\.tif"),
    "range": ("VV", lambda p: set_pixels(p, 500), "to 500 dB, expected -327 to 327 dB"),
    "unit": ("VH", lambda p: rewrite(p, lambda a: 10 ** (a / 10)), "looks like linear power, expected are"),
    "unit, sign": ("VV", lambda p: rewrite(p, np.abs), "looks like dB without their sign"),
    "range of codes": ("map", lambda p: set_pixels(p, 2000), r"2000 \(CORINE codes\), expected 0 to 999"),
    "range of DN": ("B02", lambda p: set_pixels(p, 40000), "to 40000 DN, expected 0 to 32767 DN"),
    "unreadable": ("B03", lambda p: p.write_bytes(b""), r"truncated.*_B03\.tif"),
    "missing file": ("map", lambda p: p.unlink(), "the file is missing.*_reference_map"),
    "shape": ("B02", lambda p: rewrite(p, lambda a: a[::2, ::2]), r"\(1, 60, 60\), expected \(1, 120, 120\)"),
    "dtype": ("VV", lambda p: rewrite(p, np.int16), "are int16, expected float32"),
    "place": ("B08", lambda p: rewrite(p, np.array, crs="EPSG:32631"), "its name says EPSG:"),
    "place, east": ("B08", lambda p: rewrite(p, np.array, transform=EAST), "geotransform are .* its"),
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


# --- what names tell ---


def test_patches_of_neighbouring_tiles_that_overlap_in_two_splits_are_found():
    """34TEP and 34TEN begin 100,020 m apart, so row 83 of one reaches into row 0 of the other."""
    places = [("34TEP", 10, 83), ("34TEN", 10, 0), ("34TEN", 11, 0), ("34TEP", 10, 82), ("31TEH", 10, 0)]
    index = pd.DataFrame(places, columns=["tile", "column", "row"])
    for splits, expected in (("train train train test test", []), ("train test train test test", [(0, 1)])):
        assert [*map(tuple, shared_ground(index.assign(split=splits.split())))] == expected


@pytest.mark.parametrize(
    ("was", "now", "kind", "detail"),
    [
        ("1SDV_20170613", "1SDV_20170620", "days apart", "are 7 days apart, officially at most 6"),
        ("N9999", "N0500", "offset", "processing baseline 05.00 have an offset of 1000"),
    ],
)
def test_other_days_and_processing_baselines_are_noted(root, was, now, kind, detail):
    for path in sorted(root.rglob(f"*{was}*"), reverse=True):  # files before their folders
        path.rename(path.with_name(path.name.replace(was, now)))
    names = ["patch_id", "s1_name"]
    change_metadata(root, lambda t: t.assign(**{name: t[name].str.replace(was, now) for name in names}))
    problems = verify(root, workers=1)
    assert problems["kind"].tolist() == [kind] * 4 and problems["note"].all()
    assert detail in problems["detail"][0]
    assert f"no fault, 4 notes (4 {kind}, 100.0 % of the pairs)" in format_table(problems)


def test_index_says_when_and_where(archive):
    row = archive.index.set_index("patch_id").loc["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_00_05"]
    assert (row.date, row.s1_date) == ("2017-06-13", "2017-06-13")
    assert (row.tile, row.column, row.row) == ("33UUP", 0, 5)
    assert (row.scene, row.location) == ("33UUP_20170613", "33UUP_0_5")
    assert archive.index.patch_id.is_monotonic_increasing


def test_band_sets(official_archive, tmp_path):
    root = official_archive(tmp_path, patches=4, bands=("B02", "B03", "B04", "B08"))
    assert BigEarthNetArchive(root, "10m").s2_bands == ("B02", "B03", "B04", "B08")
    assert BigEarthNetArchive(root, ["B08", "B02"]).s2_bands == ("B02", "B08")
    for bands, message in (
        ("all", r"no files of bands B01, .*ask for bands=10m"),
        (["B11", "B02"], "no files of bands B11, only of B02, B03, B04, B08"),
        (["B10"], "unknown Sentinel-2 band 'B10'"),
        (["VV"], "unknown Sentinel-2 band 'VV'"),
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
    table = pd.read_parquet(root / "metadata.parquet")
    change_metadata(root, lambda t: t.astype({SNOW: "boolean"}))
    assert len(BigEarthNetArchive(root)) == 7
    assert len(BigEarthNetArchive(root, include_snow_cloud=True)) == 8
    table[1:].to_parquet(root / "metadata.parquet", index=False)
    table[:1].to_parquet(root / "metadata_for_patches_with_snow_cloud_or_shadow.parquet", index=False)
    assert len(BigEarthNetArchive(root)) == 7
    assert len(BigEarthNetArchive(root, include_snow_cloud=True)) == 8


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
    known = {before, changed}
    for column, value in (("labels", ["Pastures"]), ("country", "Finland")):
        edit_metadata(root, **{column: value})
        known.add(BigEarthNetArchive(root).fingerprint())
    assert len(known) == 4
    archive.path(2, "B07").unlink()
    assert archive.fingerprint() != changed


# --- no data, and what is absent ---


def test_values_without_data_are_noted_with_their_share_and_do_not_count_as_values(root, archive, tmp_path):
    """A strip of 0 dB with the nodata tag 0 in both polarisations, and half an optical patch."""
    ids, before = archive.index.patch_id, pack(archive, tmp_path / "sound", workers=1).layout.statistics
    for band in archive.s1_bands:
        set_pixels(archive.path(0, band), 0, np.s_[:24], nodata=0)
    for band in archive.s2_bands:
        for i, share in ((1, 0.4), (2, 0.8)):
            set_pixels(archive.path(i, band), 0, np.s_[: int(share * archive.band_sizes[band])])
    table = verify(root, workers=1).set_index("patch_id")
    notes = table[table.note]
    assert notes.kind.to_dict() == {ids[0]: "no data", ids[1]: "no data"}
    assert "20.0 % of the Sentinel-1 values" in notes.detail[ids[0]]
    assert "40.0 % of the Sentinel-2 values" in notes.detail[ids[1]]
    assert table[~table.note].kind.to_dict() == {ids[2]: "no data"}
    assert "2 notes (2 no data, 50.0 % of the pairs)" in format_table(table.reset_index())
    strict = verify(root, workers=1, most_nodata=0.3)
    assert strict[~strict.note].patch_id.tolist() == [ids[1], ids[2]]
    with pytest.raises(PackError, match=r"80.0 % of the Sentinel-2 values are no data, accepted are 50 %"):
        pack(BigEarthNetArchive(root), tmp_path / "packed", workers=1)
    store = pack(BigEarthNetArchive(root), tmp_path / "packed", on_bad_patch="skip", workers=1)
    assert store.index.nodata_share.tolist() == pytest.approx([0.2, 0.4, 0])
    assert store.layout.statistics["VH"]["std"] < before["VH"]["std"] * 1.1
    reduced = pack(
        BigEarthNetArchive(root), tmp_path / "reduced", on_bad_patch="skip", workers=1, most_pixels=60
    )
    assert reduced.index.nodata_share.tolist() == pytest.approx([0.2, 0.4, 0])
    set_pixels(archive.path(3, "B02"), 0)  # a single pixel, of which nothing is said where it is accepted
    assert (len(verify(root, workers=1)), len(verify(root, workers=1, most_nodata=0))) == (3, 4)


def test_loops_of_links_end_in_one_sentence(root, archive):
    folder = archive.path(0, "s2")
    shutil.rmtree(folder)
    folder.symlink_to(folder)
    archive = BigEarthNetArchive(root)
    with pytest.raises(PatchError, match=r"cannot be opened \(Too many levels of symbolic links\)"):
        archive.read(0)
    assert {problem.kind for problem in archive.check(0)} == {"unreadable"}
    archive.fingerprint()
    (root / "BigEarthNet-S2" / "loop").symlink_to(root / "BigEarthNet-S2")
    assert len(BigEarthNetArchive(root)) == 4


def test_a_relative_path_is_that_of_now_and_may_look_like_an_address(root, monkeypatch):
    root.rename(root.with_name("ben:v2"))
    monkeypatch.chdir(root.parent)
    archive = open_archive("bigearthnet", "ben:v2")
    monkeypatch.chdir("/")
    assert archive.read(0)


def test_an_unreadable_folder_is_named(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    assert DATASETS["sen12ms"]  # its module is found before folders cannot be listed
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ArchiveError, match="no folder that can be read"):
        open_archive("bigearthnet", root)
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ArchiveError, match="Permission denied"):
        open_archive("sen12ms", root)
