"""Predictions of every encoder, by every evaluation. What ``03_finetune_low_label`` runs first."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation import probes
from mosaic.evaluation.metrics import choose_thresholds
from mosaic.experiments.grid import budget_key, draw_budgets, require_trained_on
from mosaic.experiments.parallel import encoder_task, run_trials
from mosaic.experiments.predictions import KEYS, main_input, save_arrays, sets_of_predictions
from mosaic.experiments.probe import encode, split_rows
from mosaic.experiments.study import Study
from mosaic.methods import get_method
from mosaic.settings import EvaluationSettings, TrialSettings
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.finetune import InputScores, classifier_scores, finetune
from mosaic.utils.devices import resolve_precision
from mosaic.utils.files import lock

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


def fine_tunes(settings: EvaluationSettings, encoder: Mapping[Any, Any]) -> bool:
    """Return whether the encoder of a trial, given its method and seed, is fine-tuned."""
    method, early = get_method(encoder["method"]), encoder["seed"] < settings.finetune_seeds
    return "finetune" in settings.evaluations and early and method.tunable and not method.only_classifies


def predict_all(study: Study, store: PackedStore, encoders: pd.DataFrame) -> pd.DataFrame:
    """Predict with every encoder that has not predicted yet, and return a row a set of predictions.

    Columns are seed, those of :data:`KEYS`, and where it lies (path, key).
    """
    settings, earlier = study.settings.evaluation, study.earlier("02_pretrain").settings
    grid, precision = earlier.grid, resolve_precision(earlier.trial.precision)
    require_trained_on(store, encoders)
    budgets, tasks = draw_budgets(store, grid), {}
    for row in encoders.to_dict("records"):
        fractions = sorted({f for _, f in evaluated_fractions(row["budget"], grid.label_fractions)})
        used: dict[str, Any] = settings.model_dump(
            exclude={"finetune_seeds"} | ({"neighbours"} if "knn" not in settings.evaluations else set())
        )
        if not fine_tunes(settings, row):
            used["evaluations"] = [name for name in settings.evaluations if name != "finetune"]
            used = {name: value for name, value in used.items() if not name.startswith("finetune")}
        else:
            used["precision"] = precision
        chosen = {f: budgets[row["seed"]][f] for f in fractions}
        key = {"settings": used, "labels": budget_key(chosen)}
        tasks[row["trial"]] = encoder_task("predictions", row, key, store, chosen, settings, precision)
    rows = []
    for row in run_trials(study, "evaluation", predict_trial, tasks).to_dict("records"):
        pairs = evaluated_fractions(row["budget"], grid.label_fractions)
        for found, (budget, f) in itertools.product(sets_of_predictions(row["path"]), pairs):
            fraction, evaluation, source, split = found
            if (fraction, split) == (f"{f:g}", "test"):
                facts = row["seed"], row["method"], budget, f, evaluation, source, row["path"]
                rows.append((*facts, "|".join(found[:3])))
    return pd.DataFrame(rows, columns=["seed", *KEYS, "path", "key"])


def predict_trial(
    encoder: Mapping[str, Any],
    store: PackedStore,
    budgets: Mapping[float, Rows],
    settings: EvaluationSettings,
    precision: Literal["32", "bf16-mixed"],
    path: Path,
) -> None:
    """Predict validation and test with every evaluation of one encoder, or wait for another who does.

    ``budgets`` are the training rows whose labels may be used, by percentage. The ``.npz`` at ``path`` gets
    ``percentage|evaluation|input|split`` -> float32 (N, C). For :func:`mosaic.experiments.trained.load` it
    gets of the main input, as ``percentage|kept|input|...``, the mean (F,) of the training features, the
    thresholds (C,), and unless there is a classifier the probe (F + 1, C), weights and then bias.
    """
    with lock(path.with_suffix(""), wait=True):  # fine-tuning keeps its files there
        if path.exists():
            return
        checkpoint, rows = Path(encoder["folder"]), split_rows(store)
        inputs, validation = encode(store, checkpoint, rows), store.labels[rows["validation"]]
        arrays: dict[str, NDArray[np.float32]] = {}
        for fraction, labelled in budgets.items():
            chosen, labels = np.searchsorted(rows["train"], labelled), store.labels[labelled]
            train = {source: features[chosen] for source, features in inputs["train"].items()}
            main = main_input(encoder["method"])
            scores, kept = {}, {f"kept|{main}|mean": inputs["train"][main].mean(0, np.float64)}
            if "knn" in settings.evaluations:
                for source, split in itertools.product(train, _EVALUATED):
                    # a missing sensor is missing at test time only: the neighbours have both
                    known, scored = train[source.partition("_without")[0]], inputs[split][source]
                    voted = probes.knn_scores(known, labels, scored, settings.neighbours)
                    scores[f"knn|{source}|{split}"] = voted
            if "linear" in settings.evaluations:
                for source in [source for source in train if "without" not in source]:
                    names = [name for name in train if name.partition("_without")[0] == source]
                    targets = {f"linear|{name}|{s}": inputs[s][name] for s in _EVALUATED for name in names}
                    tuned, strengths = (inputs["validation"][source], validation), list(probes.STRENGTHS)
                    if settings.probe_strength == "budget":
                        scenes = store.scenes[labelled]
                        strengths = [probes.cross_validated_strength(train[source], labels, scenes)]
                    found, probe = probes.linear_probe(train[source], labels, *tuned, targets, strengths)
                    scores |= found
                    if source == main:
                        kept[f"kept|{main}|probe"] = np.vstack([probe.weights, probe.bias])
            if get_method(encoder["method"]).architecture == "statistics":
                targets = {f"trees|fused|{s}": inputs[s]["fused"] for s in _EVALUATED}
                scores |= probes.tree_scores(train["fused"], labels, targets, encoder["seed"])
            ends: dict[str, InputScores] = {}
            if get_method(encoder["method"]).only_classifies:
                # its classifier has seen the labels of its own budget, so it stands for no other fraction
                if fraction == encoder["budget"]:
                    ends["end_to_end"] = classifier_scores(checkpoint, {s: inputs[s] for s in _EVALUATED})
            elif fine_tunes(settings, encoder):
                trial = TrialSettings(seed=encoder["seed"], steps=settings.finetune_steps).replace(
                    batch_scenes=min(settings.finetune_batch, len(labelled)),
                    learning_rate=settings.finetune_learning_rate,
                    precision=precision,
                )
                folder = path.with_suffix("") / f"finetune-{fraction:g}"
                evaluated = {split: rows[split] for split in _EVALUATED}
                ends["finetune"] = finetune(store, checkpoint, labelled, evaluated, folder, trial)
            for name, splits in ends.items():
                scores |= {f"{name}|{source}|{s}": splits[s][source] for s in splits for source in splits[s]}
            for name in ("linear", "end_to_end"):
                if (tuned_on := scores.get(f"{name}|{main}|validation")) is not None:
                    kept[f"kept|{main}|thresholds"] = choose_thresholds(validation, tuned_on)
            if "end_to_end" in ends:
                kept.pop(f"kept|{main}|probe", None)
            for name, each in {**scores, **kept}.items():
                arrays[f"{fraction:g}|{name}"] = each.astype(np.float32)
        save_arrays(path, arrays)
