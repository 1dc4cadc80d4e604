"""Scores of sets of predictions, computed by worker processes.

Nothing here imports PyTorch or a plotting library, so a process which scores starts in a second.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.evaluation.label_overlap import Groups, Stratum, strata
from mosaic.evaluation.metrics import choose_thresholds, per_class_ap, scores
from mosaic.evaluation.uncertainty import Estimate, Interval, estimate_ap
from mosaic.experiments.predictions import KEYS, load, main_input
from mosaic.store.reader import PackedStore


def score_group(
    store_folder: Path, members: pd.DataFrame, groups: Groups, common: bool
) -> list[dict[str, Any]]:
    """Return tidy results of one set of predictions, of which ``members`` are the seeds.

    Intervals are computed where a table or figure shows them: for the main input of a method, and for every
    input under the evaluation that all methods share (``common``), where strata are scored as well.
    """
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
    main = members["input"].iloc[0] == main_input(members["method"].iloc[0])
    pooled = [(whole, "macro"), (whole, "micro")]
    if main:
        by_class = np.mean([per_class_ap(test, predictions) for predictions in seeds.values()], axis=0)
        shared = {"seed": -1, "n_seeds": len(seeds), "metric": "ap"}
        rows += [
            {**shared, "stratum": f"class: {name}", "n": int(positives), "value": value}
            for name, positives, value in zip(store.class_names, test.sum(0), by_class, strict=True)
        ]
        pooled += [(s, "macro") for s in strata(test, store.class_names, groups) if common]
    for stratum, average in pooled:
        if common or (main and average == "macro"):
            ap = estimate_ap(test, list(seeds.values()), scenes, [stratum], average).interval()
        else:
            mean = float(np.mean([row["value"] for row in rows if row["metric"] == f"ap_{average}"]))
            ap = Interval(mean, np.nan, np.nan, len(seeds), len(np.unique(scenes)))
        shared = {"stratum": stratum.name, "n": len(stratum.patches), "metric": f"ap_{average}", "seed": -1}
        rows.append({**shared, **asdict(ap)})
    about = {"dataset": store.manifest.dataset, **{key: members[key].iloc[0] for key in KEYS}}
    return [{**about, **row} for row in rows]


def method_ap(
    store: PackedStore,
    members: pd.DataFrame,
    reference: pd.DataFrame | None = None,
    strata: Sequence[Stratum] = (),
) -> Estimate | None:
    """Return macro average precision of a method on the test split; ``members`` are its seeds.

    With a reference, less that of it, on the seeds that both have. None without a seed.
    """
    sides = [members] if reference is None else [members, reference]
    seeds, test = set.intersection(*(set(side["seed"]) for side in sides)), store.split_rows("test")
    if not seeds:
        return None
    ap = []
    for side in sides:
        rows = side[side["seed"].isin(seeds)].sort_values("seed")
        predictions = [load(row) for _, row in rows.iterrows()]
        ap.append(estimate_ap(store.labels[test], predictions, store.scenes[test], strata))
    return ap[0] - ap[1] if len(ap) > 1 else ap[0]
