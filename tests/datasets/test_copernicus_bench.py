"""A hand-made archive in the true format of Copernicus-Bench's 5 %, and what the reader makes of it."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
from torchgeo.datasets import CopernicusBenchBigEarthNetS1, CopernicusBenchBigEarthNetS2

from mosaic.datasets.archive import PatchError
from mosaic.datasets.copernicus_bench import CopernicusBenchArchive
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.registry import open_archive
from mosaic.datasets.simulation import bigearthnet as simulation
from mosaic.datasets.simulation.produce import write_geotiff
from mosaic.datasets.verify import verify
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError

FOLDER = "bigearthnet_s1s2"
S1 = "S1A_IW_GRDH_1SDV_20180420T063852/{0}/{0}_allbands.tif"
S2 = "S2B_MSIL2A_20180421T114349_N9999_R123_T29UPU/{0}/{0}_allbands.tif"
#: List -> column, row and labels of its pairs, all of tile 29UPU, whose corner is (600000, 5900040).
PAIRS = {
    "train": [(77, 6, "Pastures,Inland wetlands"), (5, 43, "Marine waters")],
    "val": [(8, 9, "Arable land")],
    "test": [(60, 70, "Arable land,Pastures")],
}
#: As the real header has them, in its order.
CLASSES = [f'"{name}"' if "," in name else name for name in CORINE.classes]


def files_of(column, row):
    s1 = S1.format(f"S1A_IW_GRDH_1SDV_20180420T063852_29UPU_{column}_{row}")
    s2 = S2.format(f"S2B_MSIL2A_20180421T114349_N9999_R123_T29UPU_{column:02d}_{row:02d}")
    return s1, s2


def write_tif(path, layers, column, row):
    write_geotiff(path, layers, (600000 + 1200 * column, 5900040 - 1200 * row), 32629)


def list_of(root, split):
    return root / FOLDER / f"multilabel-{split}.csv"


def edit(root, old, new, split="train"):
    path = list_of(root, split)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    for split, pairs in PAIRS.items():
        lines = ["s1_path,s2_path," + ",".join(CLASSES)]
        for column, row, labels in pairs:
            s1, s2 = files_of(column, row)
            radar = random.normal([[[-11]], [[-19]]], 2, (2, 120, 120)).astype(np.float32)
            optical = random.integers(200, 9000, (12, 120, 120)).astype(np.uint16)
            write_tif(root / FOLDER / "BigEarthNet-S1-5%" / s1, radar, column, row)
            write_tif(root / FOLDER / "BigEarthNet-S2-5%" / s2, optical, column, row)
            lines.append(",".join([s1, s2, *("01"[name in labels.split(",")] for name in CLASSES)]))
        (root / FOLDER).mkdir(exist_ok=True)
        list_of(root, split).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "bench")


def first(archive):
    return archive.index["column"].tolist().index(77)


def file_of(root, source):
    """Return a file of the first pair of the training list."""
    return root / FOLDER / f"BigEarthNet-{source.upper()}-5%" / files_of(77, 6)[source == "s2"]


def rewrite(root, source, change, column=77):
    with rasterio.open(file_of(root, source)) as file:
        layers = file.read()
    write_tif(file_of(root, source), change(layers), column, 6)


def only(root, name):
    """Leave nothing but what a download left."""
    shutil.rmtree(root / FOLDER)
    (root / name).touch()


def test_pairs_are_those_of_torchgeo_with_place_and_date_from_their_names(written):
    archive = open_archive("copernicus_bench", written)
    assert archive.index["split"].value_counts().to_dict() == {"train": 2, "validation": 1, "test": 1}
    row, sample = archive.index.iloc[first(archive)], archive[first(archive)]
    assert (row["date"], row["s1_date"], row["tile"]) == ("2018-04-21", "2018-04-20", "29UPU")
    assert (row["scene"], row["location"]) == ("29UPU_20180421", "29UPU_77_6")
    assert row["labels"] == ["Pastures", "Inland wetlands"]
    for source, kind in (("s1", CopernicusBenchBigEarthNetS1), ("s2", CopernicusBenchBigEarthNetS2)):
        theirs = kind(str(written), "train")[0]
        np.testing.assert_array_equal(sample[f"image_{source}"], theirs["image"])
        np.testing.assert_array_equal(sample["label"], theirs["label"])
    assert archive.centre("29UPU") == pytest.approx((-6.7, 52.7), abs=0.1)
    assert archive.read_map(0) is None and (sample["mask"] == 255).all()
    assert len({CopernicusBenchArchive(written, bands).fingerprint() for bands in ("all", "B04")}) == 1
    assert list(CopernicusBenchArchive(written, "10m").read(0)) == ["VV", "VH", "B02", "B03", "B04", "B08"]


def test_columns_are_read_by_name(root, written):
    for split in PAIRS:
        _, *rows = list_of(root, split).read_text().splitlines()
        lines = [",".join(["s1_path", "s2_path", *CLASSES[::-1]])]
        for s1, s2, *labels in (row.split(",") for row in rows):
            lines.append(",".join([s1, s2, *labels[::-1]]))
        list_of(root, split).write_text("\n".join(lines))
    pd.testing.assert_frame_equal(CopernicusBenchArchive(root).index, CopernicusBenchArchive(written).index)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: edit(root, ",Pastures,", ",Meadows,"), "differs in 'Meadows', 'Pastures'"),
        (lambda root: edit(root, "s2_path", "path"), "differs in 'path', 's2_path'"),
        (lambda root: edit(root, ",0\n", ",2\n"), r"train.csv, row 2: labels must be 0 or 1"),
        (lambda root: edit(root, ",1\n", ",0\n"), "at least one label"),
        (lambda root: edit(root, "29UPU_77_6/", "29UPU_77_7/"), "s1_name '.*' does not follow the official"),
        (lambda root: edit(root, "29UPU_77_6", "29UPU_78_6"), "name different tiles, columns or rows"),
        (lambda r: edit(r, "08_09", "77_06", "val") or edit(r, "8_9", "77_6", "val"), "more than one"),
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
    ("spoil", "kind", "message"),
    [
        (lambda root: file_of(root, "s1").unlink(), "missing file", "the file is missing"),
        (lambda root: os.truncate(file_of(root, "s2"), 200_000), "unreadable", "truncated or no TIFF"),
        (lambda root: os.truncate(file_of(root, "s1"), 0), "unreadable", "truncated or no TIFF"),
        (lambda root: rewrite(root, "s2", lambda image: image[:10]), "shape", r"\(10, 120, 120\)"),
        (lambda root: rewrite(root, "s1", lambda image: image[:1]), "shape", r"\(1, 120, 120\)"),
        (lambda root: rewrite(root, "s1", np.array, column=78), "place", "its name says EPSG:32629"),
    ],
)
def test_a_pair_with_a_wrong_file_is_named_and_left_out(root, tmp_path, spoil, kind, message):
    spoil(root)
    archive = CopernicusBenchArchive(root)
    with pytest.raises(PatchError, match=message):
        archive.read(first(archive))
    table = verify(root, "copernicus_bench", workers=1).query("~note")
    assert table[["patch_id", "kind"]].to_numpy().tolist() == [[archive.ids[first(archive)], kind]]
    store = pack(archive, tmp_path / "packed", on_bad_patch="skip", workers=1)
    assert (len(store), store.manifest.counts["skipped"]) == (3, 1)


def test_a_list_that_lost_its_last_rows_is_noted(root, written):
    assert "folder" not in {note.kind for note in CopernicusBenchArchive(written).notes()}
    path = list_of(root, "train")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    details = [note.detail for note in CopernicusBenchArchive(root).notes() if note.kind == "folder"]
    assert details == ["1 folders belong to no patch that was checked"] * 2  # of each sensor


def test_how_coarser_bands_were_resampled_is_noted(root):
    def repeat(image):
        for step, layers in ((2, [4, 5, 6, 8, 10, 11]), (6, [0, 9])):
            image[layers] = image[layers, ::step, ::step].repeat(step, 1).repeat(step, 2)
        return image

    rewrite(root, "s2", repeat)
    (note,) = [note.detail for note in CopernicusBenchArchive(root).notes() if note.kind == "resampled"]
    assert note.startswith("B01, B05, B06, B07, B8A, B09, B11, B12 came resampled")
    assert "of 4 patches looked at, 1 are blocks of equal pixels" in note
    assert "resampled" not in {note.kind for note in CopernicusBenchArchive(root, "10m").notes()}


def test_published_scores_stand_beside_a_real_test_split_of_the_official_size_only(written, root):
    known = CopernicusBenchArchive(written).reference()
    found = known.published_for(map(str, range(5991)))
    assert {"model": "CROMA, frozen", "input": "S2", "ap_micro": 0.764} in found["rows"]
    assert "micro mAP" in found["source"] and len(found["rows"]) == 10
    assert known.published_for(map(str, range(5990)))["rows"] == []
    (root / "simulation.json").write_text("{}")
    assert CopernicusBenchArchive(root).reference().published_for(map(str, range(5991)))["rows"] == []


def test_simulated_pairs_are_those_of_bigearthnet(tmp_path):
    """The same pixels, whether in one file a band at its own size, or stacked with coarser ones repeated."""
    tile = simulation._plan(12, 0)[-1]
    rows = simulation._write_tile(tmp_path, tile)
    assert simulation._write_stacked_tile(tmp_path, tile) == rows
    for row in rows:
        for source, patch, parts in (("s1", row["s1_name"], 3), ("s2", row["patch_id"], 2)):
            folder, scene = f"BigEarthNet-{source.upper()}", patch.rsplit("_", parts)[0]
            bands = CopernicusBenchBigEarthNetS2.all_bands if source == "s2" else ("VV", "VH")
            with rasterio.open(
                tmp_path / FOLDER / f"{folder}-5%/{scene}/{patch}/{patch}_allbands.tif"
            ) as file:
                for band, layer in zip(bands, file.read(), strict=True):
                    with rasterio.open(tmp_path / folder / scene / patch / f"{patch}_{band}.tif") as alone:
                        image, step = alone.read(1), 120 // alone.height
                        assert (alone.bounds, alone.crs, alone.nodata) == (file.bounds, file.crs, file.nodata)
                    np.testing.assert_array_equal(layer, image.repeat(step, 0).repeat(step, 1))
