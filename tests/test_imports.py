"""Imports run one way through the rooms, in the order in which data flow."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "mosaic"
#: A room imports from itself and from rooms before it. ``__init__`` and ``__main__`` may import any.
ROOMS = (
    *("utils", "methods", "settings", "datasets", "store", "transforms", "models", "losses", "evaluation"),
    *("training", "experiments", "analysis", "plots", "report"),
)
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY or path.stem in ROOMS)


def imported_rooms(source: str) -> set[str]:
    """Return the rooms of ``mosaic`` that a module imports, wherever in it the statement stands."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "mosaic":
            names += [f"mosaic.{alias.name}" for alias in node.names if alias.name in ROOMS]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("mosaic.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_module_imports_only_from_rooms_before_it(path):
    room = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    later = ROOMS[ROOMS.index(room) + 1 :]
    assert not imported_rooms(path.read_text()) & set(later)
    assert "TYPE_CHECKING" not in path.read_text()  # would hold a circle open unseen


def test_every_room_has_its_place_in_the_order_and_its_tests():
    rooms, tests = (
        {path.name for path in folder.iterdir() if any(path.glob(pattern))}
        for folder, pattern in ((LIBRARY, "*.py"), (Path(__file__).parent, "test_*.py"))
    )
    assert rooms == tests - {"faults"} == set(ROOMS) - {"methods", "settings"}


def test_an_arrow_that_runs_back_is_seen():
    assert imported_rooms("def f():\n    from mosaic.plots import scores") == {"plots"}
    assert imported_rooms("import mosaic.report.html, json") == {"report"}
    assert imported_rooms("from mosaic import settings, load") == {"settings"}
