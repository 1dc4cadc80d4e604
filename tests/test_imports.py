"""Imports run one way through the rooms, in the order in which data flow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "mosaic"
#: A room imports from itself and from rooms before it. ``__init__`` and ``__main__`` may import any.
ROOMS = (
    *("utils", "methods", "settings", "datasets", "store", "transforms", "models", "losses", "evaluation"),
    *("training", "experiments", "analysis", "plots", "report"),
)
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY or path.stem in ROOMS)


#: An import of a room, wherever in a module it stands; ruff allows one module a statement.
IMPORT = re.compile(r"^ *(?:from|import) mosaic(?:\.| import )(\w+)", re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_module_imports_only_from_rooms_before_it(path):
    room, source = path.relative_to(LIBRARY).parts[0].removesuffix(".py"), path.read_text()
    later = ROOMS[ROOMS.index(room) + 1 :]
    assert not set(IMPORT.findall(source)) & set(later)
    assert "TYPE_CHECKING" not in source  # would hold a circle open unseen


def test_every_room_has_its_place_in_the_order_and_its_tests():
    rooms, tests = (
        {path.name for path in folder.iterdir() if any(path.glob(pattern))}
        for folder, pattern in ((LIBRARY, "*.py"), (Path(__file__).parent, "test_*.py"))
    )
    assert rooms == tests - {"faults"} == set(ROOMS) - {"methods", "settings"}


def test_an_arrow_that_runs_back_is_seen():
    source = "    from mosaic.plots import scores\nimport mosaic.report.html\nfrom mosaic import losses"
    assert IMPORT.findall(source) == ["plots", "report", "losses"]


def every_module(room: str) -> str:
    return "import " + ", ".join(f"mosaic.{room}.{path.stem}" for path in (LIBRARY / room).glob("[a-z]*.py"))


READ = "from mosaic.store.reader import Path, PackedStore; PackedStore(Path(sys.argv[1])).read([3])"
LIGHT = {  # what a process does, one after the other -> its code, and what it must not have loaded by then:
    # it would start late, or not at all
    "help": ("from mosaic.__main__ import parser; parser()", "torch torchgeo pandas lightning matplotlib"),
    "choosing a dataset": ("import mosaic.datasets.registry", "torch torchgeo rasterio"),
    "reading packed data": (READ, "torch torchgeo rasterio"),
    "scoring": ("import mosaic.analysis.results", "torch torchvision timm lightning matplotlib seaborn"),
    "drawing": (every_module("plots"), "torch"),
    "training": (every_module("training"), "torchgeo rasterio"),
    "evaluating": (every_module("evaluation"), "torchgeo rasterio"),
}


@pytest.fixture(scope="module")
def loaded(packed):
    """What a process does -> the modules that it and what came before have loaded."""
    code = "import sys; " + "; ".join(f"{code}; print(*sys.modules)" for code, _ in LIGHT.values())
    command = [sys.executable, "-c", code, str(packed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(LIGHT, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("case", LIGHT)
def test_a_process_loads_no_more_than_it_needs(case, loaded):
    assert not set(LIGHT[case][1].split()) & set(loaded[case].split())
