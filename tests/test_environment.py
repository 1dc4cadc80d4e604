"""One dependency list: what conda, pip and the Makefile install comes from pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_adds_nothing_to_the_one_list():
    *plain, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert [re.split("[=<>]", entry)[0] for entry in plain] == ["python", "pip"]
    (entry,) = pip["pip"]
    extra = re.fullmatch(r"-e \.\[(\w+)\]", entry)
    assert extra is not None and extra[1] in PROJECT["optional-dependencies"]
    versions = plain[0].split("=")[1], PROJECT["requires-python"].removeprefix(">=")
    conda, least = (tuple(map(int, version.split("."))) for version in versions)
    assert conda >= least
