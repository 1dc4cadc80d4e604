"""One run of the study: its settings, its tables, its failed trials, and the cache of finished work."""

import ast
import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.settings import NOTEBOOKS, StudySettings, injected_names, make
from mosaic.store.reader import PackedStore
from mosaic.utils.cached import read_if_sound, read_parquet, write_parquet
from mosaic.utils.errors import RunError, SettingsError
from mosaic.utils.files import file_state, hash_json, lock, read_json, write_json
from mosaic.utils.forked import available_cores
from mosaic.utils.plugins import loaded_hashes
from mosaic.utils.progress import log
from mosaic.utils.words import count

#: Folder of the library.
PACKAGE = Path(__file__).resolve().parents[1]
#: What trains an encoder, what evaluates one, and what computes tables: its source is part of their keys.
TRAINING = ("utils/distributed.py", "store", "transforms", "models", "losses", "training")
EVALUATION = ("evaluation", *(f"experiments/{name}.py" for name in ("embed", "predict", "probe")))
ANALYSIS = ("datasets", "evaluation", "analysis")
HOW = ("out", "jobs", "trials_per_gpu")  # settings that change no result
#: Table of a run -> the notebook that writes it.
TABLES = {
    "archive": "01_explore_data",
    "encoders": "02_pretrain",
    "choices": "02_pretrain",
    "predictions": "03_finetune_low_label",
    "results": "03_finetune_low_label",
    "embeddings": "04_embeddings_and_coherence",
    "transfer": "05_transfer",
    "domain_shift": "05_transfer",
    "ranks": "06_compare_methods",
    "claims": "07_claims",
}
_KEYS: dict[str, dict[str, type]] = {"archive": {"packed": str, "title": str, "origin": str}, "choices": {}}
_PATHS = {"folder", "path", "packed"}  # columns and keys of tables
EDITED = f"code in {PACKAGE} was edited since it was imported: restart the kernel or command"


def repository() -> Path:
    """Return the folder that holds ``notebooks/``: the library's own, or, if that is installed, one above."""
    here = Path.cwd()
    for folder in (PACKAGE.parent, here, *here.parents):
        if (folder / "notebooks" / f"{TABLES['archive']}.ipynb").exists():
            return folder
    raise RunError(
        f"no notebooks beside {PACKAGE} or above {here}: they are not installed with the library. "
        "Start the command in a clone of the repository"
    )


def root() -> Path:
    """Return the folder that holds ``data/`` and ``reports/``: ``$MOSAIC_ROOT``, or the repository."""
    named = Path(os.environ.get("MOSAIC_ROOT", "."))
    return named if named.is_absolute() else (repository() / named).resolve()


def data_folder() -> Path:
    """Return the folder of archives, packed data and cached work."""
    return root() / "data"


def reports_folder(out: str) -> Path:
    """Return the folder of the run named ``out``."""
    return root() / "reports" / out


def cache_path(stage: str, key: Mapping[str, Any], suffix: str = "") -> Path:
    """Return where ``stage`` keeps what it makes of ``key`` (JSON): named by hashes of that and its code."""
    rooms = {"": TRAINING, ".npz": EVALUATION, ".parquet": ANALYSIS}[suffix]
    return data_folder() / "cache" / stage / f"{hash_json(key)}-{imported_code(rooms)}{suffix}"


@functools.cache
def _tree(file: Path, state: str) -> str:
    return ast.dump(ast.parse(file.read_text("utf-8")))


def code_hash(package: Path, rooms: tuple[str, ...]) -> str:
    """Return 8 hex digits that change with the source of some rooms, but for comments and layout."""
    files = [file for room in rooms for file in sorted((package / room).rglob("*.py")) or [package / room]]
    named = {str(file.relative_to(package)): file for file in files}
    # not what editors and JupyterLab lay beside a file
    trees = [f"{name} {_tree(file, file_state(file))}" for name, file in named.items() if "/." not in name]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:8]


def _code(rooms: tuple[str, ...]) -> str:
    try:
        return code_hash(PACKAGE, rooms)
    except (OSError, ValueError, SyntaxError):  # half saved, or of another branch
        return ""


#: Rooms -> hash of their code when this process imported the library.
IMPORTED = {rooms: _code(rooms) for rooms in (TRAINING, EVALUATION, ANALYSIS)}


def imported_code(rooms: tuple[str, ...]) -> str:
    """Return the hash of the code of some rooms as this process imported it.

    ``RunError`` when it was edited since: what is computed would be kept as if the new code had made it.
    """
    if _code(rooms) != IMPORTED[rooms]:
        raise RunError(EDITED)
    return IMPORTED[rooms]


def reusable(path: Path) -> bool:
    """Return whether a file of the cache can be used; a damaged one is set aside."""
    if _fresh(path) and path.name == "card.json":
        from mosaic.training.pretrain import finished  # loads PyTorch, for seconds

        return finished(path.parent) is not None
    # there are many GB of arrays: only their list is checked before they are read
    check = np.load if path.suffix == ".npz" else Path.stat
    return _fresh(path) and read_if_sound(path, check) is not None


def remove_older(path: Path) -> None:
    """Remove a file of the cache, and what was kept to resume its making, if older than a ``--fresh`` run.

    What another process is making is left to it.
    """
    folder = path.parent if path.name == "card.json" else path.with_suffix("")
    with contextlib.suppress(RunError), lock(folder) if folder.is_dir() else contextlib.nullcontext():
        for file in [path, *folder.rglob("*")]:
            if file.is_file() and file.name != ".lock" and not _fresh(file):
                file.unlink()


def _fresh(path: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= float(os.environ.get("MOSAIC_FRESH", 0))


@dataclass(frozen=True, repr=False)
class Study:
    """A run of the study as one of its notebooks sees it.

    Example:
        >>> study = Study.open("03_finetune_low_label", globals())
        >>> encoders = study.read("encoders")
        >>> study.write(predictions=predictions, results=results)
    """

    notebook: str  # its name, such as "02_pretrain"
    settings: StudySettings  # with the notebook's validated parameters
    folder: Path  # reports/<out>/, where reports and tables go
    #: stage -> trial -> error, of trials that a run with ``--keep-going`` does without
    failed: dict[str, dict[str, str]] = field(default_factory=dict, compare=False)
    #: notebook, or run/notebook of another run -> hash of its hand-over, of those that this notebook has read
    sources: dict[str, str] = field(default_factory=dict, compare=False)
    apart: bool = False  # the title of its archive names the run: another one has an archive of that title

    @classmethod
    def open(cls, notebook: str, variables: Mapping[str, Any]) -> "Study":
        """Validate the parameters of a notebook, given its ``globals()``, and open the folder of its run.

        ``RunError`` when the folder cannot be written, a run uses it, or the run has another library.
        """
        package = os.environ.get("MOSAIC_PACKAGE", str(PACKAGE))
        if package != str(PACKAGE):
            raise RunError(
                f"the run was started with {package}, but its notebook imports {PACKAGE}: activate the "
                "environment of the former, or install it with `pip install -e .`"
            )
        names = [*NOTEBOOKS[notebook], *injected_names(variables.get("In", []))]
        settings = make(notebook, {name: variables[name] for name in names if name in variables})
        study = Study(notebook, settings, reports_folder(settings.out))
        with study._locked():
            return study

    def __repr__(self) -> str:
        """Name the run, its folder and the tables that it holds."""
        tables = [name for name in TABLES if any(self.folder.glob(f"{name}.*"))]
        text = f"Study {self.folder.name!r} in {self.notebook}: {self.folder}"
        return f"{text}\n  tables: {', '.join(tables) or 'none'}"

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        """Lock the folder, unless the run that has it locked executes this notebook."""
        ours = os.environ.get("MOSAIC_RUN") == str(self.folder.absolute())
        return contextlib.nullcontext() if ours else lock(self.folder)

    def read(self, name: str) -> Any:
        """Return a data frame or JSON content; ``RunError`` when the notebook that writes it has not run."""
        notebook, files = TABLES[name], [self.folder / f"{name}{suffix}" for suffix in (".parquet", ".json")]
        path = next((path for path in files if path.exists()), None)
        if path is None:
            raise self._not_run(notebook, f"{self.folder / name}.*")
        self._note_source(notebook)
        if path.suffix == ".json":
            content = read_json(path, _KEYS.get(name), remedy=f"run {notebook} again")
            if name == "archive" and self.apart:
                content["title"] += f", {self.folder.name}"
            return _moved(content, root().joinpath)
        if (table := read_if_sound(path, read_parquet)) is None:
            raise RunError(f"{path} was damaged: run {notebook} again")
        return _moved(table, root().joinpath)

    def write(self, **tables: Any) -> None:
        """Write tables for later notebooks, data frames as parquet and all else as JSON; and the settings."""
        settings = {name: self.settings.flat()[name] for name in NOTEBOOKS[self.notebook]}
        content = [{name: value for name, value in settings.items() if name not in HOW}]
        record_path = self.folder / f"{self.notebook}.json"
        with self._locked():
            record_path.unlink(missing_ok=True)  # or a kill would leave new tables beside old settings
            for name, table in tables.items():
                table = _moved(table, _below_root)
                if isinstance(table, pd.DataFrame):
                    write_parquet(self.folder / f"{name}.parquet", table)
                    kept = table.drop(columns="reused", errors="ignore")
                    table = kept.to_json(orient="records", default_handler=str)
                else:
                    write_json(self.folder / f"{name}.json", table)
                content.append(table)
            record = {"settings": settings, "failed": self.failed, "hash": hash_json(content)}
            write_json(record_path, record | {"sources": self.sources})

    def _note_source(self, notebook: str) -> None:
        """Note that this notebook reads what another wrote; ``RunError`` where that is out of date."""
        source = f"{self.folder.name}/{notebook}"
        if stale := sorted(self._stale(source)):
            raise RunError(
                f"{source} was made from results that have changed since: run {', then '.join(stale)} again"
            )
        if notebook != self.notebook:
            name = notebook if self.folder.name == self.settings.out else source
            self.sources[name] = self._record(source).get("hash", "")

    def _stale(self, source: str) -> set[str]:
        """Return which notebooks to run again, as run/notebook, before what ``source`` wrote holds."""
        sources, run = self._record(source).get("sources", {}), source.partition("/")[0]
        hashes = {name if "/" in name else f"{run}/{name}": value for name, value in sources.items()}
        stale = set().union(*map(self._stale, hashes))
        changed = any(self._record(name).get("hash") != value for name, value in hashes.items())
        return stale | {source} if stale or changed else set()

    def _record(self, source: str) -> dict[str, Any]:
        path = self.folder.parent / f"{source}.json"
        keys, remedy = {"settings": dict, "failed": dict, "hash": str, "sources": dict}, f"run {source} again"
        content: dict[str, Any] = read_json(path, keys, remedy=remedy) if path.exists() else {}
        return content

    def earlier(self, notebook: str) -> "Study":
        """Return the run as an earlier notebook left it; ``RunError`` when that has not run."""
        content = self._record(f"{self.folder.name}/{notebook}")
        if not content:
            raise self._not_run(notebook, self.folder / f"{notebook}.json")
        self._note_source(notebook)
        try:
            settings = make(notebook, content["settings"])
        except SettingsError as error:  # of an earlier version of the library, or a plugin that went away
            raise RunError(
                f"{self.folder / notebook}.json: {error}; if that does not help, run {notebook} again"
            ) from error
        return Study(notebook, settings, self.folder, content["failed"])

    def _not_run(self, notebook: str, missing: Path | str) -> RunError:
        run = f"run {notebook}.ipynb with out={self.folder.name!r} first"
        return RunError(f"{missing} is missing: {run}, or the whole sequence with `make study`")

    def with_companions(self) -> "list[Study]":
        """Return this run and ``companion_runs``; ``RunError`` for one archive, which would count twice."""
        runs = [self, *(replace(self, folder=reports_folder(out)) for out in self.settings.companion_runs)]
        named: dict[str, str] = {}
        for run in runs:
            source = run.store().manifest.source if len(runs) > 1 else ""
            if source in named:
                raise RunError(
                    f"runs {named[source]!r} and {run.folder.name!r} are both of the archive {source}: "
                    "companion_runs are of other archives, leave out one of the two"
                )
            named[source] = run.folder.name
        titles = [run.read("archive")["title"] for run in runs] if len(runs) > 1 else [""]
        return [replace(run, apart=titles.count(title) > 1) for run, title in zip(runs, titles, strict=True)]

    def store(self) -> PackedStore:
        """Open the packed data that ``01_explore_data`` prepared."""
        return PackedStore(Path(self.read("archive")["packed"]))

    def cached(self, name: str, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table from the cache, or compute and keep it; ``key`` is all it depends on, as JSON."""
        plugins = {"plugins": loaded_hashes()} if loaded_hashes() else {}  # whose rows of methods are shown
        path = cache_path(name, {**key, **plugins}, ".parquet")
        table = read_if_sound(path, read_parquet) if _fresh(path) else None
        if table is not None:
            log(f"{name}: reused")
            return table
        return write_parquet(path, compute())

    def failed_trials(self) -> pd.DataFrame:
        """Return the trials that this notebook goes on without: columns stage, trial and reason."""
        rows = [(stage, *pair) for stage, reasons in self.failed.items() for pair in reasons.items()]
        return pd.DataFrame(rows, columns=["stage", "trial", "reason"])

    @property
    def data(self) -> str:
        """Origin and fingerprint of the run's data, such as ``"simulated, 0123abcd"``."""
        return f"{self.read('archive')['origin']}, {self.store().fingerprint}"

    @property
    def device(self) -> str:
        """What this machine computes on: its GPU, or ``"CPU, 2 cores"``."""
        import torch  # seconds, and most who look for a folder do not compute

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
        return f"CPU, {count(available_cores(), 'core')}"


def _moved(table: Any, move: Callable[[str], object]) -> Any:
    """Return a table with its paths moved: hand-overs hold them relative to the root."""
    if isinstance(table, pd.DataFrame):
        return table.assign(**{name: [str(move(p)) for p in table[name]] for name in _PATHS & {*table}})
    if isinstance(table, dict):
        return {name: str(move(value)) if name in _PATHS else value for name, value in table.items()}
    return table


def _below_root(path: str) -> Path:
    return Path(path).relative_to(root()) if Path(path).is_relative_to(root()) else Path(path)
