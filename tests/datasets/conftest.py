import pytest

from mosaic.datasets.registry import simulate_archive

#: Dataset -> number of patches and seed of its simulated archive.
RECIPES = {"bigearthnet": (60, 3), "copernicus_bench": (16, 3), "sen12ms": (24, 1)}


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Dataset -> folder of a simulated archive that no test changes."""
    root = tmp_path_factory.mktemp("simulated")
    return {name: simulate_archive(name, root / name, *recipe) for name, recipe in RECIPES.items()}
