"""Scores of sets of predictions, computed by worker processes.

Nothing here imports PyTorch or a plotting library, so a process which scores starts in a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation.bootstrap import Resampled, resampled_ap
from mosaic.evaluation.label_overlap import Groups, Stratum, strata
from mosaic.evaluation.metrics import Labels, Predictions, choose_thresholds, per_class_ap, scores
from mosaic.experiments.predictions import KEYS, load, main_input
from mosaic.store.reader import PackedStore


def score_group(
    store_folder: Path, members: pd.DataFrame, groups: Groups, resamples: int, stratified: bool
) -> list[dict[str, Any]]:
    """Return rows of the tidy results: the scores of one set of predictions, of all its seeds.

    Args:
        store_folder: packed data.
        members: rows of the table of predictions that differ in seed only.
        groups: confusable classes, for the strata.
        resamples: of scenes and seeds, for each interval.
        stratified: score each stratum as well.
    """
    store = PackedStore(store_folder)
    labels = {split: store.labels[store.split_rows(split)] for split in ("validation", "test")}
    scenes, test = store.scenes[store.split_rows("test")], labels["test"]
    seeds = [load(row) for _, row in members.iterrows()]
    whole = Stratum("all", np.arange(len(test)), np.arange(test.shape[1]))
    rows: list[dict[str, Any]] = []
    for (_, row), predictions in zip(members.iterrows(), seeds, strict=True):
        values = scores(test, predictions, choose_thresholds(labels["validation"], load(row, "validation")))
        shared = {"stratum": "all", "n": len(test), "n_scenes": len(np.unique(scenes)), "seed": row["seed"]}
        rows += [{**shared, "metric": metric, "value": value} for metric, value in values.items()]
    rows += [stratum_row(whole, test, seeds, scenes, resamples, average) for average in ("macro", "micro")]
    method, source = members["method"].iloc[0], members["input"].iloc[0]
    if source == main_input(method):
        by_class = np.mean([per_class_ap(test, predictions) for predictions in seeds], axis=0)
        shared = {"seed": -1, "n_seeds": len(seeds), "metric": "ap"}
        rows += [
            {**shared, "stratum": f"class: {name}", "n": int(positives), "value": value}
            for name, positives, value in zip(store.class_names, test.sum(0), by_class, strict=True)
        ]
        if stratified:
            parts = strata(test, store.class_names, groups)
            rows += [stratum_row(stratum, test, seeds, scenes, resamples) for stratum in parts]
    about = {"dataset": store.manifest.dataset, **{key: members[key].iloc[0] for key in KEYS}}
    return [{**about, **row} for row in rows]


def stratum_row(
    stratum: Stratum,
    labels: Labels,
    seeds: Sequence[Predictions],
    scenes: NDArray[np.str_],
    resamples: int,
    average: str = "macro",
) -> dict[str, Any]:
    """Return the row of tidy results for one stratum, pooled over seeds (``seed`` -1)."""
    cells, chosen = np.ix_(stratum.patches, stratum.classes), scenes[stratum.patches]
    ap = resampled_ap(labels[cells], [one[cells] for one in seeds], chosen, average, resamples)
    shared = {"stratum": stratum.name, "n": len(chosen), "metric": f"ap_{average}", "seed": -1}
    return {**shared, **asdict(ap.interval())}


def method_ap(store: PackedStore, members: pd.DataFrame, resamples: int, average: str = "macro") -> Resampled:
    """Return the average precision of one method on the test split; ``members`` are its seeds."""
    test = store.split_rows("test")
    seeds = [load(row) for _, row in members.sort_values("seed").iterrows()]
    return resampled_ap(store.labels[test], seeds, store.scenes[test], average, resamples)


def method_differences(
    store: PackedStore,
    members: pd.DataFrame,
    reference: pd.DataFrame,
    subgroups: Mapping[str, Stratum],
    resamples: int,
) -> list[dict[str, Any]]:
    """Return a method's difference to a reference in each subgroup, on the seeds that both have."""
    test = store.split_rows("test")
    labels, scenes = store.labels[test], store.scenes[test]
    first, second = ({row["seed"]: load(row) for _, row in m.iterrows()} for m in (members, reference))
    seeds = sorted(set(first) & set(second))
    rows = []
    for name, stratum in subgroups.items() if seeds else ():
        cells, chosen = np.ix_(stratum.patches, stratum.classes), scenes[stratum.patches]
        method_ap, reference_ap = (
            resampled_ap(labels[cells], [side[seed][cells] for seed in seeds], chosen, resamples=resamples)
            for side in (first, second)
        )
        difference = asdict((method_ap - reference_ap).interval())
        rows.append({"method": members["method"].iloc[0], "subgroup": name, **difference})
    return rows
