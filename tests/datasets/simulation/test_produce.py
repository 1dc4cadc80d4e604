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

RECIPES = {"bigearthnet": (60, 3), "copernicus_bench": (16, 3), "sen12ms": (24, 1)}


def content(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dataset", RECIPES)
def test_the_reader_finds_nothing_wrong(simulated, dataset):
    archive = open_archive(dataset, simulated[dataset])
    assert len(archive) == RECIPES[dataset][0]
    assert set(verify(simulated[dataset], dataset)["kind"]) <= {"resampled"}
    assert set(archive.index["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("dataset", ["bigearthnet", "sen12ms"])
def test_interrupted_it_goes_on_to_the_same_files(simulated, tmp_path, monkeypatch, dataset):
    """In more processes, and with another order of sets; tests/faults kills it in other ways."""
    root, recipe = tmp_path / "again", RECIPES[dataset]

    def interrupted(path, content):
        if path.name == ".part-2.json":
            raise KeyboardInterrupt
        write_json(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mosaic.utils.forked.available_cores", lambda: 1)
        patch.setattr("mosaic.datasets.simulation.produce.write_json", interrupted)
        simulate_archive(dataset, root, *recipe)
    assert not root.exists() and len(list(tmp_path.glob(".again.partial/again/.part-*.json"))) == 2
    code = "import pathlib; from mosaic.datasets.registry import simulate_archive; "
    code += f"simulate_archive({dataset!r}, pathlib.Path({str(root)!r}), *{recipe})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "1"}, check=True)
    assert content(root) == content(simulated[dataset])
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_a_second_process_waits_for_the_archive_of_the_first(simulated, tmp_path, capsys, wait_until):
    root = tmp_path / "archive"
    arguments = ("bigearthnet", root, *RECIPES["bigearthnet"])
    second = threading.Thread(target=simulate_archive, args=arguments)
    with lock(tmp_path / ".archive.partial"):
        second.start()
        told = []
        wait_until(lambda: told.append(capsys.readouterr().err) or "waiting for it" in "".join(told))
        shutil.copytree(simulated["bigearthnet"], root)
    second.join(30)
    assert f"reused {root}" in capsys.readouterr().err
    assert content(root) == content(simulated["bigearthnet"])


@pytest.mark.parametrize("dataset", RECIPES)
def test_a_finished_archive_is_reused_and_anything_else_refused(simulated, dataset, tmp_path):
    patches, seed = RECIPES[dataset]
    before = {path: path.stat().st_mtime_ns for path in simulated[dataset].rglob("*")}
    assert simulate_archive(dataset, simulated[dataset], patches, seed) == simulated[dataset]
    with pytest.raises(ArchiveError, match="holds something else"):
        simulate_archive(dataset, simulated[dataset], patches, seed + 1)
    assert {path: path.stat().st_mtime_ns for path in simulated[dataset].rglob("*")} == before
    with pytest.raises(ArchiveError, match="too few"):
        simulate_archive(dataset, tmp_path / "tiny", 3, seed)


def test_an_archive_of_another_version_is_made_anew(simulated, tmp_path, capsys):
    root, recipe = shutil.copytree(simulated["bigearthnet"], tmp_path / "old"), RECIPES["bigearthnet"]
    write_json(root / SIMULATION_NOTE, {**read_json(root / SIMULATION_NOTE), "version": 0})
    (root / "BigEarthNet-S2" / "stray.tif").touch()
    assert content(simulate_archive("bigearthnet", root, *recipe)) == content(simulated["bigearthnet"])
    assert f"{root} is of another version, made anew" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
