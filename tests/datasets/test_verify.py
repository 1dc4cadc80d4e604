import shutil

import pandas as pd
import pytest

from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.verify import format_table, verify


def change_metadata(root, change):
    change(pd.read_parquet(root / "metadata.parquet")).to_parquet(root / "metadata.parquet", index=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_faults_of_metadata_folders_and_files_are_in_one_table(official_archive, tmp_path, workers):
    root = official_archive(tmp_path / "ben", patches=8)
    sound = BigEarthNetArchive(root)
    ids = sound.ids
    change_metadata(root, lambda t: t.assign(split=t["split"].where(t["patch_id"] != ids[1], "holdout")))
    shutil.rmtree(sound.path(2, "s1"))
    sound.path(3, "B11").unlink()
    (sound.path(7, "s2") / "notes.txt").touch()

    problems = verify(root, workers=workers)
    faults = problems[~problems.note]
    assert dict(zip(faults.patch_id, faults.kind, strict=True)) == {
        ids[1]: "split",
        ids[2]: "missing folder",
        ids[3]: "missing file",
    }
    assert faults.path[2] == sound.path(3, "B11")
    assert {"stray file", "folder"} <= set(problems[problems.note].kind)
    text = format_table(problems)
    assert text.count("FAULT") == 3
    assert "6 pairs checked, 3 faults in 3 patches" in text


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            lambda t: t.assign(split=["test", *t["split"][1:]]),
            ("33UUP_20170613 has patches in test, train", "no fault, 1 notes (1 scene)"),
        ),
        (
            lambda t: t[t["split"] != "test"],
            ("no patch in split test", "no fault, 3 notes (2 folder; 1 split)"),
        ),
        (lambda t: t.assign(split="holdout"), ("0 pairs checked, 8 faults in 8 patches (8 split)",)),
    ],
    ids=["scene in two splits", "no test patch", "no sound row"],
)
def test_oddities_of_the_table_are_told_even_without_a_sound_row(
    official_archive, tmp_path, change, messages
):
    root = official_archive(tmp_path / "ben", patches=8)
    change_metadata(root, change)
    table = format_table(verify(root))
    assert all(message in table for message in messages)


def test_real_archives_are_sound(real_data):
    ten_metre, all_bands = verify(real_data / "ben_v2_mini", bands="10m"), verify(real_data / "ben_12band")
    assert ten_metre.empty
    assert all_bands["note"].all()
    assert (ten_metre.attrs["pairs"], all_bands.attrs["pairs"]) == (56, 6)
