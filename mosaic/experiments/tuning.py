"""Choosing hyperparameters on validation: the same small grid, and so the same effort, for every method.

Each method has three candidates, the run's own settings among them. A candidate is trained once, shortly,
with every training label and a seed that no result uses; the macro average precision of a linear probe on
validation decides. Test patches are never looked at. Variants of a method take what was chosen for it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mosaic.evaluation.metrics import macro_ap
from mosaic.experiments import grid
from mosaic.experiments.parallel import encoder_task, run_trials
from mosaic.experiments.predictions import read_arrays
from mosaic.experiments.probe import Probe, probe_trial
from mosaic.experiments.study import Study
from mosaic.methods import METHODS, get_method
from mosaic.models.checkpoint import CARD
from mosaic.settings import GridSettings
from mosaic.store.reader import PackedStore
from mosaic.utils.files import read_json

#: Seed of every candidate.
SEED = 1000

Candidate = Mapping[str, Any]
_RATES: tuple[Candidate, ...] = ({}, {"learning_rate": 3e-4}, {"learning_rate": 3e-3})
_WIDTHS: tuple[Candidate, ...] = ({}, {"projection_dim": 512}, {"off_diagonal": 0.02})
_VIEWS: tuple[Candidate, ...] = ({}, {"temperature_intra": 0.2}, {"temperature_intra": 0.1})
_SUPCON: tuple[Candidate, ...] = ({}, {"temperature_label": 0.2}, {"kernel": "idf_jaccard"})
_BOTH: tuple[Candidate, ...] = tuple({"temperature_intra": t, "temperature_inter": t} for t in (0.2, 0.1))
_MOSAIC: tuple[Candidate, ...] = ({}, _BOTH[0], {"label_weight": 0.3})
#: Method -> changes to the run's settings. Supervised methods have little else to choose than their rate.
GRIDS: dict[str, tuple[Candidate, ...]] = {
    "simclr_s1": _VIEWS,
    "simclr_s2": _VIEWS,
    "inter": ({}, {"temperature_inter": 0.2}, {"temperature_inter": 0.1}),
    "iai": ({}, *_BOTH),
    "vicreg": ({}, {"projection_dim": 512}, {"covariance": 5.0}),
    "barlow": _WIDTHS,
    "decur": _WIDTHS,
    "supcon": _SUPCON,
    "supcon_queue": _SUPCON,
    "msc": ({}, {"temperature_label": 0.07}, {"msc_alpha": 0.5}),
    "macl": ({}, {"temperature_spread": 1.0}, {"rarity_pull": 0.0}),
    "sadcl": ({}, {"contrast_weight": 0.3}, {"learning_rate": 3e-3}),
    "mosaic": _MOSAIC,
    "mosaic_vit": _MOSAIC,
}


def candidates(settings: GridSettings) -> list[tuple[str, Candidate]]:
    """Return method and changes of every candidate; a method that takes another's choice has none."""
    sources = {get_method(name).like or name for name in settings.methods if settings.tuning_steps}
    tried = [name for name, method in METHODS.items() if name in sources and method.trained]
    return [(name, changes) for name in tried for changes in GRIDS.get(name, _RATES)]


def tune_all(study: Study, store: PackedStore) -> pd.DataFrame:
    """Train and score every candidate that is not in the cache yet, and return a row each.

    Columns are method, candidate (its changes in words), settings (dict), validation_ap, seconds and chosen.
    Empty when the run does not tune.
    """
    asked = study.settings.grid
    columns = ["method", "candidate", "settings", "validation_ap", "seconds", "chosen"]
    if not asked.tuning_steps:
        return pd.DataFrame(columns=columns)
    grid.check_choices(study.settings, store.layout)
    grid.draw_budgets(store, asked)  # which later stages need, so that an impossible one stops the run here
    short = study.settings.replace(steps=asked.tuning_steps)
    train = store.split_rows("train")
    tasks = {}
    for name, changes in candidates(asked):
        trial, rows = grid.Trial(name, SEED, 100.0), train if get_method(name).uses_labels else train[:0]
        settings = grid.settings_of(trial, short, {name: changes})
        task = grid.training_task(store, trial, settings, rows)
        words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in changes.items())
        row = {**task.row, "candidate": words or "as the run", "settings": dict(changes)}
        tasks[f"{name}, {row['candidate']}"] = replace(task, row=row)
    table = run_trials(study, "choosing hyperparameters", grid.pretrain_trial, tasks)
    validation, probes = store.split_rows("validation"), {"scores": Probe(store, train)}
    key, probing = {"data": store.fingerprint}, {}
    for row in table.to_dict("records"):
        name = f"{row['method']}, {row['candidate']}"
        probing[name] = encoder_task("tuning", row, key, probes, store, validation)
    table = run_trials(study, "probing candidates", probe_trial, probing)
    labels = store.labels[validation]
    table["validation_ap"] = [macro_ap(labels, read_arrays(path)["scores"]) for path in table["path"]]
    table["seconds"] = [read_json(Path(folder) / CARD)["timing"]["seconds"] for folder in table["folder"]]
    best = table.groupby("method")["validation_ap"].idxmax()
    return table.assign(chosen=table.index.isin(best))[columns]


def choices(tuned: pd.DataFrame) -> grid.Choices:
    """Return method -> the changes that were chosen for it."""
    chosen = tuned[tuned["chosen"].astype(bool)]
    return dict(zip(chosen["method"], chosen["settings"], strict=True))
