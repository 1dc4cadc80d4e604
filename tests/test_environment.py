"""One dependency list: what conda, pip and the Makefile install comes from pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_adds_nothing_to_the_one_list():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [entry for entry in content["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    assert [re.split("[=<>]", entry)[0] for entry in plain] == ["python", "pip"]
    assert len(pip) == 1
    extra = re.fullmatch(r"-e \.\[(\w+)\]", pip[0])
    assert extra is not None
    assert extra[1] in PROJECT["optional-dependencies"]
    version = next(entry.split("=")[1] for entry in plain if entry.startswith("python"))
    least = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")))


def test_no_package_is_listed_twice():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = [re.split(r"[\[<>=~! ]", entry)[0].lower() for entries in lists for entry in entries]
    names = [name for name in names if name != PROJECT["name"]]
    assert len(names) == len(set(names))


def test_the_tools_the_project_is_built_on_are_there():
    names = {re.split(r"[<>=]", entry)[0] for entry in PROJECT["dependencies"]}
    wanted = {"torch", "torchgeo", "jupyterlab", "papermill", "matplotlib", "seaborn", "umap-learn"}
    assert wanted | {"scikit-learn", "pyarrow", "ipywidgets"} <= names
