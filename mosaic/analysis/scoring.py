"""Scores of sets of predictions, computed by worker processes.

Nothing here imports PyTorch or a plotting library, so a process which scores starts in a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.evaluation.label_overlap import Groups, Stratum, strata
from mosaic.evaluation.metrics import choose_thresholds, per_class_ap, scores
from mosaic.evaluation.uncertainty import Estimate, estimate_ap
from mosaic.experiments.predictions import KEYS, load, main_input
from mosaic.store.reader import PackedStore


def score_group(
    store_folder: Path, members: pd.DataFrame, groups: Groups, stratified: bool
) -> list[dict[str, Any]]:
    """Return tidy results of one set of predictions, of which ``members`` are the seeds."""
    store = PackedStore(store_folder)
    validation, test = (store.labels[store.split_rows(split)] for split in ("validation", "test"))
    scenes = store.scenes[store.split_rows("test")]
    whole = Stratum("all", np.arange(len(test)), np.arange(test.shape[1]))
    seeds = {row["seed"]: load(row) for _, row in members.iterrows()}
    rows: list[dict[str, Any]] = []
    for _, row in members.iterrows():
        values = scores(test, seeds[row["seed"]], choose_thresholds(validation, load(row, "validation")))
        shared = {"stratum": "all", "n": len(test), "n_scenes": len(np.unique(scenes)), "seed": row["seed"]}
        rows += [{**shared, "metric": metric, "value": value} for metric, value in values.items()]
    pooled = [(whole, "macro"), (whole, "micro")]
    if members["input"].iloc[0] == main_input(members["method"].iloc[0]):
        by_class = np.mean([per_class_ap(test, predictions) for predictions in seeds.values()], axis=0)
        shared = {"seed": -1, "n_seeds": len(seeds), "metric": "ap"}
        rows += [
            {**shared, "stratum": f"class: {name}", "n": int(positives), "value": value}
            for name, positives, value in zip(store.class_names, test.sum(0), by_class, strict=True)
        ]
        pooled += [(s, "macro") for s in strata(test, store.class_names, groups) if stratified]
    for stratum, average in pooled:
        ap = estimate_ap(test, list(seeds.values()), scenes, [stratum], average)
        shared = {"stratum": stratum.name, "n": len(stratum.patches), "metric": f"ap_{average}", "seed": -1}
        rows.append({**shared, **asdict(ap.interval())})
    about = {"dataset": store.manifest.dataset, **{key: members[key].iloc[0] for key in KEYS}}
    return [{**about, **row} for row in rows]


def method_ap(
    store: PackedStore, members: pd.DataFrame, average: str = "macro", subgroup: Sequence[Stratum] = ()
) -> Estimate:
    """Return the average precision of one method on the test split; ``members`` are its seeds."""
    test = store.split_rows("test")
    seeds = [load(row) for _, row in members.sort_values("seed").iterrows()]
    return estimate_ap(store.labels[test], seeds, store.scenes[test], subgroup, average)


def method_differences(
    store: PackedStore, members: pd.DataFrame, reference: pd.DataFrame, subgroups: Mapping[str, Stratum]
) -> list[dict[str, Any]]:
    """Return a method's difference to a reference in each subgroup, on the seeds that both have."""
    method = members["method"].iloc[0]
    each = {name: paired_difference(store, members, reference, (s,)) for name, s in subgroups.items()}
    return [
        {"method": method, "subgroup": name, **difference} for name, difference in each.items() if difference
    ]


def paired_difference(
    store: PackedStore, members: pd.DataFrame, reference: pd.DataFrame, subgroup: Sequence[Stratum] = ()
) -> dict[str, Any]:
    """Return the interval of macro AP of a method less a reference's, on common seeds; empty without any."""
    seeds = set(members["seed"]) & set(reference["seed"])
    if not seeds:
        return {}
    sides = (side[side["seed"].isin(seeds)] for side in (members, reference))
    method, other = (method_ap(store, side, subgroup=subgroup) for side in sides)
    return asdict((method - other).interval())
