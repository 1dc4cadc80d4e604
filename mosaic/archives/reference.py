"""What is known of a real archive, for an archive in its layout to be compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Reference:
    """Published or measured values of a real archive. Whatever is unknown is empty.

    Attributes:
        title: name of the archive.
        pairs: number of real pairs that ``scores`` and ``quantiles`` come from.
        classes: number of classes that ``scores`` average.
        labels: statistic -> value over all official patches, in the order of
            :func:`mosaic.archives.simulated.label_sets.label_statistics`.
        labels_per_patch: number of labels -> share of the official patches.
        scores: input -> (macro AP, micro AP) of the reference classifier of :mod:`mosaic.study.realism`.
        quantiles: one row a class, ``cls``, and columns ``<band>_p5``, ``_p50``, ``_p95`` in DN or dB.
        moments: band -> (mean, standard deviation) of the official training split, DN or dB.
    """

    title: str
    pairs: int = 0
    classes: int = 0
    labels: Mapping[str, float] = field(default_factory=dict)
    labels_per_patch: Mapping[int, float] = field(default_factory=dict)
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    quantiles: pd.DataFrame | None = None
    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
