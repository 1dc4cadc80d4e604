"""Notebooks as they are committed: clean, ordered, and in step with the settings."""

import ast
import re
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import nbformat
import papermill
import pytest

from mosaic.experiments.grid import check_choices
from mosaic.methods import METHODS
from mosaic.report.sequence import load_profile, notebooks_folder
from mosaic.settings import DECLARED, NOTEBOOKS, StudySettings, fields, validated

FOLDER = notebooks_folder()
PROFILES = sorted(path.stem for path in (FOLDER / "profiles").glob("*.yaml"))


@pytest.fixture(params=[*NOTEBOOKS, "compare_runs"])
def notebook(request):
    return request.param, nbformat.read(FOLDER / f"{request.param}.ipynb", 4)


def parameters(content):
    (cell,) = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def test_the_folder_holds_the_sequence_the_comparison_and_nothing_else():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == [*NOTEBOOKS, "compare_runs"]


def test_no_output_no_count_stable_ids_and_the_plain_kernel(notebook):
    name, content = notebook
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    ids = [cell.id for cell in content.cells]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith(name[:2]) for one in ids)
    assert content.metadata.kernelspec.name == "python3"


def test_question_parameters_start_and_limits_come_in_order(notebook):
    name, content = notebook
    prose = [cell.source for cell in content.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    assert "?" in prose[0]
    titles = [line for text in prose for line in text.splitlines() if line.startswith("# ")]
    assert len(titles) == 1
    assert content.cells[1] is parameters(content)
    assert ("open_runs(" if name == "compare_runs" else "Study.open(") in content.cells[2].source
    assert prose[-1].startswith("## Limits")


@pytest.mark.parametrize("notebook", NOTEBOOKS, indirect=True)
def test_parameters_have_the_type_default_and_comment_of_the_settings(notebook):
    name, content = notebook
    declared = papermill.inspect_notebook(FOLDER / f"{name}.ipynb")
    assert set(declared) == set(NOTEBOOKS[name])
    for field, parameter in declared.items():
        info = fields(StudySettings)[field]
        assert ast.literal_eval(parameter["default"]) == info.default, field
        assert parameter["help"] == info.description, field
        assert parameter["inferred_type_name"] == plain(info.annotation), field
    assert all(isinstance(node, ast.AnnAssign) for node in ast.parse(parameters(content).source).body)


def plain(annotation):
    """Return a type as a parameters cell writes it, where choices are texts."""
    if get_origin(annotation) is list:
        return f"list[{plain(get_args(annotation)[0])}]"
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    return "str" if get_origin(annotation) is Literal else annotation.__name__


def test_a_cell_may_run_again_since_no_parameter_is_assigned_elsewhere(notebook):
    names = {node.target.id for node in ast.parse(parameters(notebook[1]).source).body}
    for cell in [cell for cell in notebook[1].cells[2:] if cell.cell_type == "code"]:
        nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
        assert not names & {node.id for node in nodes if isinstance(node.ctx, ast.Store)}


def test_no_function_is_written_in_a_notebook_but_the_first_and_no_path_of_anybodys(notebook):
    name, content = notebook
    for cell in content.cells:
        if cell.cell_type == "code":
            kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
            if name != "00_method_in_one_page":  # which unfolds the method
                assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef}
            assert "/home" not in cell.source
            assert "../" not in cell.source


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_valid_and_name_known_methods(profile):
    check_choices(validated(StudySettings, profile, load_profile(profile)[1], DECLARED))


def test_the_profiles_are_those_of_the_readme():
    assert PROFILES == ["bench5", "bench5-light", "demo", "field", "full", "full-light", "smoke", "study"]
    assert load_profile("demo")[1] == {}
    ours = {name for name, method in METHODS.items() if method.family != "pretrained"}
    field = load_profile("field")[1]
    for official in ("full", "full-light"):
        assert set(field["methods"]) == set(load_profile(official)[1]["methods"]) == ours
    assert field["seeds"] == 3
    # every row that may enter a claim has all seeds; label kernels are ablated with one, all but plain SupCon
    claimed = {"supervised", "self-supervised", "mosaic", "random"}
    assert not {n for n in field["one_seed"] if METHODS[n].family in claimed and not METHODS[n].architecture}
    assert "supcon" not in field["one_seed"]
    assert set(load_profile("full-light")[1]["one_seed"]) == set(field["one_seed"])


def test_the_readme_says_of_each_profile_what_it_costs_on_cores_and_on_a_gpu():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    heading, _, *rows = text.partition("| profile |")[2].partition("\n\n")[0].splitlines()
    assert heading.split(" | ")[1:] == ["on 2 CPU cores", "on one GPU |"]
    told = [row.strip("|").split("|") for row in rows]
    assert sorted(name for cells in told for name in re.findall(r"`([\w-]+)`", cells[0])) == PROFILES
    assert all("not measured" in cost or "at commit" in cost for _, _, *costs in told for cost in costs)


def test_a_profile_may_be_a_file_of_ones_own(tmp_path):
    path = Path(tmp_path / "mine.yaml")
    path.write_text("steps: 7\n")
    assert load_profile(str(path)) == ("mine", {"steps": 7})
