"""The parameters of notebooks: what they declare, and whether the values of a run fit.

Papermill itself only warns about an unknown name and injects whatever it is given.
"""

import ast
import io
import re
import tokenize
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mosaic.utils.errors import SettingsError, suggest

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: annotation = default  # comment``."""

    default: Any
    annotation: str
    comment: str


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises:
        SettingsError: when it is missing or is no notebook.
    """
    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path} as a notebook: {error}") from error


def parameters_of(notebook: Path | NotebookNode) -> dict[str, Parameter]:
    """Return what a notebook's ``parameters`` cell declares, in its order; empty when it has none.

    Raises:
        SettingsError: when the cell holds anything but annotated literals.
    """
    content = read_notebook(notebook) if isinstance(notebook, Path) else notebook
    cell = next((c for c in content.cells if "parameters" in c.metadata.get("tags", [])), None)
    if cell is None:
        return {}
    where = notebook.stem if isinstance(notebook, Path) else "the notebook"
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(cell.source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.parse(cell.source).body:
        try:
            if (
                not isinstance(node, ast.AnnAssign)
                or not isinstance(node.target, ast.Name)
                or node.value is None
            ):
                raise ValueError
            default = ast.literal_eval(node.value)
        except ValueError:
            raise SettingsError(
                f"{where}: the parameters cell may hold only `name: type = literal  # comment`, "
                f"but line {node.lineno} is `{ast.unparse(node)}`"
            ) from None
        comment = comments.get(node.lineno) or comments.get(node.end_lineno or 0, "")
        found[node.target.id] = Parameter(default, ast.unparse(node.annotation), comment)
    return found


def validate(parameters: Mapping[str, Mapping[str, Any]], notebooks: Sequence[Path]) -> None:
    """Check the parameters of a run against what its notebooks declare, before anything starts.

    Args:
        parameters: for each notebook, by file stem, the values that replace its defaults.
        notebooks: the notebooks of the run.

    Raises:
        SettingsError: listing every name that is not declared, with the nearest one that is, and every value
            of the wrong type.
    """
    stems = [notebook.stem for notebook in notebooks]
    problems = [
        f"no notebook is called {stem!r}{suggest(stem, stems)}" for stem in parameters if stem not in stems
    ]
    for notebook in notebooks:
        declared = parameters_of(notebook)
        for name, value in parameters.get(notebook.stem, {}).items():
            if name not in declared:
                problems.append(f"{notebook.stem} has no parameter {name!r}{suggest(name, declared)}")
            elif not _fits(value, declared[name].annotation):
                problems.append(f"{notebook.stem}: {_mismatch(name, declared[name], value)}")
    if problems:
        raise SettingsError("\n".join(problems))


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value is of the annotated type: int passes for float, bool never for a number."""
    adapter = TypeAdapter(eval(annotation, vars(typing).copy()), config=ConfigDict(strict=True))
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _mismatch(name: str, parameter: Parameter, value: Any) -> str:
    expected = f"{parameter.annotation}, e.g. {parameter.default!r}"
    text = f"{name} must be {expected}, but got {type(value).__name__} {value!r}"
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        if "e" in value.lower() and "." not in value:
            return f"{text}: YAML reads {value} as text, write {float(value):.1e}"
        return f"{text}: write it without quotes"
    return text
