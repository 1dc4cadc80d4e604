"""Differences to supervised late fusion in subgroups: rare classes, many labels, confusable groups."""

import numpy as np
import pandas as pd

from mosaic.analysis.compare import FinishedRun
from mosaic.analysis.results import common_rows
from mosaic.analysis.scoring import method_differences
from mosaic.evaluation.label_overlap import Stratum, strata
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.predictions import KEYS, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import METHODS
from mosaic.store.reader import PackedStore

REFERENCE = "supervised_late"
#: A class is rare when fewer of the training patches carry it.
RARE = 0.05


def define_subgroups(store: PackedStore) -> dict[str, Stratum]:
    """Return the subgroups of the test split: name -> patches and classes.

    Rare and common classes on all patches; all classes on patches of one label, and of five or more (three,
    where no test patch has as many); and the confusable groups of the archive.
    """
    train, test = (store.labels[store.split_rows(split)] for split in ("train", "test"))
    present, rare, count = test.any(0), train.mean(0) < RARE, test.sum(1)
    many = 5 if (count >= 5).any() else 3
    everyone = np.ones(len(test), bool)
    masks = {
        "all classes": (everyone, present),
        f"rare classes, below {100 * RARE:g} %": (everyone, present & rare),
        "common classes": (everyone, present & ~rare),
        "1 label": (count == 1, np.ones(test.shape[1], bool)),
        f"{many} labels or more": (count >= many, test[count >= many].any(0)),
    }
    subgroups = {
        name: Stratum(name, np.flatnonzero(patches), np.flatnonzero(classes))
        for name, (patches, classes) in masks.items()
        if patches.any() and classes.any()
    }
    groups = [s for s in strata(test, store.class_names, store.manifest.confusable) if "group: " in s.name]
    return subgroups | {stratum.name.removeprefix("group: "): stratum for stratum in groups}


def subgroup_differences(study: Study, finished: FinishedRun, fraction: float) -> pd.DataFrame:
    """Return every method's macro AP less :data:`REFERENCE`'s in each subgroup, paired by scene and seed.

    Empty when the reference did not run.
    """
    rows = common_rows(finished.predictions, fraction)
    reference = rows[rows["method"] == REFERENCE]
    columns = ["method", "subgroup", "value", "low", "high", "n_seeds", "n_scenes"]
    if reference.empty:
        return pd.DataFrame(columns=columns)
    subgroups = define_subgroups(finished.store)
    calls = [
        (finished.store, rows[rows["method"] == name], reference, subgroups)
        for name in METHODS
        if name in set(rows["method"]) - {REFERENCE}
    ]
    key = {
        "data": finished.store.fingerprint,
        "predictions": prediction_keys(rows[["seed", *KEYS, "path", "key"]]),
        "reference": REFERENCE,
        "subgroups": {name: [s.patches.tolist(), s.classes.tolist()] for name, s in subgroups.items()},
    }

    def compute() -> pd.DataFrame:
        parts = parallel_map(method_differences, calls, "subgroup differences", study.settings.jobs)
        return pd.DataFrame([row for part in parts for row in part], columns=columns)

    return study.cached("subgroup_differences", key, compute)
