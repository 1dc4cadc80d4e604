"""The claims table, from predictions and embeddings. What ``07`` runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.results import common_rows, main_rows
from mosaic.analysis.tables import intervals
from mosaic.evaluation.bootstrap import Difference, resampled_ap, resampled_mean
from mosaic.evaluation.claims import CLAIMS, LEAST_SEEDS, LEVEL, RELEVANT, Claim, Comparison, judge
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.names import EVALUATIONS
from mosaic.experiments.embed import chosen_rows, per_seed
from mosaic.experiments.predictions import KEYS, load, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import ABLATIONS, METHODS, SAME_UNTUNED
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
    """How a method enters a comparison.

    Attributes:
        method: name in the table of methods.
        evaluation: the one that is best on validation.
        validation: macro average precision there, mean over seeds.
        members: its rows of the table of predictions, by seed.
    """

    method: str
    evaluation: str
    validation: float
    members: pd.DataFrame

    @property
    def seeds(self) -> set[int]:
        """Seeds it was trained with."""
        return set(self.members["seed"])

    @property
    def title(self) -> str:
        """Method and evaluation, for readers."""
        return f"{METHODS[self.method].title} ({EVALUATIONS[self.evaluation]})"


class NotTestable(Exception):
    """A claim that a run cannot test; the message says why."""


class ArchiveClaims:
    """The claims on one archive.

    Args:
        title: of the archive.
        store: packed data.
        predictions: table of ``predict.predict_all``.
        embedded: table of ``embed.embed_all``.
        embedded_test: test rows that were embedded.
        resamples: of scenes and seeds, for each claim.
        lost: methods of which trials failed in a run that kept going: one of them may be the best opponent.
    """

    def __init__(
        self,
        title: str,
        store: PackedStore,
        predictions: pd.DataFrame,
        embedded: pd.DataFrame | None = None,
        embedded_test: NDArray[np.int64] | Sequence[int] = (),
        resamples: int = 2000,
        lost: Collection[str] = (),
    ) -> None:
        self.title, self.store = title, store
        # full-label pretraining has seen labels that few-label comparisons must not use
        self.predictions = main_rows(predictions[predictions["label_budget"] != "full"])
        self.embedded = pd.DataFrame(columns=["method", "seed", "path"]) if embedded is None else embedded
        self.embedded_scenes = store.scenes[np.asarray(embedded_test, np.int64)]
        self.resamples, self.lost = resamples, sorted(lost)
        self.labels = {s: store.labels[store.split_rows(s)] for s in ("validation", "test")}
        self.scenes = store.scenes[store.split_rows("test")]
        self._entries: dict[tuple[str, float], Entry | None] = {}

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

    def entry(self, method: str, fraction: float) -> Entry | None:
        """Return how a method enters at a label fraction, by validation; None when it was not run there."""
        if (method, fraction) not in self._entries:
            rows = self.predictions.query("method == @method and fraction == @fraction").sort_values("seed")
            entries = []
            for evaluation, members in rows.groupby("evaluation"):
                scores = [load(row, "validation") for _, row in members.iterrows()]
                ap = float(np.mean([macro_ap(self.labels["validation"], one) for one in scores]))
                entries.append(Entry(method, str(evaluation), ap, members))
            self._entries[method, fraction] = max(entries, key=lambda e: e.validation, default=None)
        return self._entries[method, fraction]

    def fraction(self, name: str) -> float:
        """Return the label fraction that a claim calls ``"all"`` or ``"least"``."""
        fractions = self.predictions["fraction"]
        return float(fractions.max() if name == "all" else fractions.min())

    def compare(self, claim: Claim) -> Comparison:
        """Return the difference that tests a claim, or why it cannot be tested."""
        test = self._compare_coherence if claim.measure == "knn_jaccard" else self._compare_ap
        try:
            family = self._family(claim)
            return Comparison(claim, self.title, *test(claim, family))
        except NotTestable as reason:
            return Comparison(claim, self.title, str(reason))

    def _family(self, claim: Claim) -> list[str]:
        """Return the methods that the opponent is chosen from."""
        if claim.fraction == "least" and self.fraction("least") == self.fraction("all"):
            raise NotTestable("the run has one label fraction only")
        family = [name for name, method in METHODS.items() if method.family == claim.against]
        if lost := [METHODS[name].title for name in family if name in self.lost]:
            raise NotTestable(f"trials of {', '.join(lost)} failed, perhaps of the best opponent")
        return family

    def _compare_ap(self, claim: Claim, family: Sequence[str]) -> tuple[str, Difference]:
        fraction = self.fraction(claim.fraction)
        mosaic = self.entry(MOSAIC, fraction)
        if mosaic is None:
            raise NotTestable("no MoSAiC in this run")
        entries = [entry for name in family if (entry := self.entry(name, fraction))]
        entries = [entry for entry in entries if mosaic.seeds <= entry.seeds]
        if not entries:
            raise NotTestable(f"no {claim.against} method with all seeds in this run")
        opponent = max(entries, key=lambda entry: entry.validation)
        difference = self.difference(mosaic.members, opponent.members, claim.stratum)
        return f"{mosaic.title} against {opponent.title}", difference

    def _compare_coherence(self, claim: Claim, family: Sequence[str]) -> tuple[str, Difference]:
        seeds = self.embedded.groupby("method")["seed"].agg(set).to_dict()
        if MOSAIC not in seeds:
            raise NotTestable("no MoSAiC embedding in this run")
        opponents = [name for name in family if seeds[MOSAIC] <= seeds.get(name, set())]
        if not opponents:
            raise NotTestable(f"no {claim.against} embedding with all seeds in this run")

        def validation(method: str) -> float:
            return float(np.mean([v.mean() for v in per_seed(self.embedded, method, "coherence|validation")]))

        opponent = max(opponents, key=validation)
        paired = self.embedded[self.embedded["seed"].isin(seeds[MOSAIC])]
        mosaic, other = (
            resampled_mean(per_seed(paired, name, "coherence|test"), self.embedded_scenes, self.resamples)
            for name in (MOSAIC, opponent)
        )
        return f"{METHODS[MOSAIC].title} against {METHODS[opponent].title}", (mosaic - other).difference()

    def difference(self, mosaic: pd.DataFrame, other: pd.DataFrame, stratum: str = "all") -> Difference:
        """Return the paired difference of macro average precision on the test split or a stratum of it.

        Args:
            mosaic: rows of the table of predictions, one a seed.
            other: those of the opponent; only seeds of both are compared.
            stratum: ``"all"`` or ``"overlap"``.
        """
        labels = self.labels["test"]
        patches = slice(None) if stratum == "all" else labels.sum(1) >= OVERLAP_LABELS
        seeds = set(mosaic["seed"]) & set(other["seed"])
        first, second = (
            resampled_ap(
                labels[patches],
                [
                    load(row)[patches]
                    for _, row in rows.sort_values("seed").iterrows()
                    if row["seed"] in seeds
                ],
                self.scenes[patches],
                resamples=self.resamples,
            )
            for rows in (mosaic, other)
        )
        return (first - second).difference()

    def ablation(self) -> pd.DataFrame:
        """Return what each term adds: MoSAiC less the same method without it, at the least and at all labels.

        Both sides are judged by the evaluation that all methods share. No claim rests on it, so it is not
        corrected for the number of comparisons.

        Returns:
            One row a term and fraction: term, fraction, value (the difference), low, high, n_seeds.
        """
        rows = []
        ran = set(self.predictions["method"])
        for term, name in ABLATIONS.items():
            for fraction in sorted({self.fraction("least"), self.fraction("all")}):
                comparable = common_rows(self.predictions, fraction)
                without = name if name in ran else SAME_UNTUNED.get(name, name)
                mosaic, other = (comparable[comparable["method"] == m] for m in (MOSAIC, without))
                if set(mosaic["seed"]) & set(other["seed"]):
                    rows.append({"term": term, "fraction": fraction, **vars(self.difference(mosaic, other))})
        return pd.DataFrame(rows, columns=["term", "fraction", "value", "low", "high", "n_seeds"])


def judge_claims(study: Study) -> pd.DataFrame:
    """Return the claims on the archives of this run and of its companions, as :func:`judge_archives`.

    Raises:
        RunError: when a notebook of one of them was not run.
    """
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
    return claims.assign(effect=intervals(claims, "effect"))[list(titles)].rename(columns=titles)


def readable_ablation(ablation: pd.DataFrame) -> pd.DataFrame:
    """Return what each term adds under the titles of a report."""
    return pd.DataFrame(
        {
            "term": ablation["term"],
            "labels": ablation["fraction"].map("{:g} %".format),
            "gain": intervals(ablation),
            "seeds": ablation["n_seeds"],
        }
    )
