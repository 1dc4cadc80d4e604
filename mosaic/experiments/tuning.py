"""Choosing hyperparameters on validation: the same small grid, and so the same effort, for every method.

Each method has three candidates, the run's own settings among them. A candidate is trained once, shortly,
with every training label and a seed that no result uses; the macro average precision of a linear probe on
validation decides. Test patches are never looked at. Variants of a method take what was chosen for it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mosaic.evaluation.features import encode_splits
from mosaic.evaluation.probes import linear_probe
from mosaic.experiments.grid import Choices, Trial, checkpoint_folder, settings_of, train_missing
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.study import Study
from mosaic.methods import METHODS, Method, get_method
from mosaic.models.checkpoint import CARD
from mosaic.store.reader import PackedStore
from mosaic.utils.files import read_json

#: Seed of every candidate.
SEED = 1000

Candidate = Mapping[str, Any]
_RATES: tuple[Candidate, ...] = ({}, {"learning_rate": 3e-4}, {"learning_rate": 3e-3})
_WIDTHS: tuple[Candidate, ...] = ({}, {"projection_dim": 512}, {"off_diagonal": 0.02})
_MOSAIC: tuple[Candidate, ...] = (
    {},
    {"temperature_intra": 0.2, "temperature_inter": 0.2},
    {"label_weight": 0.3},
)
#: Method -> changes to the run's settings. Supervised methods have little else to choose than their rate.
GRIDS: dict[str, tuple[Candidate, ...]] = {
    "simclr_s1": ({}, {"temperature_intra": 0.2}, {"temperature_intra": 0.1}),
    "simclr_s2": ({}, {"temperature_intra": 0.2}, {"temperature_intra": 0.1}),
    "inter": ({}, {"temperature_inter": 0.2}, {"temperature_inter": 0.1}),
    "iai": (
        {},
        {"temperature_intra": 0.2, "temperature_inter": 0.2},
        {"temperature_intra": 0.1, "temperature_inter": 0.1},
    ),
    "vicreg": ({}, {"projection_dim": 512}, {"covariance": 5.0}),
    "barlow": _WIDTHS,
    "decur": _WIDTHS,
    "supcon": ({}, {"temperature_label": 0.2}, {"kernel": "idf_jaccard"}),
    "supcon_queue": ({}, {"temperature_label": 0.2}, {"kernel": "idf_jaccard"}),
    "msc": ({}, {"temperature_label": 0.07}, {"msc_alpha": 0.5}),
    "macl": ({}, {"temperature_spread": 1.0}, {"rarity_pull": 0.0}),
    "sadcl": ({}, {"contrast_weight": 0.3}, {"learning_rate": 3e-3}),
    "mosaic": _MOSAIC,
    "mosaic_vit": _MOSAIC,
}


def grid_of(method: Method) -> tuple[Candidate, ...]:
    """Return the candidates of a method; none for one that is not trained or takes another's choice."""
    if not method.trained or method.like:
        return ()
    return GRIDS.get(method.name, _RATES)


def tune_all(study: Study, store: PackedStore) -> pd.DataFrame:
    """Train and score every candidate that is not in the cache yet.

    Returns:
        One row a candidate: method, candidate (its changes in words), settings (dict), validation_ap,
        seconds and chosen. Empty when the run does not tune.
    """
    settings = study.settings
    if not settings.grid.tuning_steps:
        return pd.DataFrame(columns=["method", "candidate", "settings", "validation_ap", "seconds", "chosen"])
    short = settings.replace(steps=settings.grid.tuning_steps)
    train = store.split_rows("train")
    sources = {get_method(name).like or name for name in settings.grid.methods}
    candidates, calls = {}, {}
    for name in (name for name in METHODS if name in sources):
        method = get_method(name)
        for changes in grid_of(method):
            trial = settings_of(Trial(name, SEED, 100.0), short, {name: changes})
            rows = train if method.uses_labels else np.empty(0, dtype=np.int64)
            folder = checkpoint_folder(store, trial, rows)
            words = f"{name}, {in_words(changes)}"
            candidates[words] = (name, changes, folder)
            calls[words] = (store, trial, rows, folder)
    there = train_missing(study, calls, "choosing hyperparameters")
    candidates = {words: candidates[words] for words in there}

    def score() -> pd.DataFrame:
        probes = {words: (store.folder, folder, name) for words, (name, _, folder) in candidates.items()}
        return pd.DataFrame(
            {"validation_ap": parallel_map(validation_ap, list(probes.values()), "probing", settings.jobs)}
        )

    key = {"data": store.fingerprint, "candidates": [folder.name for _, _, folder in candidates.values()]}
    table = pd.DataFrame({"method": [name for name, _, _ in candidates.values()]})
    table["candidate"] = [in_words(changes) for _, changes, _ in candidates.values()]
    table["settings"] = pd.Series([dict(changes) for _, changes, _ in candidates.values()], dtype=object)
    table["validation_ap"] = study.cached("tuning", key, score)["validation_ap"].to_numpy()
    table["seconds"] = [read_json(folder / CARD)["timing"]["seconds"] for _, _, folder in candidates.values()]
    best = table.groupby("method")["validation_ap"].idxmax()
    return table.assign(chosen=table.index.isin(best))


def validation_ap(store_folder: Any, checkpoint: Any, method: str) -> float:
    """Return the macro average precision on validation of a linear probe on every training label."""
    store = PackedStore(store_folder)
    rows = {split: store.split_rows(split) for split in ("train", "validation")}
    inputs = encode_splits(store, checkpoint, rows)
    offered = get_method(method).inputs
    main = "fused" if "fused" in offered else offered[0]
    labels = store.labels[rows["validation"]]
    train, validation = inputs["train"][main], inputs["validation"][main]
    probe = linear_probe(train, store.labels[rows["train"]], validation, labels, {})
    return probe.validation_ap


def choices(tuned: pd.DataFrame) -> Choices:
    """Return method -> the changes that were chosen for it."""
    chosen = tuned[tuned["chosen"].astype(bool)]
    return dict(zip(chosen["method"], chosen["settings"], strict=True))


def in_words(changes: Candidate) -> str:
    """Return changes as readers see them."""
    words = [f"{name.replace('_', ' ')} {value}" for name, value in changes.items()]
    return ", ".join(words) or "as the run"


def shown(tuned: pd.DataFrame) -> pd.DataFrame:
    """Return the grid as readers see it: a row a method, what was chosen, what it gained, and the cost."""
    rows = []
    for name, part in tuned.groupby("method", sort=False):
        best, plain = part[part["chosen"]].iloc[0], part[part["candidate"] == in_words({})]
        rows.append(
            {
                "method": get_method(str(name)).title,
                "candidates": "; ".join(part["candidate"]),
                "chosen": best["candidate"],
                "macro AP, validation": best["validation_ap"],
                "gain over the run's setting": best["validation_ap"] - plain["validation_ap"].mean(),
                "seconds": part["seconds"].sum(),
            }
        )
    return pd.DataFrame(rows)
