import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio

from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.verify import format_table, verify


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


ROWS = {  # case -> change of the table, kinds of the notes, number of faults, what is printed
    "scene in two splits": (
        lambda t: t.assign(
            split=t.split.mask((t.split == "train").cumsum().eq(1) & (t.split == "train"), "test")
        ),
        ["scene"],
        0,
        "33UUP_20170613 has patches in test, train",
    ),
    "no test patch": (
        lambda t: t[t.split != "test"],
        ["folder", "folder", "split"],
        0,
        "no patch in split test",
    ),
    "no sound row": (lambda t: t.assign(split="holdout"), None, 8, "0 pairs checked, 8 faults"),
}


@pytest.mark.parametrize("case", ROWS)
def test_oddities_of_the_table_are_notes_and_it_is_listed_without_a_sound_row(
    official_archive, tmp_path, case
):
    change, notes, faults, message = ROWS[case]
    root = official_archive(tmp_path / "ben", patches=8)
    change(pd.read_parquet(root / "metadata.parquet")).to_parquet(root / "metadata.parquet", index=False)
    problems = verify(root)
    assert notes is None or sorted(problems.kind[problems.note]) == notes
    assert problems.kind[~problems.note].tolist() == ["split"] * faults
    assert message in format_table(problems)


def test_real_archives_are_sound(real_data):
    ten_metre, all_bands = verify(real_data / "ben_v2_mini", bands="10m"), verify(real_data / "ben_12band")
    assert ten_metre.empty
    assert all_bands["note"].all()
    assert (ten_metre.attrs["pairs"], all_bands.attrs["pairs"]) == (56, 6)
