import pytest

from mosaic.datasets.registry import open_archive, simulate_archive
from mosaic.utils.errors import ArchiveError

RECIPES = {"bigearthnet": (60, 3), "sen12ms": (24, 1)}


def content(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dataset", RECIPES)
def test_the_reader_finds_nothing_wrong(simulated, dataset):
    archive = open_archive(dataset, simulated[dataset])
    assert len(archive) == RECIPES[dataset][0]
    assert [problem for i in range(len(archive)) for problem in archive.check(i)] == archive.notes() == []
    assert set(archive.index["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("dataset", RECIPES)
def test_a_seed_gives_the_same_files_whatever_the_number_of_processes(
    simulated, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("mosaic.datasets.simulation.produce.available_cores", lambda: 1)
    again = simulate_archive(dataset, tmp_path / "again", *RECIPES[dataset])
    assert content(again) == content(simulated[dataset])


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
