"""Tables of transfers: to another archive, and to a country or season that training never saw."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from mosaic.evaluation.uncertainty import Estimate, estimate_ap
from mosaic.experiments.predictions import read_arrays
from mosaic.experiments.probe import coarse_labels
from mosaic.experiments.transfer import Side, coarse_classes, domain_rows
from mosaic.store.reader import PackedStore

_SHIFT = ["domain", "method", "training", "value", "low", "high", "n_seeds", "n_scenes", "n"]


def transfer_table(trials: pd.DataFrame, sides: Sequence[Side]) -> pd.DataFrame:
    """Return the macro average precision of each transfer over coarse classes of the target's test split.

    A row a source, target, method, label fraction and probe: ``target``, fitted on that share of the target's
    training labels; ``source``, on all of the source's, none of the target's; and on all labels of the target
    ``change``, the paired difference to the target's own encoder, on the seeds that both have.
    """
    names = coarse_classes([side.store for side in sides])
    stores = {side.title: side.store for side in sides}
    rows, estimates = [], {}
    grouped = trials.groupby(["source", "target", "method"], sort=False) if len(trials) else ()
    for group, members in grouped:
        source, target, method = map(str, tuple(group))
        test = stores[target].split_rows("test")
        labels, scenes = coarse_labels(stores[target], names)[test], stores[target].scenes[test]
        seeds = {row["seed"]: read_arrays(row["path"]) for _, row in members.sort_values("seed").iterrows()}
        for name in next(iter(seeds.values())):
            probe, fraction = name.split("|")
            scored = {seed: estimate_ap(labels, [each[name]], scenes) for seed, each in seeds.items()}
            estimates[source, target, method, probe, float(fraction)] = scored
    most = max((key[-1] for key in estimates if key[-2] == "target"), default=0.0)
    columns = ("source", "target", "method", "probe", "fraction")
    for key, scored in estimates.items():
        facts = dict(zip(columns, key, strict=True)) | {"n": len(stores[key[1]].split_rows("test"))}
        rows.append({**facts, **asdict(Estimate.over_seeds(list(scored.values())).interval())})
        home = estimates.get((key[1], *key[1:]), {}) if key[0] != key[1] and key[-1] == most else {}
        if changes := [scored[seed] - home[seed] for seed in scored if seed in home]:
            rows.append({**facts, "probe": "change", **asdict(Estimate.over_seeds(changes).interval())})
    return pd.DataFrame(rows)


def domain_shift_table(trials: pd.DataFrame, store: PackedStore) -> pd.DataFrame:
    """Return macro average precision in each domain, a row a method and training, with n test patches.

    Training is ``seen``, ``unseen``, or ``change``, the paired difference: unseen less seen.
    """
    table: list[dict[str, Any]] = []
    for (domain, method), members in trials.groupby(["domain", "method"], sort=False) if len(trials) else []:
        rows = domain_rows(store, str(domain))
        labels, scenes = store.labels[rows], store.scenes[rows]
        trainings = members.groupby("seed")["training"].nunique()
        members = members[members["seed"].isin(trainings[trainings == 2].index)]  # of other seeds one failed
        if members.empty:
            continue
        ap = {}
        for training, seeds in members.groupby("training"):
            scores = [read_arrays(path)["scores"] for path in seeds.sort_values("seed")["path"]]
            ap[training] = estimate_ap(labels, scores, scenes)
        ap["change"] = ap["unseen"] - ap["seen"]
        for training, each in ap.items():
            facts = {"domain": domain, "method": method, "training": training, "n": len(rows)}
            table.append({**facts, **asdict(each.interval())})
    return pd.DataFrame(table, columns=_SHIFT)


def changes_table(transfers: pd.DataFrame, shifts: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the changes of both tables; ``column`` says what a domain is, such as ``"country"``."""
    parts = []
    if len(transfers):
        moved = transfers[transfers["probe"] == "change"]
        parts.append(moved.assign(where="from " + moved["source"] + " to " + moved["target"]))
    seen = shifts[shifts["training"] == "change"]
    parts.append(seen.assign(where=f"in a {column} never seen (" + seen["domain"] + ")"))
    return pd.concat(parts)[["where", "method", "value", "low", "high", "n_seeds", "n_scenes", "n"]]
