"""Scores of sets of predictions, computed by processes of their own.

Nothing here loads PyTorch or draws: a process that scores starts in a second, not in ten.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation.bootstrap import Interval, interval, over_seeds, paired_difference, two_levels
from mosaic.evaluation.label_overlap import Groups, Stratum, strata
from mosaic.evaluation.metrics import choose_thresholds, per_class_ap, scores
from mosaic.experiments.predictions import KEYS, load, main_input
from mosaic.store.reader import PackedStore


def score_group(
    store_folder: Path, members: pd.DataFrame, groups: Groups, resamples: int, stratified: bool
) -> list[dict[str, Any]]:
    """Score one set of predictions, of all its seeds; returns rows of the tidy results."""
    store = PackedStore(store_folder)
    labels = {split: store.labels[store.split_rows(split)] for split in ("validation", "test")}
    scenes = store.scenes[store.split_rows("test")]
    shared = {"dataset": store.manifest.dataset, **{key: members[key].iloc[0] for key in KEYS}}
    everything = {"stratum": "all", "n": len(scenes), "n_scenes": len(np.unique(scenes))}
    arrays = [load(one) for _, one in members.iterrows()]
    rows: list[dict[str, Any]] = []
    for (_, one), test in zip(members.iterrows(), arrays, strict=True):
        found = scores(labels["test"], test, choose_thresholds(labels["validation"], load(one, "validation")))
        rows += [{**everything, "seed": one["seed"], "metric": m, "value": v} for m, v in found.items()]
    for average in ("macro", "micro"):
        span = interval(labels["test"], arrays, scenes, average, resamples)
        rows.append({**everything, "metric": f"ap_{average}", **_pooled(span)})
    if shared["input"] == main_input(shared["method"]):
        by_class = np.mean([per_class_ap(labels["test"], test) for test in arrays], axis=0)
        rows += [
            {"stratum": f"class: {name}", "n": int(positives), "seed": -1, "metric": "ap", "value": value}
            | {"n_seeds": len(arrays)}
            for name, positives, value in zip(store.class_names, labels["test"].sum(0), by_class, strict=True)
        ]
        if stratified:
            parts = strata(labels["test"], store.class_names, groups)
            rows += [_stratum_row(part, labels["test"], arrays, scenes, resamples) for part in parts]
    return [{**shared, **row} for row in rows]


def _stratum_row(
    stratum: Stratum,
    labels: NDArray[np.uint8],
    arrays: Sequence[NDArray[np.float32]],
    scenes: NDArray[np.str_],
    resamples: int,
) -> dict[str, Any]:
    here = np.ix_(stratum.patches, stratum.classes)
    own = scenes[stratum.patches]
    span = interval(labels[here], [array[here] for array in arrays], own, "macro", resamples)
    about = {"stratum": stratum.name, "n": len(own), "n_scenes": span.n_scenes, "metric": "ap_macro"}
    return {**about, **_pooled(span)}


def _pooled(span: Interval) -> dict[str, Any]:
    return {
        "seed": -1,
        "value": span.value,
        "low": span.low,
        "high": span.high,
        "n_seeds": span.n_seeds,
    }


def resampled(
    store: PackedStore, members: pd.DataFrame, resamples: int, average: str = "macro"
) -> tuple[float, NDArray[np.float64]]:
    """Return the average precision of one method on the test split, and (R,) under resamples."""
    test = store.split_rows("test")
    arrays = [load(one) for _, one in members.sort_values("seed").iterrows()]
    value, per_seed = two_levels(store.labels[test], arrays, store.scenes[test], average, resamples)
    return value, over_seeds(per_seed)


def method_differences(
    store: PackedStore,
    ours: pd.DataFrame,
    reference: pd.DataFrame,
    parts: Mapping[str, Stratum],
    resamples: int,
) -> list[dict[str, Any]]:
    """Return the rows of one method; runs in its own process."""
    test = store.split_rows("test")
    labels, scenes = store.labels[test], store.scenes[test]
    first, second = ({one["seed"]: load(one) for _, one in own.iterrows()} for own in (ours, reference))
    seeds = sorted(set(first) & set(second))
    rows = []
    for name, part in parts.items() if seeds else ():
        here = np.ix_(part.patches, part.classes)

        def there(scores: Mapping[int, NDArray[np.float32]], here: Any = here) -> list[NDArray[np.float32]]:
            return [scores[seed][here] for seed in seeds]

        span = paired_difference(
            labels[here], there(first), there(second), scenes[part.patches], resamples=resamples
        )
        rows.append(
            {
                "method": str(ours["method"].iloc[0]),
                "subgroup": name,
                **{key: getattr(span, key) for key in ("value", "low", "high", "n_seeds")},
            }
        )
    return rows
