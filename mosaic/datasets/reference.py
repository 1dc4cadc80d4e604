"""Published and measured values of a real archive, for an archive in its layout to be compared with."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.nomenclature import CORINE

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Reference:
    """Published or measured values of a real archive; empty where unknown."""

    title: str
    pairs: int = 0  # number of real pairs that scores and quantiles come from
    classes: int = 0  # number of classes that scores average
    #: Statistic -> value over all official patches, in the order of :func:`label_statistics`.
    labels: Mapping[str, float] = field(default_factory=dict)
    labels_per_patch: Mapping[int, float] = field(default_factory=dict)  # number -> share of official patches
    #: Statistic -> value, by the reference classifier and titles of :mod:`mosaic.analysis.archive_tables`.
    scores: Mapping[str, float] = field(default_factory=dict)
    #: One row a class, ``cls``, and columns ``<band>_p5``, ``_p50``, ``_p95`` in DN or dB.
    quantiles: pd.DataFrame | None = None
    #: Band -> (mean, standard deviation) of the official training split, DN or dB.
    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: What others reached on the official test split, one dict a model: ``model``, ``input`` (S1, S2 or all
    #: sensors), and ``ap_macro``, ``ap_micro``, ``f1_macro``, ``f1_micro`` in [0, 1].
    published: Sequence[Any] = ()
    published_source: str = ""
    test_patches: int = 0  # number of patches in the official test split
    test_sha256: str = ""  # of its patch ids, sorted, one a line; empty where only their number is known

    def published_for(self, test_ids: Iterable[str]) -> dict[str, Any]:
        """Return ``rows`` and their ``source`` if ``test_ids`` are the official split; else ``why`` not."""
        ids, why = sorted(test_ids), ""
        sha256 = hashlib.sha256("\n".join(ids).encode()).hexdigest() if self.test_sha256 else ""
        if not self.published:
            why = f"no scores on {self.title} under this protocol are known to us"
        elif (sha256, len(ids)) != (self.test_sha256, self.test_patches):
            why = (
                f"published scores are of the official test split of {self.title} ({self.test_patches:,} "
                f"patches); the {len(ids):,} test patches of this run are not those, so they do not compare"
            )
        return {"rows": [] if why else [*self.published], "source": self.published_source, "why": why}


def bigearthnet_reference() -> Reference:
    """Return label statistics of the 480,038 official patches, and quantiles and scores of 120 real pairs.

    Those of 56 pairs are what ``01_explore_data`` shows on 56 official test patches of 17 tiles (means over
    five draws). The 120 are not at hand: their share of S1 that labels explain, and the trees' lead, are
    quoted from a measurement without recorded definitions; R2 in scenes left out and C = 0.1 fit it best.
    """
    sets, shares = label_sets()
    counts = np.bincount(sets.sum(1), shares)
    return Reference(
        title="BigEarthNet v2",
        pairs=120,
        classes=14,
        labels=_read_values("labels"),
        labels_per_patch={number: float(share) for number, share in enumerate(counts) if share},
        scores=_read_values("scores"),
        quantiles=real_quantiles(),
        moments=read_moments("bigearthnet"),
        published=read_published("bigearthnet_v2"),
        published_source="model cards of reBEN, huggingface.co/BIFOLD-BigEarthNetv2-0",
        test_patches=119_825,
        test_sha256="979abdfda82885e7a2271db6af2340a3f0c75c1180fb3d4cc53c334e157768ca",
    )


def _read_values(table: str) -> dict[str, float]:
    rows = pd.read_csv(_FOLDER / "real_values.csv").query("table == @table")
    return dict(zip(rows["name"], rows["value"], strict=True))


def read_published(dataset: str) -> list[Any]:
    """Return published scores on a test split, as of :attr:`Reference.published`, without absent measures."""
    table = pd.read_csv(_FOLDER / "published.csv").query("dataset == @dataset")
    return table.drop(columns="dataset").dropna(axis=1, how="all").to_dict("records")


def read_moments(dataset: str) -> dict[str, tuple[float, float]]:
    """Return band -> mean and standard deviation of the official training split, DN and dB.

    Sources: ConfigILM 0.7 for BigEarthNet v2; the code of Schmitt and Wu 2021 for SEN12MS, with dB clipped to
    -25..0 and none for B01, B09 and B10.
    """
    table = pd.read_csv(_FOLDER / "moments.csv").query("dataset == @dataset")
    return {band: (mean, std) for _, band, mean, std in table.itertuples(index=False)}


def real_quantiles() -> pd.DataFrame:
    """Return quantiles of pixels of 120 real BigEarthNet v2 pairs for 17 classes, DN and dB.

    From pixels under the reference maps (CDLA-Permissive-1.0, bigearth.net).
    """
    return pd.read_csv(_FOLDER / "real_quantiles.csv")


@cache
def label_sets() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the distinct label sets (K, 19) of the 480,038 official patches, and their shares (K,).

    Made by ``benchmarks/derive_label_statistics.py`` from ``metadata.parquet`` (CDLA-Permissive-1.0).
    """
    with np.load(_FOLDER / "label_sets.npz") as file:
        masks, counts = file["masks"], file["counts"]
    sets = (masks[:, None] >> np.arange(len(CORINE.classes)) & 1).astype(np.uint8)
    return sets, counts / counts.sum()


def label_statistics(labels: NDArray[np.uint8]) -> dict[str, float]:
    """Return the mean number of labels of (N, C) vectors and how those of two random patches overlap."""
    kinds, counts = np.unique(labels, axis=0, return_counts=True)
    kinds = kinds.astype(np.float64)
    shared = kinds @ kinds.T
    size = kinds.sum(1)
    jaccard = shared / np.maximum(size[:, None] + size[None, :] - shared, 1)
    pairs = np.outer(counts, counts) - np.diag(counts)
    total = pairs.sum()
    return {
        "mean_labels": float(labels.sum(1).mean()),
        "p_share": float(pairs[shared > 0].sum() / total),  # at least one label in common
        "p_identical": float(np.diag(pairs).sum() / total),
        "mean_jaccard": float((pairs * jaccard).sum() / total),
    }
