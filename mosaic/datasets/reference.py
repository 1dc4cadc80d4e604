"""Published and measured values of a real archive, for an archive in its layout to be compared with."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.nomenclature import CORINE

_FOLDER = Path(__file__).parent
#: Model, input, then macro and micro AP and macro and micro F1, in percent.
_PUBLISHED: tuple[tuple[str, str, float, float, float, float], ...] = (
    ("ResNet-50", "S1", 62.84, 80.07, 57.61, 70.20),
    ("ResNet-50", "all sensors", 70.33, 86.07, 64.42, 76.66),
    ("ResNet-50, rerun by others", "all sensors", 71.06, 85.93, 65.69, 76.40),
    ("ViT-B/8", "all sensors", 66.76, 84.22, 60.32, 74.58),
    ("ConvNeXtV2-B", "all sensors", 69.20, 85.73, 62.69, 75.96),
    ("RDNet-B", "S2", 68.87, 85.39, 62.31, 75.48),
    ("MobileViT-S", "all sensors", 70.33, 86.36, 63.75, 76.35),
    ("MobileViT-S", "S1", 63.12, 81.18, 56.57, 70.56),
)


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
    """Published or measured values of a real archive; empty where unknown."""

    title: str
    pairs: int = 0  # number of real pairs that scores and quantiles come from
    classes: int = 0  # number of classes that scores average
    #: Statistic -> value over all official patches, in the order of :func:`label_statistics`.
    labels: Mapping[str, float] = field(default_factory=dict)
    labels_per_patch: Mapping[int, float] = field(default_factory=dict)  # number -> share of official patches
    #: Input -> (macro AP, micro AP) of the reference classifier of :mod:`mosaic.analysis.archive_tables`.
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: One row a class, ``cls``, and columns ``<band>_p5``, ``_p50``, ``_p95`` in DN or dB.
    quantiles: pd.DataFrame | None = None
    #: Band -> (mean, standard deviation) of the official training split, DN or dB.
    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    published: tuple[PublishedScores, ...] = ()
    published_source: str = ""
    test_patches: int = 0  # number of patches in the official test split
    test_sha256: str = ""  # of its patch ids, sorted, one a line

    def published_for(self, test_ids: Iterable[str]) -> dict[str, Any]:
        """Return the published scores if ``test_ids`` are the official test split, patch by patch.

        They are ``rows`` (one dict a model), ``source``, and ``why``: the reason if there are no rows.
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


def bigearthnet_reference() -> Reference:
    """Return label statistics of the 480,038 official patches, and quantiles and scores of 120 real pairs."""
    sets, shares = label_sets()
    counts = np.bincount(sets.sum(1), shares)
    return Reference(
        title="BigEarthNet v2",
        pairs=120,
        classes=14,
        labels={
            "labels a patch": 2.95,
            "P(share a label)": 0.512,
            "P(identical)": 0.018,
            "mean Jaccard": 0.16,
        },
        labels_per_patch={number: float(share) for number, share in enumerate(counts) if share},
        scores={"S1": (0.41, 0.49), "S2, 10 m bands": (0.44, 0.59), "both": (0.48, 0.60)},
        quantiles=real_quantiles(),
        moments=read_moments("bigearthnet"),
        published=tuple(
            PublishedScores(model, source, *(value / 100 for value in values))
            for model, source, *values in _PUBLISHED
        ),
        published_source="model cards of reBEN, huggingface.co/BIFOLD-BigEarthNetv2-0",
        test_patches=119_825,
        test_sha256="979abdfda82885e7a2271db6af2340a3f0c75c1180fb3d4cc53c334e157768ca",
    )


def read_moments(dataset: str) -> dict[str, tuple[float, float]]:
    """Return band -> mean and standard deviation of the official training split, DN and dB.

    Sources: ConfigILM 0.7 for BigEarthNet v2; the code of Schmitt and Wu 2021 for SEN12MS, with dB clipped to
    -25..0 and none for B01, B09 and B10.
    """
    table = pd.read_csv(_FOLDER / "moments.csv").query("dataset == @dataset")
    return {band: (mean, std) for _, band, mean, std in table.itertuples(index=False)}


def real_quantiles() -> pd.DataFrame:
    """Return pixel quantiles of 120 real BigEarthNet v2 pairs, one row for each of 17 classes.

    DN of B02, B03, B04, B08 and dB of VV, VH, from pixels under the reference maps (CDLA-Permissive-1.0,
    bigearth.net).
    """
    return pd.read_csv(_FOLDER / "real_quantiles.csv")


@cache
def label_sets() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the distinct label sets (K, 19) of the 480,038 official patches, and their shares (K,).

    Made by ``benchmarks/derive_label_statistics.py`` from the official ``metadata.parquet``
    (CDLA-Permissive-1.0, bigearth.net).
    """
    with np.load(_FOLDER / "label_sets.npz") as file:
        masks, counts = file["masks"], file["counts"]
    sets = (masks[:, None] >> np.arange(len(CORINE.classes)) & 1).astype(np.uint8)
    return sets, counts / counts.sum()


def label_statistics(labels: NDArray[np.uint8]) -> dict[str, float]:
    """Describe label vectors (N, C) by what matters to a contrastive loss.

    Returned are ``mean_labels`` a patch and, for two different random patches, ``p_share`` (at least one
    label in common), ``p_identical`` and ``mean_jaccard``.
    """
    kinds, counts = np.unique(labels, axis=0, return_counts=True)
    kinds = kinds.astype(np.float64)
    shared = kinds @ kinds.T
    size = kinds.sum(1)
    jaccard = shared / np.maximum(size[:, None] + size[None, :] - shared, 1)
    pairs = np.outer(counts, counts) - np.diag(counts)
    total = pairs.sum()
    return {
        "mean_labels": float(labels.sum(1).mean()),
        "p_share": float(pairs[shared > 0].sum() / total),
        "p_identical": float(np.diag(pairs).sum() / total),
        "mean_jaccard": float((pairs * jaccard).sum() / total),
    }
