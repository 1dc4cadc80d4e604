"""Predictions of every encoder, by every evaluation. What ``03_finetune_low_label`` runs first."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation.features import Features
from mosaic.evaluation.probes import knn_scores, linear_probe
from mosaic.experiments.grid import draw_budgets, require_trained_on
from mosaic.experiments.parallel import encoder_task, run_trials
from mosaic.experiments.predictions import KEYS, save_arrays
from mosaic.experiments.probe import encode, split_rows
from mosaic.experiments.study import Study
from mosaic.methods import get_method
from mosaic.settings import EvaluationSettings, TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.finetune import classifier_scores, finetune
from mosaic.utils.devices import resolve_precision
from mosaic.utils.files import lock

Inputs = Mapping[str, Features]
Scores = dict[str, NDArray[np.float32]]
_EVALUATED = ("validation", "test")


def evaluated_fractions(budget: float, fractions: Sequence[float]) -> list[tuple[str, float]]:
    """Return (label budget, label fraction in %) pairs at which an encoder of this budget is evaluated.

    An encoder that used no labels is evaluated at every fraction; one that used f % at f, as pretraining and
    evaluation share the budget; one that used all at every fraction, and at 100 % as ``"shared"`` too.
    """
    if budget == 0:
        return [("none", f) for f in fractions]
    pairs = [("shared", budget)] if budget in fractions else []
    return pairs + ([("full", f) for f in fractions] if budget == 100 else [])


def predict_all(study: Study, store: PackedStore, encoders: pd.DataFrame) -> pd.DataFrame:
    """Predict with every encoder that has not predicted yet.

    Returns:
        One row a set of predictions: seed, the columns of :data:`KEYS`, and where it lies (path, key).
    """
    settings, earlier = study.settings.evaluation, study.earlier("02_pretrain").settings
    grid, precision = earlier.grid, resolve_precision(earlier.trial.precision)
    require_trained_on(store, encoders)
    budgets, tasks = draw_budgets(store, grid), {}
    for row in encoders.to_dict("records"):
        fractions = sorted({f for _, f in evaluated_fractions(row["budget"], grid.label_fractions)})
        used = settings.model_dump(exclude={} if "knn" in settings.evaluations else {"neighbours"})
        if "finetune" not in settings.evaluations or get_method(row["method"]).only_classifies:
            used = {name: value for name, value in used.items() if not name.startswith("finetune")}
        else:
            used["precision"] = precision
        key = {"settings": used, "fractions": fractions}
        chosen = {f: budgets[row["seed"]][f] for f in fractions}
        tasks[row["trial"]] = encoder_task("predictions", row, key, store, chosen, settings, precision)
    rows = []
    for row in run_trials(study, "evaluation", predict_trial, tasks).to_dict("records"):
        with np.load(row["path"]) as file:
            keys = [key.removesuffix("|test") for key in file.files if key.endswith("|test")]
        pairs = evaluated_fractions(row["budget"], grid.label_fractions)
        for key, (budget, f) in itertools.product(keys, pairs):
            fraction, evaluation, source = key.split("|")
            if f"{f:g}" == fraction:
                values = row["seed"], row["method"], budget, f, evaluation, source, row["path"], key
                rows.append(dict(zip(("seed", *KEYS, "path", "key"), values, strict=True)))
    return pd.DataFrame(rows)


def predict_trial(
    encoder: Mapping[str, Any],
    store: PackedStore,
    budgets: Mapping[float, NDArray[np.int64]],
    settings: EvaluationSettings,
    precision: Literal["32", "bf16-mixed"],
    path: Path,
) -> None:
    """Predict the validation and test splits with every evaluation of one encoder, or wait for who does.

    Args:
        encoder: its method, seed, budget and folder.
        store: packed data.
        budgets: label fraction in % -> training rows whose labels the evaluation may use.
        settings: of the evaluations.
        precision: of fine-tuning.
        path: the ``.npz`` to write: ``fraction|evaluation|input|split`` -> float32 (N, C).
    """
    with lock(path.with_suffix(""), wait=True):  # fine-tuning keeps its files there
        if path.exists():
            return
        checkpoint, rows = Path(encoder["folder"]), split_rows(store)
        evaluated = {split: rows[split] for split in _EVALUATED}
        inputs = encode(store, checkpoint, rows)
        scores: Scores = {}
        for fraction, labelled in budgets.items():
            chosen, labels = np.searchsorted(rows["train"], labelled), store.labels[labelled]
            found: Scores = {}
            if "knn" in settings.evaluations:
                found |= _knn(inputs, chosen, labels, settings.neighbours)
            if "linear" in settings.evaluations:
                found |= _linear(inputs, chosen, labels, store.labels[rows["validation"]])
            if get_method(encoder["method"]).only_classifies:
                # its classifier has seen the labels of its own budget, so it stands for no other fraction
                if fraction == encoder["budget"]:
                    results = classifier_scores(checkpoint, {s: inputs[s] for s in _EVALUATED})
                    found |= _keyed("end_to_end", results)
            elif "finetune" in settings.evaluations:
                trial = TrialSettings(seed=encoder["seed"], steps=settings.finetune_steps).replace(
                    batch_scenes=min(settings.finetune_batch, len(labelled)),
                    learning_rate=settings.finetune_learning_rate,
                    precision=precision,
                )
                folder = path.with_suffix("") / f"finetune-{fraction:g}"
                results = finetune(store, checkpoint, labelled, evaluated, folder, trial)
                found |= _keyed("finetune", results)
            scores |= {f"{fraction:g}|{key}": each for key, each in found.items()}
        save_arrays(path, scores)


def _keyed(evaluation: str, scores: Mapping[str, Mapping[str, NDArray[np.float32]]]) -> Scores:
    return {f"{evaluation}|{source}|{s}": each for s in scores for source, each in scores[s].items()}


def _knn(inputs: Inputs, chosen: NDArray[np.int64], labels: NDArray[np.uint8], k: int) -> Scores:
    scores = {}
    for source, split in itertools.product(inputs["train"], _EVALUATED):
        # a missing sensor is missing at test time only: the neighbours have both
        train = inputs["train"]["fused" if source.startswith("fused") else source]
        scores[f"knn|{source}|{split}"] = knn_scores(train[chosen], labels, inputs[split][source], k)
    return scores


def _linear(
    inputs: Inputs, chosen: NDArray[np.int64], labels: NDArray[np.uint8], validation: NDArray[np.uint8]
) -> Scores:
    scores: Scores = {}
    for source in [source for source in inputs["train"] if "without" not in source]:
        others = [name for name in inputs["train"] if name == source or name.startswith(f"{source}_without")]
        evaluated = {f"linear|{name}|{s}": inputs[s][name] for s in _EVALUATED for name in others}
        train, features = inputs["train"][source][chosen], inputs["validation"][source]
        scores |= linear_probe(train, labels, features, validation, evaluated)[0]
    return scores
