"""The grid of pretrained encoders: methods x seeds x label budgets. What ``02_pretrain`` runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.experiments.parallel import Task, run_trials
from mosaic.experiments.study import Study, cache_path
from mosaic.losses.label_kernels import KERNELS
from mosaic.losses.objectives.base import LOSSES
from mosaic.methods import EARLY, Method, get_method
from mosaic.models.checkpoint import CARD
from mosaic.models.encoders import check_encoder, encoder_for
from mosaic.models.published_weights import check_published
from mosaic.settings import (
    GridSettings,
    LossSettings,
    OptimiserSettings,
    StudySettings,
    TrialSettings,
    fields,
    validated,
)
from mosaic.store.label_budgets import label_budgets, listed_budgets, save_budgets
from mosaic.store.reader import PackedStore
from mosaic.store.record_format import BandLayout
from mosaic.training.memory import USUAL
from mosaic.training.pretrain import decisive, pretrain
from mosaic.utils.devices import resolve_precision
from mosaic.utils.errors import RunError
from mosaic.utils.files import hash_json, read_json

#: Method -> changes to the run's settings that were chosen for it on validation.
Choices = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One encoder to train."""

    method: str  # name in the table of methods
    seed: int  # of initialisation, data order, views and label budget
    budget: float  # percentage of training labels that pretraining may use; 0 for methods that use none

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed}" + (f", {self.budget:g} % of labels" if self.budget else "")


def plan(settings: GridSettings) -> list[Trial]:
    """List the trials: a shared label budget needs one encoder a fraction, a full one that of 100 %."""
    budgets = set(settings.label_fractions) if "shared" in settings.label_budgets else set()
    if "full" in settings.label_budgets:
        budgets.add(100.0)
    return [
        Trial(name, seed, budget)
        for seed in range(settings.seeds)
        for name in settings.methods
        if seed == 0 or name not in settings.one_seed
        for budget in (sorted(budgets) if get_method(name).uses_labels else [0.0])
    ]


def draw_budgets(store: PackedStore, settings: GridSettings) -> dict[int, dict[float, np.ndarray]]:
    """Return the label budgets of every seed: seed -> percentage -> training rows.

    They are nested and stratified, or, for every seed alike, those of ``label_budget_files``.
    """
    fractions = sorted({*settings.label_fractions, 100.0})
    if settings.label_budget_files:
        listed = listed_budgets(store, fractions[:-1], settings.label_budget_files)
        return dict.fromkeys(range(settings.seeds), listed)
    rows = store.split_rows("train")
    return {seed: label_budgets(store.labels, rows, fractions, seed=seed) for seed in range(settings.seeds)}


def budget_key(budgets: Mapping[float, np.ndarray]) -> dict[str, str]:
    """Return what stands for labels in the key of work that uses them: percentage -> hash of the rows."""
    return {f"{fraction:g}": hash_json(rows.tolist()) for fraction, rows in budgets.items()}


def settings_of(trial: Trial, settings: StudySettings, choices: Choices | None = None) -> TrialSettings:
    """Return the settings of one trial; a variant takes the choices of the method it is like."""
    method = get_method(trial.method)
    encoder = encoder_for(method, settings.trial.encoder, settings.grid.vit_encoder)
    changes = (choices or {}).get(method.like or method.name, {})
    return settings.trial.replace(method=trial.method, seed=trial.seed, encoder=encoder, **changes)


def check_choices(settings: StudySettings, layout: BandLayout | None = None) -> None:
    """Refuse a kernel, loss or encoder that is unknown or does not fit, before anything is computed.

    Without a layout, that of an archive yet to be packed, sensors have their usual bands.
    """
    grid, trial = settings.grid, settings.trial
    kinds: dict[Any, Method] = {}
    for method in map(get_method, grid.methods):
        KERNELS[method.kernel or trial.loss.kernel], LOSSES[method.loss]
        encoder = encoder_for(method, trial.encoder, grid.vit_encoder)
        if layout or {*method.streams} <= {EARLY, *USUAL.sensor_names}:
            kinds[encoder, method.streams, method.architecture] = method
        if method.weights and layout:
            check_published(method.weights, layout, trial.views.image_size)
    for (encoder, *_), method in kinds.items():
        check_encoder(method, encoder, layout or USUAL, trial.views.image_size)


def pretrain_all(study: Study, store: PackedStore, choices: Choices | None = None) -> pd.DataFrame:
    """Train every trial of the grid that is not in the cache yet, and return their rows.

    The label budgets are saved as patch ids in ``label_budgets-seed<n>.json`` of the run.
    """
    grid = study.settings.grid
    check_choices(study.settings, store.layout)
    budgets = draw_budgets(store, grid)
    for earlier in study.folder.glob("label_budgets-seed*.json"):  # of a run that had more seeds
        earlier.unlink()
    for seed, chosen in budgets.items():
        below = {fraction: rows for fraction, rows in chosen.items() if fraction < 100}
        save_budgets(study.folder / f"label_budgets-seed{seed}.json", below, store, seed)
    absent, tasks = set(left_out(store, grid.methods)["key"]), {}
    for trial in [trial for trial in plan(grid) if trial.method not in absent]:
        rows = budgets[trial.seed][trial.budget] if trial.budget else np.empty(0, dtype=np.int64)
        tasks[str(trial)] = training_task(store, trial, settings_of(trial, study.settings, choices), rows)
    return run_trials(study, "pretraining", pretrain_trial, tasks).drop(columns="path")


def require_trained_on(store: PackedStore, encoders: pd.DataFrame) -> None:
    """Raise ``RunError`` for an encoder that was trained on other data than the store's."""
    for folder in map(Path, encoders["folder"]):
        if read_json(folder / CARD, {"data": str})["data"] != store.fingerprint:
            again = "run 02_pretrain again, and what follows it"
            raise RunError(f"{folder} was trained on other data than {store.folder}: {again}")


def left_out(store: PackedStore, methods: Sequence[str]) -> pd.DataFrame:
    """Return the methods that these data say nothing of, and why: key, method, why."""
    why = "its views are of two dates, and no place was seen twice: it would be MoSAiC again"
    temporal = [(name, get_method(name).title, why) for name in methods if get_method(name).temporal]
    if temporal and store.temporal_positives.counts.any():
        temporal = []
    return pd.DataFrame(temporal, columns=["key", "method", "why"])


def used_settings(trial: TrialSettings) -> TrialSettings:
    """Return the settings with defaults where its method reads none, and with the precision of this machine.

    What is equal by them is the same trial.
    """
    method = get_method(trial.method)
    # a loss that does not declare what it reads may read all
    reads = vars(LOSSES[method.loss]).get("reads") if method.trained else {}
    terms = [term for term in ("intra", "inter", "label") if getattr(method, term) > 0]
    unused = set() if method.trained else {"steps", "precision", *fields(OptimiserSettings)}
    if not method.uses_labels or method.sees_labelled_only:
        unused |= {"labelled_share"}
    if reads is not None:
        unused |= set(fields(LossSettings)).difference(*(reads.get(term, ()) for term in terms))
        unused |= {"kernel"} if method.kernel else set()
        unused |= {"msc_alpha", "msc_beta"} if (method.kernel or trial.loss.kernel) != "msc" else set()
    unused = unused - {"label_weight"} if "label" in terms and len(terms) > 1 else unused | {"label_weight"}
    defaults = {name: info.get_default() for name, info in fields(TrialSettings).items() if name in unused}
    used = trial.replace(**defaults)
    return used.replace(precision=resolve_precision(used.precision) if method.trained else "32")


def training_task(store: PackedStore, trial: Trial, settings: TrialSettings, rows: np.ndarray) -> Task:
    """Return what trains one encoder, which may use the labels of ``rows``.

    Its folder is named by data, method, used settings, label budget and code.
    """
    settings = used_settings(settings)
    patches = sorted(store.index["patch_id"].to_numpy()[rows].tolist())
    key = {"data": store.fingerprint, **decisive(settings), "labelled": patches}
    folder = cache_path(f"pretrain/{settings.method}-seed{settings.seed}", key)
    row = {"trial": str(trial), **asdict(trial), "folder": str(folder)}
    return Task(row, (store, settings, rows), folder / CARD)


def pretrain_trial(store: PackedStore, settings: TrialSettings, rows: np.ndarray, card: Path) -> None:
    """Train one encoder into the folder of ``card``."""
    pretrain(store, settings, rows, card.parent)


def train_one(
    packed: Path, folder: Path, method: str, fraction: float, parameters: Mapping[str, Any]
) -> Path:
    """Train one encoder into ``folder``, for the command line.

    ``torchrun`` or ``srun`` may start it in several processes. ``fraction`` is the percentage of the training
    labels to use; ``parameters`` are those of a trial, and ``plugins``, a list of files.
    """
    values = dict(parameters)
    validated(StudySettings, "train", {"plugins": values.pop("plugins", [])})  # loads them
    known = [name for name in fields(TrialSettings) if name != "method"]
    settings = validated(TrialSettings, "train", values, known).replace(method=method)
    store = PackedStore(packed)
    rows = np.empty(0, dtype=np.int64)
    if get_method(method).uses_labels:
        rows = label_budgets(store.labels, store.split_rows("train"), [fraction], settings.seed)[fraction]
    return pretrain(store, settings, rows, folder)
