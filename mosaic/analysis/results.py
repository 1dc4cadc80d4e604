"""Scores of all predictions, and the tables that ``03`` shows of them.

*Tidy results* have one row a number: the columns of :data:`~mosaic.experiments.predictions.KEYS`, stratum,
metric, seed, value, low and high. Rows with ``seed`` -1 are means over seeds, with 95 % intervals where they
are shown. Nothing here loads PyTorch, so that processes which score start in a second.
"""

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.tables import in_order
from mosaic.evaluation import label_overlap
from mosaic.evaluation.label_overlap import Groups, Stratum
from mosaic.evaluation.metrics import choose_thresholds, macro_ap, per_class_ap, scores
from mosaic.evaluation.uncertainty import Estimate, Interval, estimate_ap
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.predictions import KEYS, load, main_input, prediction_keys
from mosaic.experiments.study import Study
from mosaic.store.reader import PackedStore

_SPAN = [field.name for field in fields(Interval)]
_ROWS_FOR_GROUPS = 5000  # training patches that the derived groups of classes come from
#: Evaluations that every method has, the preferred first. A network trained end to end is either fine-tuned
#: or supervised from the start.
_COMMON = (("linear",), ("knn",), ("finetune", "end_to_end"))


@dataclass(frozen=True)
class Call:
    """A macro average precision on a test split, or a paired difference of two, that is to be estimated."""

    facts: Mapping[str, Any]  # columns of its row
    store: PackedStore
    members: pd.DataFrame  # predictions of a method, a row a seed
    reference: pd.DataFrame | None = None  # of the method whose score is subtracted
    strata: Sequence[Stratum] = ()

    @property
    def sides(self) -> list[pd.DataFrame]:
        """The predictions of one method, or of both."""
        return [self.members] if self.reference is None else [self.members, self.reference]

    def estimate(self) -> Estimate | None:
        """Return the score or difference, on the seeds that all sides have; None without a seed."""
        seeds = set.intersection(*(set(side["seed"]) for side in self.sides))
        test, ap = self.store.split_rows("test"), []
        for side in self.sides if seeds else ():
            rows = side[side["seed"].isin(seeds)].sort_values("seed")
            predictions = [load(row) for _, row in rows.iterrows()]
            ap.append(estimate_ap(self.store.labels[test], predictions, self.store.scenes[test], self.strata))
        return functools.reduce(operator.sub, ap) if ap else None


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
        pooled += [(s, "macro") for s in label_overlap.strata(test, store.class_names, groups) if common]
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
    information = label_overlap.pointwise_mutual_information(labels)
    together = label_overlap.similar_groups(information, store.class_names)
    means = _band_means(store, rows)
    means = (means - means.mean(0)) / np.maximum(means.std(0), 1e-6)
    share = labels / np.maximum(labels.sum(1, keepdims=True), 1)
    signature = np.linalg.lstsq(share, means, rcond=None)[0]
    distance = np.linalg.norm(signature[:, None] - signature[None, :], axis=2)
    alike = label_overlap.similar_groups(-distance, store.class_names)
    count = dict(zip(store.class_names, labels.sum(0), strict=True))
    derived = {
        f"{origin}: {max(members, key=count.__getitem__)} + {len(members) - 1}": members
        for origin, found in {"together": together, "look-alike": alike}.items()
        for members in found
    }
    return {**store.manifest.confusable, **derived}


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
    pairs, table = label_overlap.confusable_pairs(labels, store.class_names, store.manifest.confusable), []
    for _, row in in_order(rows[rows["method"].isin(methods)]).iterrows():
        scores = load(row)
        for pair, stratum in pairs.items():
            cells = np.ix_(stratum.patches, stratum.classes)
            ap, share = per_class_ap(labels[cells], scores[cells])[0], labels[cells].mean()
            table.append((*pair, ap, share, len(stratum.patches), row["method"]))
    return pd.DataFrame(table, columns=["group", "of", "among", "ap", "prevalence", "n", "method"])


def estimates(study: Study, calls: Sequence[Call]) -> pd.DataFrame:
    """Return macro AP on the test split, or paired differences of it: a row a call that has a seed.

    Beside its own columns each has those of its interval, and the arrays of its estimate.
    """
    keys = [[call.facts, call.store.fingerprint, *map(prediction_keys, call.sides)] for call in calls]

    def compute() -> pd.DataFrame:
        found = parallel_map(Call.estimate, [(call,) for call in calls], "scores", study.settings.jobs)
        pairs = [(call.facts, ap) for call, ap in zip(calls, found, strict=True) if ap]
        rows = [{**facts, **asdict(ap.interval()), **vars(ap)} for facts, ap in pairs]
        return pd.DataFrame(rows, columns=None if rows else [*(calls[0].facts if calls else ()), *_SPAN])

    return study.cached("estimates", {"calls": keys}, compute)


def difference_to(
    study: Study, store: PackedStore, predictions: pd.DataFrame, other: str, fraction: float
) -> Interval:
    """Return MoSAiC's macro AP less another method's on the test split, paired, at one label fraction."""
    rows = common_rows(predictions, fraction)
    mosaic, reference = (rows[rows["method"] == name] for name in ("mosaic", other))
    (row,) = estimates(study, [Call({}, store, mosaic, reference)])[_SPAN].itertuples(index=False)
    return Interval(*row)


def validation_ap(store: PackedStore, predictions: pd.DataFrame, fraction: float) -> "pd.Series[float]":
    """Return each method's macro AP on validation at one label fraction, mean over seeds."""
    rows, labels = common_rows(predictions, fraction), store.labels[store.split_rows("validation")]
    scored = rows.assign(ap=[macro_ap(labels, load(row, "validation")) for _, row in rows.iterrows()])
    return scored.groupby("method")["ap"].mean()
