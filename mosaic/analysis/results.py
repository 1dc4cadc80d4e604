"""Scores of all predictions, and the tables that ``03`` shows of them.

*Tidy results* have one row a number: the columns of :data:`~mosaic.experiments.predictions.KEYS`, stratum,
metric, seed, value, low and high. Rows with ``seed`` -1 are means over seeds, with 95 % intervals.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.scoring import method_differences, score_group
from mosaic.analysis.tables import EVALUATIONS, in_order, pivot_intervals, titled
from mosaic.evaluation.label_overlap import (
    Stratum,
    conditional_ap,
    pointwise_mutual_information,
    similar_groups,
    strata,
)
from mosaic.evaluation.metrics import METRICS, scored_classes
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.predictions import KEYS, load, main_input, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import METHODS, get_method
from mosaic.store.reader import PackedStore

#: Method that differences in subgroups are taken to.
REFERENCE = "supervised_late"
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

    ``company n`` are classes that often occur together (mutual information of labels); ``look-alike n`` are
    classes of similar appearance, by the mean of every band that a least-squares fit assigns to each class.
    """
    rows = store.split_rows("train")
    if len(rows) > _ROWS_FOR_GROUPS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _ROWS_FOR_GROUPS, replace=False))
    labels = store.labels[rows]
    company = similar_groups(pointwise_mutual_information(labels), store.class_names)
    means = _band_means(store, rows)
    means = (means - means.mean(0)) / np.maximum(means.std(0), 1e-6)
    share = labels / np.maximum(labels.sum(1, keepdims=True), 1)
    signature = np.linalg.lstsq(share, means, rcond=None)[0]
    distance = np.linalg.norm(signature[:, None] - signature[None, :], axis=2)
    alike = similar_groups(-distance, store.class_names)
    derived = {f"company {name}": members for name, members in company.items()}
    derived |= {f"look-alike {name}": members for name, members in alike.items()}
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


def interval_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return macro average precision with intervals, a column of (value, low, high) for each fraction."""
    rows = main_rows(results.query("stratum == 'all' and metric == 'ap_macro' and seed == -1"))
    rows = in_order(rows, "label_budget", "evaluation")
    fractions = [f"{fraction:g} %" for fraction in sorted(rows["fraction"].unique())]
    rows["fraction"] = rows["fraction"].map("{:g} %".format)
    table = pivot_intervals(rows, ["method", "label_budget", "evaluation"], "fraction", fractions)
    table["evaluation"] = table["evaluation"].map(EVALUATIONS)
    return titled(table).rename(columns={"label_budget": "labels in pretraining"})


def best_in_words(best: pd.DataFrame, fraction: float, evaluation: str) -> str:
    """Return in a sentence which of the rows, a method each by its title, has the highest ``value``."""
    values = best["value"].map("{:.3f}".format)
    first = best.loc[values == values.max(), "method"].tolist()
    verb = "scores highest" if len(first) == 1 else "score highest"
    verb = "is the only method" if len(best) == 1 else verb
    subject = f"With {fraction:g} % of the labels {' and '.join(first)}"
    return f"{subject} {verb}: macro AP {values.max()} ({evaluation})."


def metric_table(results: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """Return every metric of every method at one label fraction, means over seeds."""
    rows = common_rows(results, fraction).query("stratum == 'all' and seed >= 0")
    table = rows.pivot_table(index="method", columns="metric", values="value", sort=False)
    table = table[[name for name in METRICS if name in table]].rename(columns=METRICS)
    return titled(table.reset_index().rename_axis(columns=None))


def conditional_table(
    store: PackedStore, predictions: pd.DataFrame, methods: Sequence[str], fraction: float
) -> pd.DataFrame:
    """Return the average precision of one confusable class among carriers of another, a column a method.

    Means over seeds, beside guessing: the prevalence among the carriers.
    """
    labels, rows = store.labels[store.split_rows("test")], common_rows(predictions, fraction)
    classes = store.class_names, store.manifest.confusable
    seeds = [
        conditional_ap(labels, load(row), *classes).assign(method=row["method"])
        for _, row in rows[rows["method"].isin(methods)].iterrows()
    ]
    if not seeds:
        return pd.DataFrame()
    index = ["group", "of", "among", "n", "guessing"]
    table = pd.concat(seeds).rename(columns={"prevalence": "guessing"})
    table = table.pivot_table(index=index, columns="method", values="ap", sort=False)
    table = table[[name for name in methods if name in table]]
    return table.rename(columns=lambda name: get_method(name).title).reset_index().rename_axis(columns=None)


def unscored_classes(store: PackedStore) -> pd.DataFrame:
    """Return the classes that too few test patches carry, so that no macro average covers them."""
    test, train = (store.labels[store.split_rows(split)] for split in ("test", "train"))
    counts = {"class": list(store.class_names), "training patches": train.sum(0), "test patches": test.sum(0)}
    return pd.DataFrame(counts).drop(index=scored_classes(test).tolist()).reset_index(drop=True)


def groups_table(store: PackedStore) -> pd.DataFrame:
    """Return the groups of confusable classes and their members."""
    groups = {name: "; ".join(members) for name, members in hard_groups(store).items()}
    return pd.DataFrame(groups.items(), columns=["group", "classes"])


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


def subgroup_differences(
    study: Study, store: PackedStore, predictions: pd.DataFrame, fraction: float
) -> pd.DataFrame:
    """Return every method's macro AP less :data:`REFERENCE`'s in each subgroup, paired by scene and seed.

    Empty when the reference did not run.
    """
    rows = common_rows(predictions, fraction)
    reference = rows[rows["method"] == REFERENCE]
    columns = ["method", "subgroup", "value", "low", "high", "n_seeds", "n_scenes"]
    if reference.empty:
        return pd.DataFrame(columns=columns)
    subgroups = define_subgroups(store)
    calls = [
        (store, rows[rows["method"] == name], reference, subgroups)
        for name in METHODS
        if name in set(rows["method"]) - {REFERENCE}
    ]
    key = {
        "data": store.fingerprint,
        "predictions": prediction_keys(rows[["seed", *KEYS, "path", "key"]]),
        "reference": REFERENCE,
        "subgroups": {name: [s.patches.tolist(), s.classes.tolist()] for name, s in subgroups.items()},
    }

    def compute() -> pd.DataFrame:
        parts = parallel_map(method_differences, calls, "subgroup differences", study.settings.jobs)
        return pd.DataFrame([row for part in parts for row in part], columns=columns)

    return study.cached("subgroup_differences", key, compute)
