import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.verify import format_table, verify
from mosaic.utils.errors import ArchiveError

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def test_sound_archive(shared_archive):
    problems = verify(shared_archive)
    assert problems.empty
    assert list(problems) == ["patch_id", "kind", "detail", "path", "note"]
    assert format_table(problems) == "24 pairs checked, no fault, 0 notes"


@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_of_fault_is_in_the_table(official_archive, tmp_path, workers):
    """Faults of the metadata, of folders and of files are found in one go, each at its patch."""
    root = official_archive(tmp_path / "ben", patches=8)
    sound = BigEarthNetArchive(root)
    ids = sound.index.patch_id
    table = pd.read_parquet(root / "metadata.parquet").set_index("patch_id", drop=False)
    table.at[ids[0], "labels"] = ["Lava"]
    table.at[ids[1], "split"] = "holdout"
    table.to_parquet(root / "metadata.parquet", index=False)
    shutil.rmtree(sound.path(2, "VV").parent)
    sound.path(3, "B11").unlink()
    sound.path(4, "B02").write_bytes(b"")
    with rasterio.open(sound.path(5, "VH"), "r+") as file:
        file.write(np.full((120, 120), np.inf, np.float32), 1)
    with rasterio.open(sound.path(6, "map"), "r+") as file:
        file.write(np.full((120, 120), 523, np.uint16), 1)
    (sound.path(7, "B02").parent / "notes.txt").touch()

    problems = verify(root, workers=workers)
    faults = problems[~problems.note]
    assert list(zip(faults.patch_id, faults.kind, strict=True)) == [
        (ids[0], "labels"),
        (ids[1], "split"),
        (ids[2], "missing folder"),
        (ids[3], "missing file"),
        (ids[4], "unreadable"),
        (ids[5], "not finite"),
        (ids[6], "labels"),
    ]
    assert faults.path[3] == sound.path(3, "B11")
    assert {"stray file", "folder"} <= set(problems[problems.note].kind)
    text = format_table(problems)
    assert text.count("FAULT") == 7
    assert "5 pairs checked, 7 faults in 7 patches" in text


def test_location_in_two_splits_is_a_fault_and_scene_a_note(official_archive, tmp_path):
    root = official_archive(tmp_path / "ben", patches=8)
    table = pd.read_parquet(root / "metadata.parquet")
    scene = table[table.split == "train"].index
    table.loc[scene[0], "split"] = "test"
    table.to_parquet(root / "metadata.parquet", index=False)
    problems = verify(root)
    assert problems.kind.tolist() == ["scene"]
    assert problems.note.all()
    assert "33UUP_20170613 has patches in test, train" in format_table(problems)


def test_empty_split_and_folders_without_a_row_are_notes(official_archive, tmp_path):
    root = official_archive(tmp_path / "ben", patches=8)
    table = pd.read_parquet(root / "metadata.parquet")
    table[table.split != "test"].to_parquet(root / "metadata.parquet", index=False)
    problems = verify(root)
    assert sorted(problems.kind) == ["folder", "folder", "split"]
    assert problems.note.all()
    assert "no patch in split test" in format_table(problems)


def test_archive_without_a_sound_row_is_still_listed(official_archive, tmp_path):
    root = official_archive(tmp_path / "ben", patches=4)
    table = pd.read_parquet(root / "metadata.parquet").assign(split="holdout")
    table.to_parquet(root / "metadata.parquet", index=False)
    problems = verify(root)
    assert (problems[~problems.note].kind == "split").sum() == 4
    assert "0 pairs checked, 4 faults" in format_table(problems)


def test_what_is_no_archive_raises(tmp_path):
    with pytest.raises(ArchiveError, match="is not an archive"):
        verify(tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="the real pairs are not beside this checkout")
def test_real_archives_are_sound():
    ten_metre, all_bands = verify(REAL / "ben_v2_mini", bands="10m"), verify(REAL / "ben_12band")
    assert ten_metre.empty
    assert all_bands["note"].all()
    assert (ten_metre.attrs["pairs"], all_bands.attrs["pairs"]) == (56, 6)
