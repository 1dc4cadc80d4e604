"""The claims table, from predictions and embeddings. What ``07`` runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.results import main_rows
from mosaic.analysis.tables import readable
from mosaic.evaluation.bootstrap import Difference, resampled_ap, resampled_mean
from mosaic.evaluation.claims import CLAIMS, LEAST_SEEDS, LEVEL, RELEVANT, Claim, Comparison, judge
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.names import EVALUATIONS
from mosaic.experiments.embed import chosen_rows, load_arrays
from mosaic.experiments.predictions import KEYS, load, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import METHODS
from mosaic.settings import NOTEBOOKS
from mosaic.store.reader import PackedStore
from mosaic.utils.progress import progress

MOSAIC = "mosaic"
#: The stratum ``"overlap"``: patches of at least as many labels; the real mean is 2.95.
OVERLAP_LABELS = 3
MEASURE_TITLES = {
    "ap_macro": "macro average precision, MoSAiC less opponent",
    "knn_jaccard": "label Jaccard index of 10 nearest neighbours, MoSAiC less opponent",
}
RULES = {
    "level": LEVEL,
    "correction": "Holm",
    "least_seeds": LEAST_SEEDS,
    "relevant_difference": RELEVANT,
    "overlap_labels": OVERLAP_LABELS,
    "chosen_on": "validation",
    "resampled": "scenes, then seeds",
    "opponents": "of those trained with all seeds of MoSAiC",
}


@dataclass(frozen=True)
class Entry:
    """How a method enters a comparison: with the evaluation that is best on validation."""

    method: str
    evaluation: str  # "embedding" where neighbourhoods are compared
    validation: float  # score, mean over seeds
    members: pd.DataFrame  # its rows of the table of predictions or embeddings, by seed

    @property
    def seeds(self) -> set[int]:
        """Seeds it was trained with."""
        return set(self.members["seed"])

    @property
    def title(self) -> str:
        """Method and evaluation, for readers."""
        evaluation = EVALUATIONS.get(self.evaluation)
        return METHODS[self.method].title + (f" ({evaluation})" if evaluation else "")


class ArchiveClaims:
    """The claims on one archive.

    Args:
        title: of the archive.
        store: packed data.
        predictions: table of ``predict.predict_all``.
        embedded: table of ``embed.embed_all``, whose test rows were ``embedded_test``.
        embedded_test: rows of the store.
        resamples: of scenes and seeds, for each claim.
        lost: methods of which trials failed: one of them may be the best opponent.
    """

    def __init__(
        self,
        title: str,
        store: PackedStore,
        predictions: pd.DataFrame,
        embedded: pd.DataFrame,
        embedded_test: NDArray[np.int64],
        resamples: int,
        lost: Collection[str] = (),
    ) -> None:
        self.title, self.store = title, store
        # full-label pretraining has seen labels that few-label comparisons must not use
        self.predictions = main_rows(predictions[predictions["label_budget"] != "full"])
        self.embedded, self.embedded_scenes = embedded, store.scenes[embedded_test]
        self.resamples, self.lost = resamples, sorted(lost)
        self.labels = {s: store.labels[store.split_rows(s)] for s in ("validation", "test")}
        self.scenes = store.scenes[store.split_rows("test")]
        self.entry = cache(self._entry)

    def key(self) -> dict[str, Any]:
        """Return everything the claims depend on, for the cache; where files lie does not matter."""
        return {
            "title": self.title,
            "data": self.store.fingerprint,
            "predictions": prediction_keys(self.predictions[["path", "key", *KEYS]]),
            "embedded": sorted(Path(path).name for path in self.embedded["path"]),
            "rules": RULES,
            "resamples": self.resamples,
            "lost": self.lost,
        }

    def fraction(self, name: str) -> float:
        """Return the label fraction that a claim calls ``"all"`` or ``"least"``."""
        fractions = self.predictions["fraction"]
        return float(fractions.max() if name == "all" else fractions.min())

    def compare(self, claim: Claim) -> Comparison:
        """Return the difference that tests a claim, or why it cannot be tested."""
        untested = partial(Comparison, claim, self.title)
        fraction = self.fraction(claim.fraction)
        if claim.fraction == "least" and fraction == self.fraction("all"):
            return untested("the run has one label fraction only")
        family = [name for name, method in METHODS.items() if method.family == claim.against]
        if lost := [METHODS[name].title for name in family if name in self.lost]:
            return untested(f"trials of {', '.join(lost)} failed, perhaps of the best opponent")
        mosaic = self.entry(MOSAIC, claim.measure, fraction)
        if mosaic is None:
            return untested("no MoSAiC in this run")
        entries = [entry for name in family if (entry := self.entry(name, claim.measure, fraction))]
        entries = [entry for entry in entries if mosaic.seeds <= entry.seeds]
        if not entries:
            return untested(f"no {claim.against} method with all seeds in this run")
        opponent = max(entries, key=lambda entry: entry.validation)
        difference = self.difference(mosaic, opponent, claim.stratum)
        return Comparison(claim, self.title, f"{mosaic.title} against {opponent.title}", difference)

    def _entry(self, method: str, measure: str, fraction: float) -> Entry | None:
        """Return how a method enters, by validation; None when it was not run."""
        rows = self.predictions[self.predictions["fraction"] == fraction]
        if measure == "knn_jaccard":
            rows = self.embedded.assign(evaluation="embedding")
        entries = []
        for evaluation, members in rows[rows["method"] == method].sort_values("seed").groupby("evaluation"):
            score = float(np.mean([self._validation(row, measure) for _, row in members.iterrows()]))
            entries.append(Entry(method, str(evaluation), score, members))
        return max(entries, key=lambda entry: entry.validation, default=None)

    def _validation(self, row: pd.Series, measure: str) -> float:
        if measure == "knn_jaccard":
            return float(load_arrays(row, "coherence|validation")[""].mean())
        return macro_ap(self.labels["validation"], load(row, "validation"))

    def difference(self, first: Entry, second: Entry, stratum: str = "all") -> Difference:
        """Return the paired difference on the test split or its stratum ``"overlap"``, over common seeds."""
        sides = [
            [row for _, row in side.members.iterrows() if row["seed"] in first.seeds & second.seeds]
            for side in (first, second)
        ]
        if first.evaluation == "embedding":
            values = [[load_arrays(row, "coherence|test")[""] for row in rows] for rows in sides]
            a, b = (resampled_mean(each, self.embedded_scenes, self.resamples) for each in values)
        else:
            labels = self.labels["test"]
            patches = slice(None) if stratum == "all" else labels.sum(1) >= OVERLAP_LABELS
            scores = [[load(row)[patches] for row in rows] for rows in sides]
            scenes = self.scenes[patches]
            a, b = (resampled_ap(labels[patches], s, scenes, resamples=self.resamples) for s in scores)
        return (a - b).difference()


def judge_claims(study: Study) -> pd.DataFrame:
    """Return the claims on the archives of this run and of its companions, as :func:`judge_archives`."""
    archives = []
    for run in study.with_companions():
        store, most = run.store(), run.earlier("04_embeddings_and_coherence").settings.embedding.most_patches
        failed = pd.concat([run.earlier(name).failed_trials() for name in list(NOTEBOOKS)[1:4]])
        lost = set(failed["trial"].str.partition(" seed ")[0]) if len(failed) else set()
        archives.append(
            ArchiveClaims(
                run.read("archive")["title"],
                store,
                run.read("predictions"),
                run.read("embeddings"),
                chosen_rows(store, most)["test"],
                study.settings.claim_resamples,
                lost,
            )
        )
    key = {"archives": [archive.key() for archive in archives]}
    return study.cached("claims", key, lambda: judge_archives(archives))


def judge_archives(archives: Sequence[ArchiveClaims]) -> pd.DataFrame:
    """Return one row a claim and archive, with its verdict (:func:`mosaic.evaluation.claims.judge`)."""
    pairs = [(archive, claim) for archive in archives for claim in CLAIMS]
    return judge([archive.compare(claim) for archive, claim in progress(pairs, "claims", total=len(pairs))])


def as_json(claims: pd.DataFrame) -> dict[str, Any]:
    """Return the content of ``claims.json``: rules, then one object a claim, NaN as null."""
    rows = claims.astype(object).where(claims.notna(), None).to_dict("records")
    return {"rules": RULES, "claims": rows}


def readable_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the claims under the titles of a report."""
    titles = {
        "dataset": "archive",
        "statement": "claim",
        "comparison": "comparison",
        "effect": "effect",
        "p_holm": "p (Holm)",
        "n_seeds": "seeds",
        "n_scenes": "scenes",
        "verdict": "verdict",
        "reason": "why",
    }
    return readable(claims, titles, "effect")
