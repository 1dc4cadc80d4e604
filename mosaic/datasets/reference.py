"""Published and measured values of a real archive, for an archive in its layout to be compared with."""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class PublishedScores:
    """What others reached on the official test split; average precision (AP) and F1 in [0, 1]."""

    model: str
    input: str  # S1, S2 or both
    ap_macro: float
    ap_micro: float
    f1_macro: float
    f1_micro: float


@dataclass(frozen=True)
class Reference:
    """Published or measured values of a real archive; empty where unknown.

    Attributes:
        labels: statistic -> value over all official patches, in the order of
            :func:`mosaic.datasets.simulation.label_sets.label_statistics`.
        labels_per_patch: number of labels -> share of the official patches.
        scores: input -> (macro AP, micro AP) of the reference classifier of :mod:`mosaic.analysis.realism`.
        quantiles: one row a class, ``cls``, and columns ``<band>_p5``, ``_p50``, ``_p95`` in DN or dB.
        moments: band -> (mean, standard deviation) of the official training split, DN or dB.
        test_patches: number of patches in the official test split.
        test_sha256: SHA-256 of its patch ids, sorted, one a line.
    """

    title: str
    pairs: int = 0  # number of real pairs that scores and quantiles come from
    classes: int = 0  # number of classes that scores average
    labels: Mapping[str, float] = field(default_factory=dict)
    labels_per_patch: Mapping[int, float] = field(default_factory=dict)
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    quantiles: pd.DataFrame | None = None
    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    published: tuple[PublishedScores, ...] = ()
    published_source: str = ""
    test_patches: int = 0
    test_sha256: str = ""

    def published_for(self, test_ids: Iterable[str]) -> dict[str, Any]:
        """Return the published scores if the test split is the official one, patch by patch.

        Args:
            test_ids: patch ids of the test split.

        Returns:
            ``rows`` (one dict a model), ``source``, and ``why``: the reason if there are no rows.
        """
        ids = sorted(test_ids)
        why = ""
        if not self.published:
            why = f"no scores on {self.title} under this protocol are known to us"
        elif hashlib.sha256("\n".join(ids).encode()).hexdigest() != self.test_sha256:
            why = (
                f"published scores are of the official test split of {self.title} ({self.test_patches:,} "
                f"patches); the {len(ids):,} test patches of this run are not those, so they do not compare"
            )
        rows = [] if why else [asdict(scores) for scores in self.published]
        return {"rows": rows, "source": self.published_source, "why": why}


def read_moments(dataset: str) -> dict[str, tuple[float, float]]:
    """Return band -> mean and standard deviation of the official training split, DN and dB.

    Sources: ConfigILM 0.7 for BigEarthNet v2; the code of Schmitt and Wu 2021 for SEN12MS, with dB clipped to
    -25..0 and none for B01, B09 and B10.
    """
    with open(Path(__file__).with_name("moments.csv"), newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == dataset]
    return {row["band"]: (float(row["mean"]), float(row["std"])) for row in rows}
