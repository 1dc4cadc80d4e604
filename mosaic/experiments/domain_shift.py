"""Does it carry over to a country or season that training never saw? The second part of ``05``."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation.bootstrap import resampled_ap
from mosaic.evaluation.probes import linear_probe
from mosaic.experiments.grid import full_label_call, train_missing
from mosaic.experiments.jobs import run_trials
from mosaic.experiments.study import Study, cache_path
from mosaic.experiments.transfer import Side, encoded, full_label_trials, splits_of
from mosaic.methods import get_method
from mosaic.store.reader import PackedStore
from mosaic.utils.files import atomic_path

#: Columns of an index by which its places can be divided, the first that is there.
DOMAINS = ("country", "season")
_LEAST_SCENES = 2  # of a domain's test patches, for an interval


def domains(store: PackedStore, most: int) -> tuple[str, list[str]]:
    """Return the column that divides an archive, and its largest domains in the test split.

    A domain must have test patches of two scenes, and leave training and validation patches of others.

    Args:
        store: packed data.
        most: domains wanted; 0 for none.
    """
    column = next((name for name in DOMAINS if name in store.index), "")
    if not column or not most:
        return column, []
    test = store.index.iloc[store.split_rows("test")]
    sizes = test.groupby(column).agg(patches=("scene", "size"), scenes=("scene", "nunique"))
    sizes = sizes[sizes["scenes"] >= _LEAST_SCENES].sort_values("patches", ascending=False, kind="stable")
    others = {
        split: store.index.iloc[store.split_rows(split)][column].value_counts()
        for split in ("train", "validation")
    }
    whole = [d for d in sizes.index if all(set(counts.index) - {d} for counts in others.values())]
    return column, [str(name) for name in whole[:most]]


def unseen_all(study: Study, side: Side) -> pd.DataFrame:
    """Train without each of the largest domains, and test there; beside it, training with them.

    Returns:
        One row a domain, method and training (``seen``, ``unseen``, or ``change``, unseen less seen): value
        (macro average precision, or its difference), low, high, n_seeds, n_scenes, n (test patches).
    """
    column, chosen = domains(side.store, study.settings.transfer.held_out)
    trials = full_label_trials(side.settings.grid, study.settings.transfer.transfer_methods)
    whole = {str(trial): full_label_call(side.store, trial, side.settings, side.choices) for trial in trials}
    parts = {name: PackedStore(side.store.folder, side.store.bands, (column, name)) for name in chosen}
    held = {
        name: {
            f"{trial}, without {name}": full_label_call(part, trial, side.settings, side.choices)
            for trial in trials
        }
        for name, part in parts.items()
    }
    there: set[str] = set()
    if chosen:
        there = {*train_missing(study, whole, "pretraining")}
        every = {name: call for calls in held.values() for name, call in calls.items()}
        there |= {*train_missing(study, every, f"pretraining without a {column}")}
    calls: dict[str, tuple[Any, ...]] = {}
    kept: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        test = side.store.split_rows("test")
        rows = test[side.store.index[column].to_numpy()[test] == name]
        for kind, store, trained in (("seen", side.store, whole), ("unseen", part, held[name])):
            for trial, (label, (*_, folder)) in zip(trials, trained.items(), strict=True):
                if label not in there:
                    continue
                key = {"encoder": folder.name, "data": store.fingerprint, "domain": [column, name]}
                path = cache_path("unseen", key, ".npz")
                about = f"{trial}, {kind} {name}"
                calls[about] = (folder, trial.method, store, rows, path)
                kept[about] = {"domain": name, "method": trial.method, "training": kind}
                kept[about] |= {"seed": trial.seed, "path": path}
    judged = [kept[name] for name in run_trials(study, judge_there, calls, "places never seen", "judge")]
    return _unseen_table(pd.DataFrame(judged), side.store, column, study.settings.bootstrap_resamples)


def _unseen_table(kept: pd.DataFrame, store: PackedStore, column: str, resamples: int) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for (name, method), members in kept.groupby(["domain", "method"], sort=False) if len(kept) else []:
        test = store.split_rows("test")
        there = test[store.index[column].to_numpy()[test] == name]
        labels, scenes = store.labels[there], store.scenes[there]
        trained = members.groupby("seed")["training"].nunique()
        members = members[members["seed"].isin(trained[trained == 2].index)]  # of both: others failed
        if members.empty:
            continue
        arrays = {
            kind: [np.load(path)["scores"] for path in own.sort_values("seed")["path"]]
            for kind, own in members.groupby("training")
        }
        ap = {kind: resampled_ap(labels, each, scenes, resamples=resamples) for kind, each in arrays.items()}
        spans = {kind: each.interval() for kind, each in ap.items()}
        spans["change"] = (ap["unseen"] - ap["seen"]).interval()
        rows += [
            {
                "domain": name,
                "method": method,
                "training": kind,
                "n": len(there),
                **{part: getattr(span, part) for part in ("value", "low", "high", "n_seeds", "n_scenes")},
            }
            for kind, span in spans.items()
        ]
    columns = ["domain", "method", "training", "value", "low", "high", "n_seeds", "n_scenes", "n"]
    return pd.DataFrame(rows, columns=columns)


def judge_there(
    checkpoint: Path, method: str, store: PackedStore, rows: NDArray[np.int64], path: Path
) -> Path:
    """Fit a probe on a store's training labels and score some rows; runs in its own process.

    Args:
        checkpoint: folder of the encoder.
        method: its row of the table.
        store: what encoder and probe may learn from.
        rows: test rows that are scored.
        path: the ``.npz`` to write: ``scores`` (N, C).
    """
    wanted = {**splits_of(store), "test": rows}
    inputs = encoded(store, checkpoint, method, wanted)
    probe = linear_probe(
        inputs["train"],
        store.labels[wanted["train"]],
        inputs["validation"],
        store.labels[wanted["validation"]],
        {"test": inputs["test"]},
    )
    with atomic_path(path) as partial:
        np.savez_compressed(partial, scores=probe.scores["test"])
    return path


def shown_unseen(table: pd.DataFrame) -> pd.DataFrame:
    """Return the held-out domains as readers see them: a row a domain and method."""
    titles = {"seen": "seen in training", "unseen": "never seen", "change": "change"}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in table.to_dict("records"):
        row = rows.setdefault(
            (one["domain"], one["method"]),
            {"domain": one["domain"], "method": get_method(one["method"]).title},
        )
        row[titles[one["training"]]] = (one["value"], one["low"], one["high"])
        row |= {"patches": one["n"], "scenes": one["n_scenes"], "seeds": one["n_seeds"]}
    columns = ["domain", "method", *titles.values(), "patches", "scenes", "seeds"]
    return pd.DataFrame(list(rows.values()), columns=columns if rows else None)


def mean_change(table: pd.DataFrame) -> pd.Series:
    """Return method -> change of macro average precision in places never seen, mean over them."""
    return table[table["training"] == "change"].groupby("method", sort=False)["value"].mean()
