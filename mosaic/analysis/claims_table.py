"""From predictions and embeddings to the claims table. What ``07`` runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.results import common_rows
from mosaic.evaluation.bootstrap import Difference, paired_difference
from mosaic.evaluation.claims import (
    CLAIMS,
    LEAST_SEEDS,
    LEVEL,
    RELEVANT,
    Claim,
    Comparison,
    judge,
    missing,
)
from mosaic.evaluation.coherence import difference_of_means
from mosaic.evaluation.metrics import per_class_ap
from mosaic.experiments.embed import chosen_rows, per_seed
from mosaic.experiments.predictions import KEYS, load, main_input, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import ABLATIONS, METHODS, SAME_UNTUNED
from mosaic.settings import NOTEBOOKS, ClaimSettings
from mosaic.store.reader import PackedStore
from mosaic.utils.progress import progress

OURS = "mosaic"
#: The stratum ``"overlap"``: patches of at least as many labels; the real mean is 2.95.
OVERLAP_LABELS = 3
EVALUATION_TITLES = {
    "knn": "kNN",
    "linear": "linear probe",
    "finetune": "fine-tuned",
    "end_to_end": "own classifier",
}


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
        evaluation: the one that was best on validation.
        validation: macro average precision there, mean over seeds.
        members: its rows of the table of predictions, by seed.
    """

    method: str
    evaluation: str
    validation: float
    members: pd.DataFrame

    @classmethod
    def of(cls, method: str, predictions: pd.DataFrame) -> "Entry":
        """Return the entry of a method of which one evaluation is given, so that nothing is to be chosen."""
        members = predictions[predictions["method"] == method].sort_values("seed")
        return cls(method, str(members["evaluation"].max()), float("nan"), members)

    @property
    def seeds(self) -> list[int]:
        """Seeds it was trained with, ascending."""
        return self.members["seed"].tolist()

    @property
    def words(self) -> str:
        """Title and evaluation, for readers."""
        return f"{METHODS[self.method].title} ({EVALUATION_TITLES[self.evaluation]})"


class ArchiveClaims:
    """The claims of one run.

    Args:
        title: of the archive.
        store: packed data.
        predictions: table of ``assess.predict_all``.
        embedded: table of ``embeddings.embed_all``.
        embedded_test: test rows that were embedded.
        resamples: of scenes and seeds, for each claim.
        lost: methods of which trials failed in a run that kept going: one of them may be the best opponent.
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
        main = predictions["input"] == predictions["method"].map(main_input)
        # full-label pretraining has seen labels that few-label comparisons must not use
        self.predictions = predictions[main & (predictions["label_protocol"] != "full")]
        self.embedded = embedded
        self.embedded_scenes = store.scenes[embedded_test]
        self.resamples, self.lost = resamples, sorted(lost)
        self.labels = {s: store.labels[store.split_rows(s)] for s in ("validation", "test")}
        self.scenes = store.scenes[store.split_rows("test")]
        self._kept: dict[tuple[str, float], Entry | None] = {}

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
        if (method, fraction) not in self._kept:
            own = self.predictions.query("method == @method and fraction == @fraction")
            found = []
            for evaluation, members in own.groupby("evaluation"):
                members = members.sort_values("seed")
                value = np.mean(
                    [_macro(self.labels["validation"], load(m, "validation")) for _, m in members.iterrows()]
                )
                found.append(Entry(method, str(evaluation), float(value), members))
            self._kept[method, fraction] = max(found, key=lambda e: e.validation, default=None)
        return self._kept[method, fraction]

    def fraction(self, name: str) -> float:
        """Return the label fraction that a claim calls ``"all"`` or ``"least"``."""
        fractions = self.predictions["fraction"]
        return float(fractions.max() if name == "all" else fractions.min())

    def compare(self, claim: Claim) -> Comparison:
        """Return the numbers of one claim."""
        return replace(self._compare(claim), dataset=self.title)

    def _compare(self, claim: Claim) -> Comparison:
        fraction = self.fraction(claim.fraction)
        if claim.fraction == "least" and fraction == self.fraction("all"):
            return missing(claim, "the run has one label fraction only")
        family = [name for name, method in METHODS.items() if method.family == claim.against]
        if gone := [METHODS[name].title for name in family if name in self.lost]:
            return missing(claim, f"trials of {', '.join(gone)} failed, perhaps of the best opponent")
        if claim.measure == "knn_jaccard":
            return self._compare_coherence(claim, family)
        ours = self.entry(OURS, fraction)
        if ours is None:
            return missing(claim, "no MoSAiC in this run")
        opponents = [entry for name in family if (entry := self.entry(name, fraction))]
        opponents = [entry for entry in opponents if set(ours.seeds) <= set(entry.seeds)]
        if not opponents:
            return missing(claim, f"no {claim.against} method with all seeds in this run")
        opponent = max(opponents, key=lambda entry: entry.validation)
        found = self.difference(ours, opponent, claim.stratum)
        return _comparison(claim, ours.words, opponent.words, found)

    def _compare_coherence(self, claim: Claim, family: Sequence[str]) -> Comparison:
        def score(method: str) -> float:
            each = per_seed(self.embedded, method, "coherence|validation")
            return float(np.mean([one.mean() for one in each]))

        seeds = {str(name): set(own["seed"]) for name, own in self.embedded.groupby("method")}
        if OURS not in seeds:
            return missing(claim, "no MoSAiC embedding in this run")
        opponents = [name for name in family if seeds[OURS] <= seeds.get(name, set())]
        if not opponents:
            return missing(claim, f"no {claim.against} embedding with all seeds in this run")
        opponent = max(opponents, key=score)
        paired = self.embedded[self.embedded["seed"].isin(seeds[OURS])]
        ours, theirs = (per_seed(paired, name, "coherence|test") for name in (OURS, opponent))
        found = difference_of_means(ours, theirs, self.embedded_scenes, self.resamples)
        return _comparison(claim, METHODS[OURS].title, METHODS[opponent].title, found)

    def difference(self, ours: Entry, theirs: Entry, stratum: str = "all") -> Difference:
        """Return the paired difference of macro average precision on the test split or a stratum of it.

        Only seeds of both sides are compared.
        """
        labels = self.labels["test"]
        chosen = slice(None) if stratum == "all" else labels.sum(1) >= OVERLAP_LABELS
        both = set(ours.seeds) & set(theirs.seeds)
        first, second = (
            [load(m)[chosen] for _, m in e.members.iterrows() if m["seed"] in both] for e in (ours, theirs)
        )
        scenes = self.scenes[chosen]
        return paired_difference(labels[chosen], first, second, scenes, resamples=self.resamples)

    def ablation(self) -> pd.DataFrame:
        """Return what each term adds: MoSAiC less the same method without it, at the least and at all labels.

        Both sides are judged by the evaluation that all methods share. No claim rests on it, so it is not
        corrected for the number of comparisons.

        Returns:
            One row a term and fraction: term, fraction, effect, low, high, n_seeds.
        """
        rows = []
        ran = set(self.predictions["method"])
        for term, name in ABLATIONS.items():
            other = name if name in ran else SAME_UNTUNED.get(name, name)
            for fraction in sorted({self.fraction("least"), self.fraction("all")}):
                alike = common_rows(self.predictions, fraction)
                ours, theirs = (Entry.of(method, alike) for method in (OURS, other))
                if not set(ours.seeds) & set(theirs.seeds):
                    continue
                found = self.difference(ours, theirs)
                rows.append((term, fraction, found.value, found.low, found.high, found.n_seeds))
        return pd.DataFrame(rows, columns=["term", "fraction", "effect", "low", "high", "n_seeds"])


def archive_claims(study: Study[ClaimSettings]) -> list[ArchiveClaims]:
    """Return the claims of this run and of those named in ``beside``.

    Raises:
        RunError: when a notebook of one of them was not run.
    """
    found = []
    for one in study.with_companions():
        store, most = one.store(), one.earlier("04_embeddings_and_coherence").settings.most_patches
        found.append(
            ArchiveClaims(
                one.read("archive")["title"],
                store,
                one.read("predictions"),
                one.read("embeddings"),
                chosen_rows(store, most)["test"],
                study.settings.claim_resamples,
                _lost(one),
            )
        )
    return found


def _lost(study: Study[ClaimSettings]) -> set[str]:
    """Return the methods of which a run lacks trials, which are named by method and seed."""
    failed = pd.concat([study.earlier(name).failed_trials() for name in list(NOTEBOOKS)[1:4]])
    return {trial.partition(" seed ")[0] for trial in failed["trial"]}


def claims_key(archives: Sequence[ArchiveClaims]) -> dict[str, Any]:
    """Return all that the claims of a run depend on, for the cache."""
    return {"archives": [archive.key() for archive in archives]}


def judge_claims(archives: Sequence[ArchiveClaims]) -> pd.DataFrame:
    """Return the claims of all archives: one row a claim and archive, with its verdict (``claims.judge``)."""
    pairs = [(archive, claim) for archive in archives for claim in CLAIMS]
    return judge([archive.compare(claim) for archive, claim in progress(pairs, "claims", total=len(pairs))])


def _comparison(claim: Claim, ours: str, theirs: str, found: Difference) -> Comparison:
    return Comparison(
        claim, ours, theirs, found.value, found.low, found.high, found.p_value, found.n_seeds, found.n_scenes
    )


def _macro(labels: NDArray[np.uint8], predictions: NDArray[np.float32]) -> float:
    return float(np.nanmean(per_class_ap(labels, predictions)))


def as_json(claims: pd.DataFrame, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims as ``claims.json`` holds them: rules, then one object a claim, NaN as null."""
    rows = claims.astype(object).where(claims.notna(), None).to_dict("records")
    return {"rules": dict(rules), "claims": rows}


def readable_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the claims as readers see them."""
    return pd.DataFrame(
        [
            {
                "archive": row["dataset"],
                "claim": row["statement"],
                "comparison": row["comparison"],
                "effect": (row["effect"], row["low"], row["high"]),
                "p (Holm)": row["p_holm"],
                "seeds": row["n_seeds"],
                "scenes": row["n_scenes"],
                "verdict": row["verdict"],
                "why": row["reason"],
            }
            for row in claims.to_dict("records")
        ]
    )


def readable_ablation(ablation: pd.DataFrame) -> pd.DataFrame:
    """Return what each term adds as readers see it."""
    return pd.DataFrame(
        [
            {
                "term": row["term"],
                "labels": f"{row['fraction']:g} %",
                "gain": (row["effect"], row["low"], row["high"]),
                "seeds": row["n_seeds"],
            }
            for row in ablation.to_dict("records")
        ]
    )
