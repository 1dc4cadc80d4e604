"""Predictions of every encoder, by every evaluation. What ``03`` runs first."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation.features import encode_splits
from mosaic.evaluation.probes import knn_scores, linear_probe
from mosaic.experiments.grid import Trial, draw_budgets
from mosaic.experiments.jobs import run_trials
from mosaic.experiments.predictions import KEYS
from mosaic.experiments.study import Study, cache_path
from mosaic.methods import get_method
from mosaic.settings import EvaluationSettings, TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.finetune import classifier_scores, finetune
from mosaic.utils.files import atomic_path, lock

Budgets = Mapping[float, NDArray[np.int64]]


def evaluated_fractions(budget: float, fractions: Sequence[float]) -> list[tuple[str, float]]:
    """Return (label budget, label fraction) pairs at which an encoder of this budget is evaluated.

    An encoder that used no labels (``"none"``) is evaluated at every fraction; one that used f % at f, as
    pretraining and evaluation share the budget (``"shared"``); one that used all (``"full"``) at every
    fraction, and at 100 % as ``"shared"`` too.
    """
    if budget == 0:
        return [("none", f) for f in fractions]
    pairs = [("shared", budget)] if budget in fractions else []
    return pairs + ([("full", f) for f in fractions] if budget == 100 else [])


def predict_trial(
    store_folder: Path,
    checkpoint: Path,
    trial: Trial,
    budgets: Budgets,
    settings: EvaluationSettings,
    path: Path,
) -> Path:
    """Predict the validation and test splits with every evaluation of one encoder; runs in its own process.

    Where another process is at the same, this one waits for it.

    Args:
        store_folder: packed data.
        checkpoint: folder of the encoder.
        trial: its method, seed and label budget.
        budgets: label fraction -> training rows whose labels the evaluation may use.
        settings: the parameters of ``03_finetune_low_label``.
        path: the ``.npz`` to write: ``evaluation|input|fraction|split`` -> float32 (N, C).
    """
    with lock(path.with_suffix(""), wait=True):  # fine-tuning keeps its files there
        if not path.exists():
            found = _assessed(PackedStore(store_folder), checkpoint, trial, budgets, settings, path)
            with atomic_path(path) as partial:
                np.savez_compressed(partial, **found)  # type: ignore[arg-type]  # its stub knows no keyword arrays
    return path


def _assessed(
    store: PackedStore,
    checkpoint: Path,
    trial: Trial,
    budgets: Budgets,
    settings: EvaluationSettings,
    path: Path,
) -> dict[str, NDArray[np.float32]]:
    rows = {split: store.split_rows(split) for split in ("train", "validation", "test")}
    inputs = encode_splits(store, checkpoint, rows)
    found: dict[str, NDArray[np.float32]] = {}
    for fraction, labelled in budgets.items():
        chosen = np.searchsorted(rows["train"], labelled)
        labels = store.labels[labelled]
        if "knn" in settings.evaluations:
            for source, train in inputs["train"].items():
                # a missing sensor is missing at test time only: the neighbours have both
                base = inputs["train"]["fused"] if source.startswith("fused") else train
                for split in ("validation", "test"):
                    found[f"knn|{source}|{fraction:g}|{split}"] = knn_scores(
                        base[chosen], labels, inputs[split][source], settings.neighbours
                    )
        if "linear" in settings.evaluations:
            for source in [s for s in inputs["train"] if "without" not in s]:
                judged = {
                    f"{other}|{fraction:g}|{split}": inputs[split][other]
                    for split in ("validation", "test")
                    for other in inputs[split]
                    if other == source or (source == "fused" and other.startswith("fused"))
                }
                probe = linear_probe(
                    inputs["train"][source][chosen],
                    labels,
                    inputs["validation"][source],
                    store.labels[rows["validation"]],
                    judged,
                )
                found.update({f"linear|{key}": value for key, value in probe.scores.items()})
        trained = _trained(store, checkpoint, trial, labelled, rows, fraction, settings, path)
        found.update(trained)
    return found


def _trained(
    store: PackedStore,
    checkpoint: Path,
    trial: Trial,
    labelled: NDArray[np.int64],
    rows: Mapping[str, NDArray[np.int64]],
    fraction: float,
    settings: EvaluationSettings,
    path: Path,
) -> dict[str, NDArray[np.float32]]:
    """Predict with a supervised method's own classifier, or after fine-tuning the whole encoder.

    That classifier has seen the labels of its own budget, so it stands for no other fraction.
    """
    judged = {split: rows[split] for split in ("validation", "test")}
    if get_method(trial.method).only_classifies:
        if fraction != trial.budget:
            return {}
        kind, result = "end_to_end", classifier_scores(store, checkpoint, rows["train"], judged)
    elif "finetune" in settings.evaluations:
        finetuning = TrialSettings(seed=trial.seed, steps=settings.finetune_steps).replace(
            batch_scenes=min(settings.finetune_batch, len(labelled)),
            learning_rate=settings.finetune_learning_rate,
        )
        folder = path.with_suffix("") / f"finetune-{fraction:g}"
        kind, result = "finetune", finetune(store, checkpoint, labelled, judged, folder, finetuning)
    else:
        return {}
    return {
        f"{kind}|{source}|{fraction:g}|{split}": values
        for split, by_input in result.items()
        for source, values in by_input.items()
    }


def predict_all(study: Study, store: PackedStore, trials: pd.DataFrame) -> pd.DataFrame:
    """Predict with every encoder that is not in the cache yet.

    Returns:
        One row a set of predictions, of the encoders that could be judged: seed, the columns of :data:`KEYS`,
        and where it lies (path, key).
    """
    pretraining = study.earlier("02_pretrain").settings
    budgets = draw_budgets(store, pretraining.grid)
    settings = study.settings.evaluation
    calls, wanted = {}, {}
    for row in trials.to_dict("records"):
        trial, folder = Trial(row["method"], row["seed"], row["budget"]), Path(row["folder"])
        pairs = evaluated_fractions(trial.budget, pretraining.grid.label_fractions)
        chosen = {f: budgets[trial.seed][f] for f in sorted({f for _, f in pairs})}
        key = {"encoder": folder.name, "settings": settings.model_dump(), "fractions": list(chosen)}
        path = cache_path("predictions", key, ".npz")
        calls[str(trial)] = (store.folder, folder, trial, chosen, settings, path)
        wanted[str(trial)] = (trial, pairs, path)
    rows = []
    for name in run_trials(study, predict_trial, calls, "evaluation", "judge"):
        trial, pairs, path = wanted[name]
        with np.load(path) as file:
            keys = [key.split("|") for key in file.files if key.endswith("|test")]
        for evaluation, source, fraction, _ in keys:
            for budget, f in pairs:
                if f"{f:g}" == fraction:
                    place = f"{evaluation}|{source}|{fraction}"
                    entry = dict(zip(KEYS, (trial.method, budget, f, evaluation, source), strict=True))
                    rows.append({"seed": trial.seed, **entry, "path": str(path), "key": place})
    return pd.DataFrame(rows)
