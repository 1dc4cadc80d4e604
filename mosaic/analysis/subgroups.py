"""Where a method gains over supervised late fusion: rare classes, many labels, confusable groups."""

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
from mosaic.settings import CompareSettings
from mosaic.store.reader import PackedStore

REFERENCE = "supervised_late"
#: A class is rare when fewer of the training patches carry it.
RARE = 0.05


def define_subgroups(store: PackedStore) -> dict[str, Stratum]:
    """Return the parts of the test split where gains are looked for: name -> patches and classes.

    Rare and common classes on all patches; all classes on patches of one label, and of five or more (three,
    where no test patch has as many); and the confusable groups of the archive.
    """
    train, test = (store.labels[store.split_rows(split)] for split in ("train", "test"))
    everyone, share = np.arange(len(test)), train.mean(0)
    present = test.any(0)
    wanted = {
        "all classes": present,
        f"rare classes, below {100 * RARE:g} %": present & (share < RARE),
        "common classes": present & (share >= RARE),
    }
    found = {
        name: Stratum(name, everyone, np.flatnonzero(chosen))
        for name, chosen in wanted.items()
        if chosen.any()
    }
    parts = {one.name: one for one in strata(test, store.class_names, store.manifest.confusable)}
    if "labels: 1" in parts:
        found["1 label"] = parts["labels: 1"]
    count = test.sum(1)
    many = 5 if (count >= 5).any() else 3
    if (count >= many).any():
        patches = np.flatnonzero(count >= many)
        title = f"{many} labels or more"
        found[title] = Stratum(title, patches, np.flatnonzero(test[patches].any(0)))
    groups = {name.removeprefix("group: "): one for name, one in parts.items() if name.startswith("group: ")}
    return found | groups


def subgroup_differences(study: Study[CompareSettings], one: FinishedRun, fraction: float) -> pd.DataFrame:
    """Return what every method gains over :data:`REFERENCE` in each part, paired by scene and common seeds.

    Returns:
        One row a method and part: method, part, value (macro average precision less the reference's), low,
        high, n_seeds. Empty when the reference did not run.
    """
    rows = common_rows(one.predictions, fraction)
    reference = rows[rows["method"] == REFERENCE]
    columns = ["method", "subgroup", "value", "low", "high", "n_seeds"]
    if reference.empty:
        return pd.DataFrame(columns=columns)
    parts, others = define_subgroups(one.store), [name for name in METHODS if name in set(rows["method"])]
    calls = [
        (one.store, rows[rows["method"] == name], reference, parts, study.settings.bootstrap_resamples)
        for name in others
        if name != REFERENCE
    ]
    key = {
        "data": one.store.fingerprint,
        "predictions": prediction_keys(rows[["seed", *KEYS, "path", "key"]]),
        "reference": REFERENCE,
        "parts": {name: [part.patches.tolist(), part.classes.tolist()] for name, part in parts.items()},
        "resamples": study.settings.bootstrap_resamples,
    }

    def compute() -> pd.DataFrame:
        found = parallel_map(method_differences, calls, "gains", study.settings.jobs)
        return pd.DataFrame([row for part in found for row in part], columns=columns)

    return study.cached("gains", key, compute)
