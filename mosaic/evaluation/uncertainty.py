"""Intervals and p-values of scores, over the scenes of the test split and the seeds of a method.

Patches of one scene (Sentinel-2 tile and date) share season, sun and atmosphere, so scenes are the sample,
not patches. The variance over scenes is that of the delete-one jackknife (Efron & Tibshirani 1993, chapter
11), that over seeds the variance of their mean; their sum has Satterthwaite's degrees of freedom (1946,
Biometrics 2). The same scenes are left out whatever is scored, which pairs methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from mosaic.evaluation.label_overlap import Stratum
from mosaic.evaluation.metrics import Labels, Predictions, leave_one_out_ap, scored_classes

#: Scene of each patch (N,).
Scenes = NDArray[np.str_]
#: With fewer scenes nothing is known of the variance between them: no interval and no p-value is given.
LEAST_SCENES = 6


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval, NaN below :data:`LEAST_SCENES`; of one seed, for it alone."""

    value: float
    low: float
    high: float
    n_seeds: int
    n_scenes: int


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference, its two-sided p-value of being zero (NaN of one seed), and its variances."""

    p_value: float
    variance_scenes: float
    variance_seeds: float


@dataclass(frozen=True)
class Estimate:
    """A score of each seed, and what their mean would be without each scene."""

    values: NDArray[np.float64]  # of each seed (n,)
    without: NDArray[np.float64]  # mean over seeds without each scene (S,)
    least: float = 0.0  # that is possible; the most is 1

    def __sub__(self, other: "Estimate") -> "Estimate":
        if len(self.values) != len(other.values):
            counts = f"{len(self.values)} seeds against {len(other.values)}"
            raise ValueError(f"{counts}: a paired difference needs the same seeds")
        return Estimate(self.values - other.values, self.without - other.without, -1.0)

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.values.mean())

    @property
    def variances(self) -> tuple[float, float]:
        """Variance of the mean over scenes, by the jackknife, and over seeds; NaN where it cannot be told."""
        count = len(self.without)
        over_scenes = (count - 1) / count * ((self.without - self.without.mean()) ** 2).sum()
        over_seeds = self.values.var(ddof=1) / len(self.values) if len(self.values) > 1 else 0.0
        return float(over_scenes if count >= LEAST_SCENES else np.nan), float(over_seeds)

    def interval(self) -> Interval:
        """Return the mean over seeds with its 95 % interval, which ends where scores do."""
        n_seeds, n_scenes = len(self.values), len(self.without)
        error, df = error_and_df(self.variances, (n_scenes, n_seeds))
        low, high = ends(self.value, error, df)
        return Interval(self.value, max(low, self.least), min(high, 1.0), n_seeds, n_scenes)

    def difference(self) -> Difference:
        """Return the interval of a difference, with the p-value that it is zero."""
        sizes = len(self.without), len(self.values)
        p = p_value(self.value, *error_and_df(self.variances, sizes)) if sizes[1] > 1 else np.nan
        over_scenes, over_seeds = self.variances
        return Difference(
            **vars(self.interval()), p_value=p, variance_scenes=over_scenes, variance_seeds=over_seeds
        )

    @staticmethod
    def of(seeds: Sequence[NDArray[np.float64]]) -> "Estimate":
        """Make an estimate of each seed's score and what it is without each scene, (1 + S,)."""
        return Estimate(np.array(seeds)[:, 0], np.mean(seeds, axis=0)[1:])

    @staticmethod
    def over_seeds(estimates: Sequence["Estimate"]) -> "Estimate":
        """Join estimates of one seed each."""
        values, without = ([vars(each)[name] for each in estimates] for name in ("values", "without"))
        return Estimate(np.concatenate(values), np.mean(without, axis=0), estimates[0].least)

    @staticmethod
    def mean(estimates: Sequence["Estimate"]) -> "Estimate":
        """Return the mean of estimates on the same scenes and seeds."""
        values, without = ([vars(each)[name] for each in estimates] for name in ("values", "without"))
        return Estimate(np.mean(values, axis=0), np.mean(without, axis=0), estimates[0].least)


def error_and_df(variances: ArrayLike, counts: ArrayLike) -> tuple[float, float]:
    """Return the standard error of a sum of independent parts, and Satterthwaite's degrees of freedom.

    Each of the ``variances`` is estimated from a sample of that of the ``counts``, and 0 for a sample of one.
    """
    v, df = np.asarray(variances, float), np.asarray(counts, float) - 1
    total = v.sum()
    weight = (v[df > 0] ** 2 / df[df > 0]).sum()
    return float(np.sqrt(total)), float(total**2 / weight if weight > 0 else df.max())


def ends(value: float, error: float, df: float, alpha: float = 0.05) -> tuple[float, float]:
    """Return the ends of the interval of level 1 - ``alpha``, value -+ t * error."""
    half = float(stdtrit(df, 1 - alpha / 2)) * error
    return value - half, value + half


def p_value(value: float, error: float, df: float) -> float:
    """Return the two-sided p-value of the t-test that a value is zero."""
    if value == error == 0:
        return 1.0
    return float(2 * stdtr(df, -abs(value) / error)) if error != 0 else 0.0


def estimate_ap(
    labels: Labels,
    predictions: Sequence[Predictions],
    scenes: Scenes,
    strata: Sequence[Stratum] = (),
    average: str = "macro",
) -> Estimate:
    """Return macro or micro average precision, predictions (N, C) given for each seed.

    A macro average runs over the scored classes of each stratum, on its patches; by default over those of the
    whole. Where a class has no positive left without a scene, the average goes on without it.
    """
    strata = strata or [Stratum("all", np.arange(len(labels)), np.arange(labels.shape[1]))]
    used = np.unique(np.concatenate([stratum.patches for stratum in strata]))
    scene = np.zeros(len(labels), np.int64)
    names, scene[used] = np.unique(scenes[used], return_inverse=True)
    columns = [
        (stratum.patches, each)
        for stratum in strata
        for each in stratum.classes[scored_classes(labels[np.ix_(stratum.patches, stratum.classes)])]
    ]
    ap = []
    for scores in predictions:
        if average == "micro":
            flat = np.repeat(scene, labels.shape[1])
            ap.append(leave_one_out_ap(labels.ravel(), scores.ravel(), flat, len(names)))
        else:
            parts = [
                leave_one_out_ap(labels[rows, column], scores[rows, column], scene[rows], len(names))
                for rows, column in columns
            ]
            of_classes = np.reshape(parts, (-1, 1 + len(names)))
            known = np.isfinite(of_classes)
            with np.errstate(invalid="ignore"):  # NaN where no class has a positive left
                ap.append(np.where(known, of_classes, 0).sum(axis=0) / known.sum(axis=0))
    return Estimate.of(ap)


def estimate_mean(per_patch: Sequence[NDArray[np.float64]], scenes: Scenes) -> Estimate:
    """Return the mean over patches of a number of each patch (N,), given for each seed; NaN is left out."""
    names, scene = np.unique(scenes, return_inverse=True)
    means = []
    for values in per_patch:
        known = np.isfinite(values)
        total, count = (np.bincount(scene[known], weights, len(names)) for weights in (values[known], None))
        with np.errstate(invalid="ignore"):  # NaN where a scene holds all that is known
            means.append((total.sum() - np.append(0.0, total)) / (count.sum() - np.append(0, count)))
    return Estimate.of(means)
