"""The whole sequence: a profile, its notebooks, one run folder."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mosaic.experiments.grid import check_choices
from mosaic.experiments.study import reports_folder, repository
from mosaic.report.runner import run as run_notebooks
from mosaic.settings import NOTEBOOKS, make
from mosaic.utils.errors import SettingsError, suggest
from mosaic.utils.files import read_yaml


def notebooks_folder() -> Path:
    """Return the folder of the notebooks and their profiles; ``RunError`` when there is none."""
    return repository() / "notebooks"


def load_profile(profile: str) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of a profile, in ``notebooks/profiles/`` or any YAML file; SettingsError."""
    folder = notebooks_folder() / "profiles"
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else folder / f"{profile}.yaml"
    if not path.exists():
        known = [known_path.stem for known_path in folder.glob("*.yaml")]
        raise SettingsError(f"no profile {profile!r}{suggest(profile, known)}")
    return path.stem, read_yaml(path)


def split_parameters(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the parameters it declares, validated.

    Raises:
        SettingsError: for a name that no notebook declares, a wrong type or a value out of range.
    """
    known = {name for names in NOTEBOOKS.values() for name in names}
    for name in values:
        if name not in known:
            raise SettingsError(f"no notebook has a parameter {name!r}{suggest(name, known)}")
    chosen = {}
    for notebook, names in NOTEBOOKS.items():
        chosen[notebook] = {name: value for name, value in values.items() if name in names}
        settings = make(notebook, chosen[notebook])
        if notebook == "02_pretrain":
            check_choices(settings)
    return chosen


def run_sequence(
    profile: str,
    archive: str | None = None,
    out: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Path:
    """Execute every notebook of the study in order, and return the path of the run's ``index.html``.

    ``profile`` is a name, e.g. ``smoke`` or ``study``, or the path of a YAML file. ``archive``
    (``"simulated"`` or a folder), ``out`` (name of the run) and ``overrides`` replace its parameters.

    Raises:
        SettingsError: before anything runs, when a parameter is impossible.
        RunError: when a notebook fails; its report shows where.
    """
    name, values = load_profile(profile)
    values.update(overrides or {})
    values["out"] = out or values.get("out", name)
    if archive is not None:
        values["archive"] = archive if archive == "simulated" else str(Path(archive).expanduser().resolve())
    if isinstance(values.get("plugins"), list):  # notebooks run elsewhere
        values["plugins"] = [str(Path(str(file)).expanduser().resolve()) for file in values["plugins"]]
    chosen = split_parameters(values)
    command = ["python", "-m", "mosaic", "run", "--profile", profile, "--out", values["out"]]
    command += ["--archive", archive] if archive else []
    for key, value in (overrides or {}).items():
        command += ["-p", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    notebooks = [notebooks_folder() / f"{notebook}.ipynb" for notebook in NOTEBOOKS]
    folder = reports_folder(values["out"])
    return run_notebooks(notebooks, chosen, folder, profile=name, command=shlex.join(command))
