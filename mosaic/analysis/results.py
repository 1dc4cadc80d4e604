"""Scores of all predictions, and the tables that ``03`` shows of them.

*Tidy results* have one row a number: the columns of :data:`~mosaic.experiments.predictions.KEYS`, stratum,
metric, seed, value, low and high. Rows with ``seed`` -1 are means over seeds, with 95 % intervals where they
are shown.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.scoring import method_ap, score_group
from mosaic.analysis.tables import EVALUATIONS, in_order
from mosaic.evaluation.label_overlap import (
    Stratum,
    confusable_pairs,
    pointwise_mutual_information,
    similar_groups,
    strata,
)
from mosaic.evaluation.metrics import macro_ap, per_class_ap
from mosaic.evaluation.uncertainty import Interval
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.predictions import KEYS, load, main_input, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import METHODS
from mosaic.store.reader import PackedStore

#: Method that differences in subgroups are taken to.
REFERENCE = "supervised_late"
_SPAN = [field.name for field in fields(Interval)]
#: Columns of its row, store, members of a method, of the reference it is compared with if any, and strata.
Call = tuple[dict[str, Any], PackedStore, pd.DataFrame, pd.DataFrame | None, list[Stratum]]
_RARE = 0.05  # share of the training patches below which a class is rare
_ROWS_FOR_GROUPS = 5000  # training patches that the derived groups of classes come from
#: Evaluations that every method has, the preferred first. A network trained end to end is either fine-tuned
#: or supervised from the start.
_COMMON = (("linear",), ("knn",), ("finetune", "end_to_end"))


def score_all(study: Study, store: PackedStore, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return tidy results: the scores of every set of predictions on the test split.

    Average precision of a method's main input also for each class and, under the evaluation that all methods
    share, for the strata of :func:`hard_groups` and label counts.
    """
    key = {"data": store.fingerprint, "predictions": prediction_keys(predictions)}
    common = common_evaluations(predictions)

    def compute() -> pd.DataFrame:
        groups = hard_groups(store)
        calls = [
            (store.folder, members, groups, members["evaluation"].iloc[0] in common)
            for _, members in predictions.groupby(KEYS, sort=False)
        ]
        parts = parallel_map(score_group, calls, "scoring", study.settings.jobs)
        return pd.DataFrame([row for part in parts for row in part])

    return study.cached("results", key, compute)


def hard_groups(store: PackedStore) -> dict[str, tuple[str, ...]]:
    """Return groups of confusable classes: of the nomenclature, and derived from the training data.

    Those that often occur together (mutual information of labels) are ``together: `` and, as those that look
    similar by the mean of every band that a least-squares fit assigns to each class, ``look-alike: ``, the
    class of most training patches, and how many more.
    """
    rows = store.split_rows("train")
    if len(rows) > _ROWS_FOR_GROUPS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _ROWS_FOR_GROUPS, replace=False))
    labels = store.labels[rows]
    together = similar_groups(pointwise_mutual_information(labels), store.class_names)
    means = _band_means(store, rows)
    means = (means - means.mean(0)) / np.maximum(means.std(0), 1e-6)
    share = labels / np.maximum(labels.sum(1, keepdims=True), 1)
    signature = np.linalg.lstsq(share, means, rcond=None)[0]
    distance = np.linalg.norm(signature[:, None] - signature[None, :], axis=2)
    alike = similar_groups(-distance, store.class_names)
    count = dict(zip(store.class_names, labels.sum(0), strict=True))
    groups = dict(store.manifest.confusable)
    for origin, found in {"together": together, "look-alike": alike}.items():
        for members in found:
            groups[f"{origin}: {max(members, key=count.__getitem__)} + {len(members) - 1}"] = members
    return groups


def _band_means(store: PackedStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of every band over each patch, (N, bands), DN or dB."""
    chunks = []
    for start in range(0, len(rows), 256):
        images = store.read_bands(rows[start : start + 256], store.layout.bands).values()
        chunks.append(np.stack([image.mean((1, 2), dtype=np.float64) for image in images], axis=1))
    return np.concatenate(chunks)


def common_evaluations(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the evaluation by which all methods of results or predictions can be compared."""
    present = set(frame["evaluation"])
    return next((choice for choice in _COMMON if present & set(choice)), ())


def common_evaluation_title(frame: pd.DataFrame) -> str:
    """Return :func:`common_evaluations` as words."""
    return " or ".join(EVALUATIONS[name] for name in common_evaluations(frame))


def main_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each method's main input: all sensors where it takes several."""
    return frame[frame["input"] == frame["method"].map(main_input)]


def common_rows(frame: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """Return the rows of results or predictions that compare all methods at one label fraction.

    One evaluation for all, each method on its main input; with a shared label budget, or none where
    pretraining used no labels.
    """
    rows = main_rows(frame)
    common = rows["evaluation"].isin(common_evaluations(frame))
    return rows[common & (rows["label_budget"] != "full") & (rows["fraction"] == fraction)]


def conditional_scores(
    store: PackedStore, predictions: pd.DataFrame, methods: Sequence[str], fraction: float
) -> pd.DataFrame:
    """Return the average precision of one class among carriers of a confusable one, a row a seed and pair.

    Columns are group, of (the class), among, ap in [0, 1], prevalence among the carriers (the score of
    guessing), n patches, method. Pairs are those of ``confusable_pairs``.
    """
    labels, rows = store.labels[store.split_rows("test")], common_rows(predictions, fraction)
    pairs, table = confusable_pairs(labels, store.class_names, store.manifest.confusable), []
    for _, row in in_order(rows[rows["method"].isin(methods)]).iterrows():
        scores = load(row)
        for pair, stratum in pairs.items():
            cells = np.ix_(stratum.patches, stratum.classes)
            ap, share = per_class_ap(labels[cells], scores[cells])[0], labels[cells].mean()
            table.append((*pair, ap, share, len(stratum.patches), row["method"]))
    return pd.DataFrame(table, columns=["group", "of", "among", "ap", "prevalence", "n", "method"])


def define_subgroups(store: PackedStore) -> dict[str, Stratum]:
    """Return the subgroups of the test split: name -> patches and classes.

    Rare and common classes on all patches; all classes on patches of one label, and of five or more (three,
    where no test patch has as many); and the confusable groups of the archive.
    """
    train, test = (store.labels[store.split_rows(split)] for split in ("train", "test"))
    present, rare, count = test.any(0), train.mean(0) < _RARE, test.sum(1)
    many = 5 if (count >= 5).any() else 3
    everyone = np.ones(len(test), bool)
    masks = {
        "all classes": (everyone, present),
        f"rare classes, below {100 * _RARE:g} %": (everyone, present & rare),
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


def estimates(study: Study, calls: Sequence[Call]) -> pd.DataFrame:
    """Return macro AP on the test split, or paired differences of it: a row a call that has a seed.

    Beside its own columns each has those of its interval, and the arrays of its estimate.
    """
    keys = [
        [facts, store.fingerprint, *([] if side is None else prediction_keys(side) for side in sides)]
        for facts, store, *sides, _ in calls
    ]

    def compute() -> pd.DataFrame:
        found = parallel_map(method_ap, [tuple(rest) for _, *rest in calls], "scores", study.settings.jobs)
        spans = zip((facts for facts, *_ in calls), found, strict=True)
        rows = [{**facts, **asdict(each.interval()), **vars(each)} for facts, each in spans if each]
        names = [*(calls[0][0] if calls else ()), *_SPAN]
        return pd.DataFrame(rows, columns=None if rows else names)

    return study.cached("estimates", {"calls": keys}, compute)


def difference_to(
    study: Study, store: PackedStore, predictions: pd.DataFrame, other: str, fraction: float
) -> Interval:
    """Return MoSAiC's macro AP less another method's on the test split, paired, at one label fraction."""
    rows = common_rows(predictions, fraction)
    mosaic, reference = (rows[rows["method"] == name] for name in ("mosaic", other))
    (row,) = estimates(study, [({}, store, mosaic, reference, [])])[_SPAN].to_dict("records")
    return Interval(**{str(name): value for name, value in row.items()})


def validation_ap(store: PackedStore, predictions: pd.DataFrame, fraction: float) -> "pd.Series[float]":
    """Return each method's macro AP on validation at one label fraction, mean over seeds."""
    rows, labels = common_rows(predictions, fraction), store.labels[store.split_rows("validation")]
    scored = rows.assign(ap=[macro_ap(labels, load(row, "validation")) for _, row in rows.iterrows()])
    return scored.groupby("method")["ap"].mean()


def subgroup_differences(
    study: Study, store: PackedStore, predictions: pd.DataFrame, fraction: float
) -> pd.DataFrame:
    """Return every method's macro AP less that of :data:`REFERENCE` in each subgroup; empty without it."""
    rows = common_rows(predictions, fraction)
    members = {name: rows[rows["method"] == name] for name in METHODS if name in set(rows["method"])}
    reference, subgroups = members.pop(REFERENCE, rows[:0]), define_subgroups(store)
    calls: list[Call] = [
        ({"method": name, "subgroup": group}, store, each, reference, [stratum])
        for name, each in members.items()
        for group, stratum in subgroups.items()
    ]
    return estimates(study, calls)
