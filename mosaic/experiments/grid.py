"""The matrix of pretrained encoders: methods x seeds x label budgets. What ``02_pretrain`` runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.experiments.jobs import run_trials
from mosaic.experiments.study import Study, cache_path
from mosaic.methods import get_method
from mosaic.models.checkpoint import CARD
from mosaic.models.encoders import encoder_for
from mosaic.settings import GridSettings, StudySettings, TrialSettings
from mosaic.store.label_budgets import label_budgets, save_budgets
from mosaic.store.reader import PackedStore
from mosaic.training.pretrain import pretrain
from mosaic.utils.files import read_json

#: What a row of the table of methods says that is not about its training.
_NOT_TRAINED = ("title", "family", "like")
#: Method -> changes to the run's settings that were chosen for it on validation.
Choices = Mapping[str, Mapping[str, Any]]
#: What :func:`pretrain_trial` takes.
TrainCall = tuple[PackedStore, TrialSettings, np.ndarray, Path]


@dataclass(frozen=True)
class Trial:
    """One encoder to train.

    Attributes:
        method: name in the table of methods.
        seed: seed of initialisation, data order, views and label budget.
        budget: percentage of training labels that pretraining may use; 0 for methods that use none.
    """

    method: str
    seed: int
    budget: float

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed}" + (f", {self.budget:g} % of labels" if self.budget else "")


def plan(settings: GridSettings) -> list[Trial]:
    """List the trials, each training once even where both label budgets of pretraining need it.

    A shared label budget asks for one encoder for each label fraction, a full one for an encoder that saw
    every training label; at 100 % they are the same encoder.
    """
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
    """Draw the label budgets of every seed: seed -> percentage -> training rows, nested and stratified."""
    fractions = sorted({*settings.label_fractions, 100.0})
    rows = store.split_rows("train")
    return {seed: label_budgets(store.labels, rows, fractions, seed=seed) for seed in range(settings.seeds)}


def settings_of(trial: Trial, settings: StudySettings, choices: Choices | None = None) -> TrialSettings:
    """Return what the trainer needs to know of one trial.

    Args:
        trial: method, seed and budget.
        settings: of the run.
        choices: changes to them, by method; a variant takes those of the method it is like.
    """
    method = get_method(trial.method)
    encoder = encoder_for(method, settings.trial.encoder, settings.grid.vit_encoder)
    changes = (choices or {}).get(method.like or method.name, {})
    return settings.trial.replace(
        **{"method": trial.method, "seed": trial.seed, "encoder": encoder, **changes}
    )


def pretrain_all(study: Study, store: PackedStore, choices: Choices | None = None) -> pd.DataFrame:
    """Train every trial that is not in the cache yet.

    Args:
        study: of ``02_pretrain``.
        store: packed data.
        choices: changes to the settings of each method, see :mod:`mosaic.experiments.tuning`.

    Returns:
        One row a trial that is there: method, seed, budget (% of training labels), folder of the checkpoint,
        and whether it was reused. The budgets are saved as patch ids in ``label_budgets-seed<n>.json`` of the
        run folder.
    """
    absent = set(left_out(store, study.settings.grid.methods)["key"])
    trials = [trial for trial in plan(study.settings.grid) if trial.method not in absent]
    budgets = draw_budgets(store, study.settings.grid)
    ids = store.index["patch_id"].tolist()
    for seed, chosen in budgets.items():
        below = {fraction: rows for fraction, rows in chosen.items() if fraction < 100}
        path = study.folder / f"label_budgets-seed{seed}.json"
        save_budgets(path, below, ids, store.labels, store.class_names, seed)
    calls = {}
    for trial in trials:
        settings = settings_of(trial, study.settings, choices)
        rows = budgets[trial.seed][trial.budget] if trial.budget else np.empty(0, dtype=np.int64)
        folder = checkpoint_folder(store, settings, rows)
        calls[str(trial)] = (store, settings, rows, folder)
    reused = [(call[3] / CARD).exists() for call in calls.values()]
    there = train_missing(study, calls, "pretraining")
    table = pd.DataFrame([asdict(trial) for trial in trials])
    table["folder"] = [str(call[3]) for call in calls.values()]
    table["reused"] = reused
    return table[[name in there for name in calls]].reset_index(drop=True)


def left_out(store: PackedStore, methods: Sequence[str]) -> pd.DataFrame:
    """Return the methods that these data say nothing of, and why: key, method, why."""
    why = "its views are of two dates, and no place was seen twice: it would be MoSAiC again"
    names = [name for name in methods if get_method(name).temporal]
    if names and store.temporal_positives.counts.any():
        names = []
    rows = [(name, get_method(name).title, why) for name in names]
    return pd.DataFrame(rows, columns=["key", "method", "why"])


def train_missing(study: Study, calls: Mapping[str, TrainCall], what: str) -> list[str]:
    """Train the encoders that are not in the cache yet; returns the names of those that now are."""
    return run_trials(study, pretrain_trial, calls, what, "train", CARD)


def full_label_call(
    store: PackedStore, trial: Trial, settings: StudySettings, choices: Choices | None
) -> TrainCall:
    """Return what trains one encoder on every training label of a store, or on none if it needs none."""
    own = settings_of(trial, settings, choices)
    rows = store.split_rows("train") if trial.budget else np.empty(0, dtype=np.int64)
    return store, own, rows, checkpoint_folder(store, own, rows)


def checkpoint_folder(store: PackedStore, settings: TrialSettings, labelled_rows: np.ndarray) -> Path:
    """Return where the encoder of one trial lies: named by data, method, configuration and label budget."""
    row = asdict(get_method(settings.method))
    key = {
        "data": store.fingerprint,
        # a row of the table that changes is another method under the same name
        "method": {name: value for name, value in row.items() if name not in _NOT_TRAINED},
        # how often we look does not change what is learned, but it is in the log that the key stands for
        "settings": settings.flat(),
        "labelled": sorted(store.index["patch_id"].to_numpy()[labelled_rows].tolist()),
    }
    return cache_path(f"pretrain/{settings.method}-seed{settings.seed}", key)


def pretrain_trial(
    store: PackedStore, settings: TrialSettings, labelled_rows: np.ndarray, folder: Path
) -> Path:
    """Train one trial; runs in a process of its own."""
    return pretrain(store, settings, labelled_rows, folder)


def training_logs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the logs of all trained trials, one row a logged step, with method, seed and budget."""
    parts = []
    for trial in trials.to_dict("records"):
        path = Path(trial["folder"]) / "log.csv"
        if path.exists():
            log = pd.read_csv(path)
            parts.append(log.assign(**{name: trial[name] for name in ("method", "seed", "budget")}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def training_costs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what each trial cost: the timing entries of its card (seconds, steps/s, peak memory, device)."""
    cards = [read_json(Path(folder) / CARD) for folder in trials["folder"]]
    timing: list[Mapping[str, object]] = [card.get("timing", {}) for card in cards]
    return pd.concat([trials[["method", "seed", "budget"]], pd.DataFrame(timing)], axis=1)


def methods_table(methods: Sequence[str]) -> pd.DataFrame:
    """Return the rows of the table of methods that a run uses: title, family, inputs and term weights."""
    rows = [get_method(name) for name in methods]
    return pd.DataFrame(
        [
            {
                "method": method.title,
                "family": method.family,
                "encoders": ", ".join(method.streams),
                **{term: f"{getattr(method, term):g}" for term in ("intra", "inter", "label", "classify")},
            }
            for method in rows
        ]
    )
