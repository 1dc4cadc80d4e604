"""A run: its folder, settings, hand-overs from notebook to notebook, and the cache of finished work."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from mosaic import settings as settings_module
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path, read_json, require_writable, write_json
from mosaic.utils.hashing import hash_json
from mosaic.utils.progress import log

S = TypeVar("S", bound=settings_module.Settings)

#: Part of every cache key. Raise it when a change of code changes results, so that old work is not reused.
RESULTS_VERSION = 2


def root() -> Path:
    """Return the folder that holds ``data/`` and ``reports/``: ``$MOSAIC_ROOT``, or the repository."""
    return Path(os.environ.get("MOSAIC_ROOT", Path(__file__).resolve().parents[2]))


def data_folder() -> Path:
    """Return where archives, packed data and cached work lie."""
    return root() / "data"


def reports_folder(out: str) -> Path:
    """Return the folder of the run named ``out``."""
    return root() / "reports" / out


def device_name() -> str:
    """Return what this machine computes on: its GPU, or ``"CPU, 2 cores"``."""
    import torch  # seconds, and most who look for a folder do not compute

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = os.cpu_count() or 1
    return f"CPU, {cores} core{'s' * (cores > 1)}"


@dataclass(frozen=True)
class Run(Generic[S]):
    """One notebook of one run.

    Attributes:
        notebook: its name, e.g. ``"02_pretrain"``.
        settings: its validated parameters.
        folder: ``reports/<out>/``, where reports, results and hand-overs go.
        failed: stage -> cells that failed -> why, in a run that keeps going without them.
    """

    notebook: str
    settings: S
    folder: Path
    failed: dict[str, dict[str, str]] = field(default_factory=dict, compare=False)

    def finish(self, **content: Any) -> None:
        """Hand over to later notebooks: write settings and ``content`` to ``<folder>/<notebook>.json``."""
        content = {"settings": self.settings.model_dump(), "failed": self.failed, **content}
        write_json(self.folder / f"{self.notebook}.json", content)

    def earlier(self, notebook: str) -> dict[str, Any]:
        """Return what an earlier notebook of this run handed over.

        Raises:
            RunError: when it has not been run.
        """
        path = self.folder / f"{notebook}.json"
        if not path.exists():
            raise RunError(
                f"{path} is missing: run {notebook}.ipynb with out={self.folder.name!r} first, "
                "or the whole sequence with `make study`"
            )
        return read_json(path)

    def earlier_settings(self, notebook: str) -> Any:
        """Return the validated settings of an earlier notebook of this run."""
        return settings_module.make(notebook, self.earlier(notebook)["settings"])

    def beside(self, out: str) -> "Run[S]":
        """Return another run of this machine, to read what its notebooks handed over."""
        return replace(self, folder=reports_folder(out))

    def store(self) -> PackedStore:
        """Open the packed data that ``01_explore_data`` prepared."""
        return PackedStore(Path(self.earlier("01_explore_data")["packed"]))

    def table(self, name: str, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table from the cache, or compute and keep it.

        Args:
            name: what it is, e.g. ``"coherence"``.
            key: everything the table depends on, as JSON.
            compute: makes the table.
        """
        path = cache_path(name, key, ".parquet")
        if path.exists():
            log(f"{name}: reused")
            return pd.read_parquet(path)
        table = compute()
        with atomic_path(path) as partial:
            table.to_parquet(partial, index=False)
        return table

    def missing(self) -> pd.DataFrame:
        """Return the cells that this notebook goes on without: columns stage, cell and reason."""
        rows = [(stage, *pair) for stage, reasons in self.failed.items() for pair in reasons.items()]
        return pd.DataFrame(rows, columns=["stage", "cell", "reason"])


def cache_path(stage: str, key: Mapping[str, Any], suffix: str = "") -> Path:
    """Return where the work of ``stage`` with the inputs ``key`` is kept: the same inputs, the same place."""
    return data_folder() / "cache" / stage / (hash_json({"version": RESULTS_VERSION, **key}) + suffix)


def start(notebook: str, variables: Mapping[str, Any]) -> Run[Any]:
    """Begin a notebook: validate its parameters and open its run folder.

    Args:
        notebook: name of the notebook without ``.ipynb``.
        variables: ``globals()`` of the notebook; the declared parameters are taken from it.

    Raises:
        SettingsError: for a parameter of unknown name, wrong type or impossible value.
        RunError: when the run folder cannot be written.
    """
    declared = settings_module.NOTEBOOKS[notebook].model_fields
    names = [*declared, *settings_module.injected_names(variables.get("In", []))]
    values = {name: variables[name] for name in names if name in variables}
    validated = settings_module.make(notebook, values)
    folder = reports_folder(validated.out)
    require_writable(folder)
    return Run(notebook, validated, folder)
