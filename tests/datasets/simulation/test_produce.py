import os
import shutil
import subprocess
import sys
import threading

import pytest

from mosaic.datasets.registry import open_archive, simulate_archive
from mosaic.datasets.simulation.produce import SIMULATION_NOTE
from mosaic.datasets.verify import verify
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import lock, read_json, write_json

LAYOUTS = ("bigearthnet", "copernicus_bench", "sen12ms")
BENCH = "copernicus_bench"  # of the fewest files
PATCHES, SEED = 24, 3  # of the archives that all tests share


def content(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reader_finds_nothing_wrong(simulated, layout):
    archive = open_archive(layout, simulated(layout))
    assert len(archive) == PATCHES
    assert set(verify(archive.root, layout)["kind"]) <= {"resampled"}
    assert set(archive.index["split"]) == {"train", "validation", "test"}


def test_interrupted_it_goes_on_to_the_same_files(simulated, tmp_path, monkeypatch):
    """In more processes; tests/faults kills it in other ways."""
    root = tmp_path / "again"

    def interrupted(path, content):
        if path.name == ".part-2.json":
            raise KeyboardInterrupt
        write_json(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mosaic.utils.forked.available_cores", lambda: 1)
        patch.setattr("mosaic.datasets.simulation.produce.write_json", interrupted)
        simulate_archive(BENCH, root, PATCHES, SEED)
    assert not root.exists() and len(list(tmp_path.glob(".again.partial/again/.part-*.json"))) == 2
    simulate_archive(BENCH, root, PATCHES, SEED)
    assert content(root) == content(simulated(BENCH))
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


PARTS = f"""
import pathlib, sys
from mosaic.datasets.simulation import bigearthnet, sen12ms
sen12ms._GRID, sen12ms._SCENE_SIDE = 2, 384
for layout, plan, write in (
    ("bigearthnet", bigearthnet._plan, bigearthnet._write_tile),
    ("copernicus_bench", bigearthnet._plan, bigearthnet._write_stacked_tile),
    ("sen12ms", sen12ms._plan, sen12ms._write_scene),
):
    write(pathlib.Path(sys.argv[1], layout), plan({PATCHES}, {SEED})[1])
"""


def test_a_part_is_the_same_without_the_others_and_with_another_order_of_sets(simulated, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", PARTS, str(tmp_path)], env=environment, check=True)
    for layout in LAYOUTS:
        part = content(tmp_path / layout)
        assert part and part.items() <= content(simulated(layout)).items()


def test_a_second_process_waits_for_the_archive_of_the_first(simulated, tmp_path, capsys, wait_until):
    root = tmp_path / "archive"
    second = threading.Thread(target=simulate_archive, args=(BENCH, root, PATCHES, SEED))
    with lock(tmp_path / ".archive.partial"):
        second.start()
        told = []
        wait_until(lambda: told.append(capsys.readouterr().err) or "waiting for it" in "".join(told))
        shutil.copytree(simulated(BENCH), root)
    second.join(30)
    assert f"reused {root}" in capsys.readouterr().err
    assert content(root) == content(simulated(BENCH))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_finished_archive_is_reused_and_anything_else_refused(simulated, layout, tmp_path):
    root = simulated(layout)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert simulate_archive(layout, root, PATCHES, SEED) == root
    with pytest.raises(ArchiveError, match="holds something else"):
        simulate_archive(layout, root, PATCHES, SEED + 1)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="file holds something else"):
        simulate_archive(layout, tmp_path / "file", PATCHES, SEED)
    with pytest.raises(ArchiveError, match="too few"):
        simulate_archive(layout, tmp_path / "tiny", 3, SEED)


def test_an_archive_of_another_version_is_made_anew(simulated, tmp_path, capsys):
    root = shutil.copytree(simulated(BENCH), tmp_path / "old")
    write_json(root / SIMULATION_NOTE, {**read_json(root / SIMULATION_NOTE), "version": 0})
    (root / "stray.tif").touch()
    (tmp_path / "link").symlink_to(root)  # to another disk, perhaps
    simulate_archive(BENCH, tmp_path / "link", PATCHES, SEED)
    assert content(root) == content(simulated(BENCH))
    assert f"{root} is of another version, made anew" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old"]
