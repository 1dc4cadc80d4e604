"""The whole sequence: a profile, its notebooks, one run folder."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mosaic.analysis.run_tables import open_runs
from mosaic.experiments.grid import check_choices
from mosaic.experiments.prepare import check_fractions
from mosaic.experiments.study import reports_folder, repository
from mosaic.report.runner import run as run_notebooks
from mosaic.settings import DECLARED, NOTEBOOKS, StudySettings, fields, validated
from mosaic.utils.errors import ArchiveError, SettingsError, suggest
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


def prepare_sequence(
    profile: str, archive: str | None, out: str | None, overrides: Mapping[str, Any]
) -> Callable[[], Path]:
    """Return what executes every notebook of the study in order and returns the run's ``index.html``.

    ``archive`` (``"simulated"`` or a folder), ``out`` (name of the run) and ``overrides`` replace parameters
    of the profile. ``SettingsError`` for an impossible one, before anything runs.
    """
    name, values = load_profile(profile)
    values.update(overrides)
    values["out"] = out or values.get("out", name)
    values["archive"] = archive or values.get("archive", "simulated")
    # notebooks run elsewhere
    if isinstance(values["archive"], str) and values["archive"] != "simulated":
        values["archive"] = _absolute(values["archive"])
    for key in ("plugins", "label_budget_files"):
        if isinstance(values.get(key), list):
            values[key] = [_absolute(file) for file in values[key]]
    settings = validated(StudySettings, name, values, DECLARED)
    check_choices(settings)
    with suppress(ArchiveError):  # which the page of 01_explore_data shows
        check_fractions(settings)
    chosen = {book: {key: values[key] for key in names if key in values} for book, names in NOTEBOOKS.items()}
    command = ["python", "-m", "mosaic", "run", "--profile", profile, "--out", values["out"]]
    command += ["--archive", archive] if archive else []
    for key, value in overrides.items():
        command += ["-p", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    notebooks = [notebooks_folder() / f"{notebook}.ipynb" for notebook in NOTEBOOKS]
    folder = reports_folder(values["out"])
    return partial(run_notebooks, notebooks, chosen, folder, profile=name, command=shlex.join(command))


def _absolute(path: object) -> str:
    return str(Path(str(path)).expanduser().resolve())


def run_comparison(runs: Sequence[str], out: str | None = None) -> Path:
    """Lay finished runs beside each other; return the index of ``reports/<out>/``, by default ``a-vs-b``.

    ``RunError`` for fewer than two runs, one that is unknown or not finished, or a notebook that fails.
    """
    runs = list(open_runs(runs))
    notebook, folder = notebooks_folder() / "compare_runs.ipynb", reports_folder(out or "-vs-".join(runs))
    command = shlex.join(["python", "-m", "mosaic", "compare", *runs])
    given = {notebook.stem: {"runs": runs}}
    return run_notebooks([notebook], given, folder, profile="compare", command=command)


def run_sweep(profile: str, archive: str | None, out: str | None, overrides: Mapping[str, Any]) -> Path:
    """Run the sequence with each of several values of one parameter, and compare the runs.

    A parameter that is itself a list takes a list of lists. The runs are ``<out>-<name>-<value>``, their
    comparison ``<out>-<name>-sweep``, whose index is returned. ``SettingsError``, before anything runs, when
    there is not one such parameter or a value is impossible.
    """
    (profile_name, given), declared, swept = load_profile(profile), fields(StudySettings), {}
    for name, value in overrides.items():
        is_list = name in declared and isinstance(declared[name].default, list)
        if name != "out" and isinstance(value, list) and {isinstance(v, list) for v in value} == {is_list}:
            swept[name] = value
    name, choices = [*swept.items(), ("", [])][0]
    out = out or (given | dict(overrides)).get("out", profile_name)
    runs = {re.sub(r"[^\w.]+", "-", f"{out}-{name}-{value}").strip("-"): value for value in choices}
    if len(swept) != 1 or len(runs) < max(2, len(choices)):
        found = ", ".join(f"{name}={choices}" for name, choices in swept.items()) or "none"
        raise SettingsError(
            f"a sweep takes one parameter with two or more different values, not {found}: "
            "-p temperature_label=[0.1,0.5], or -p methods=[[iai],[iai,mosaic]] for one that is itself a list"
        )
    for run_all in [prepare_sequence(profile, archive, run, {**overrides, name: runs[run]}) for run in runs]:
        run_all()
    return run_comparison(list(runs), f"{out}-{name}-sweep")
