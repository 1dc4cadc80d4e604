from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mosaic.report.parameters import parameters_of, validate
from mosaic.utils.errors import SettingsError

CELL = """\
# How it runs.
steps: int = 300  # optimiser steps
rate: float = 1.0e-3  # AdamW, peak
methods: list[str] = [  # which rows of the table
    "random",
    "mosaic",
]
flag: bool = True
kind: Literal["a", "b"] = "a"  # '#' inside is no comment"""


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[[str], Path]:
    def write(source: str) -> Path:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "02_pretrain.ipynb")
        return tmp_path / "02_pretrain.ipynb"

    return write


def test_names_defaults_types_and_comments_are_read(notebook: Callable[[str], Path]) -> None:
    found = parameters_of(notebook(CELL))
    assert list(found) == ["steps", "rate", "methods", "flag", "kind"]
    assert found["rate"].default == 1e-3
    assert found["rate"].annotation == "float"
    assert found["rate"].comment == "AdamW, peak"
    assert found["methods"].default == ["random", "mosaic"]
    assert found["methods"].comment == "which rows of the table"
    assert found["flag"].comment == ""
    assert found["kind"].comment == "'#' inside is no comment"


def test_a_notebook_without_the_cell_has_none() -> None:
    assert parameters_of(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])) == {}


@pytest.mark.parametrize("line", ["x = 1", "x: int = len('a')", "import os", "x: int"])
def test_only_annotated_literals_are_allowed(notebook: Callable[[str], Path], line: str) -> None:
    with pytest.raises(SettingsError, match=r"02_pretrain.*name: type = literal"):
        parameters_of(notebook(line))


@pytest.mark.parametrize(
    "values", [{"rate": 1}, {"rate": 0.5, "steps": 2}, {"methods": []}, {"kind": "b"}, {"flag": False}]
)
def test_fitting_values_pass(notebook: Callable[[str], Path], values: dict[str, Any]) -> None:
    validate({"02_pretrain": values}, [notebook(CELL)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, r"02_pretrain has no parameter 'stepz'; did you mean 'steps'\?"),
        ({"steps": 2.5}, "02_pretrain: steps must be int, e.g. 300, but got float 2.5"),
        ({"steps": True}, "steps must be int.*got bool True"),
        ({"flag": 1}, "flag must be bool"),
        ({"methods": "mosaic"}, r"methods must be list\[str\].*got str 'mosaic'"),
        ({"kind": "c"}, "kind must be Literal"),
        ({"rate": "1e-3"}, r"YAML reads 1e-3 as text, write 1\.0e-03"),
        ({"rate": "0.1"}, "write it without quotes"),
        ({"rate": None}, "rate must be float.*NoneType"),
    ],
)
def test_what_does_not_fit_is_named(
    notebook: Callable[[str], Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        validate({"02_pretrain": values}, [notebook(CELL)])


def test_all_problems_are_told_at_once(notebook: Callable[[str], Path]) -> None:
    with pytest.raises(SettingsError) as raised:
        validate({"02_pretrain": {"stepz": 3, "flag": "yes"}, "02_pretrian": {}}, [notebook(CELL)])
    assert len(str(raised.value).splitlines()) == 3
    assert "did you mean '02_pretrain'?" in str(raised.value)


def test_a_file_that_is_no_notebook_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("not json")
    with pytest.raises(SettingsError, match=r"x\.ipynb"):
        parameters_of(tmp_path / "x.ipynb")
