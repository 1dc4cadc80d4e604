"""What the abstract claims, as comparisons whose rules were fixed before any result.

Each claim is a paired difference, MoSAiC less one opponent, on the test split. Whatever could be chosen to
please is chosen on the validation split: which opponent of a family stands for it, and which evaluation (kNN,
linear probe, or its own classifier) each side enters with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri, stdtrit

from mosaic.evaluation.uncertainty import LEAST_SCENES, Difference, Interval, ends, error_and_df
from mosaic.utils import words

#: Chance that any verdict of a run but *undecided* is wrong.
LEVEL = 0.05
#: Fewer seeds decide nothing: two seeds of one published model differ by 0.007 macro AP on BigEarthNet v2.
LEAST_SEEDS = 3
#: A difference below this is of no practical use, in units of average precision or Jaccard.
RELEVANT = 0.01
#: Chance to find an effect as large as the minimum detectable one.
POWER = 0.8
#: Sizes of runs that could be made: numbers of seeds and of test scenes.
SEEDS, SCENES = (3, 5, 10, 20), tuple(dict.fromkeys(int(n) for n in np.geomspace(LEAST_SCENES, 5000, 60)))
_INVERSE = np.linspace(1e-4, 1, 400)
# stratified uniform numbers of both variances and of the effect, the same for runs of any size
_DRAWN = np.random.default_rng(0).permuted(np.tile((np.arange(4000) + 0.5) / 4000, (3, 1)), axis=1)
#: What a comparison can end with; the last is no verdict.
VERDICTS = ("supported", "too small to matter", "not supported", "undecided", "not tested")


@dataclass(frozen=True)
class Claim:
    """One comparison that the abstract implies."""

    name: str
    statement: str
    against: str  # family of methods that the opponent comes from
    fraction: str  # "all" or "least" of the label fractions of the run
    measure: str  # "ap_macro", "ap_conditional" or "knn_jaccard"


#: Families that MoSAiC is compared with. The abstract names the first two; the third is the nearest kin.
FAMILIES: dict[str, str] = {
    "supervised": "fully supervised training",
    "self-supervised": "self-supervision",
    "label-contrastive": "label contrast alone",
}
#: What the abstract claims: accuracy, cluster coherence, few labels, high class overlap; each against all.
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(f"{name} vs {family}", f"{statement} than {title}", family, *selection)
    for name, statement, *selection in (
        ("accuracy", "More accurate with all labels", "all", "ap_macro"),
        ("few labels", "More accurate with few labels", "least", "ap_macro"),
        ("overlap", "Confuses classes that overlap less", "all", "ap_conditional"),
        ("coherence", "Neighbourhoods more coherent", "all", "knn_jaccard"),
    )
    for family, title in FAMILIES.items()
)


@dataclass(frozen=True)
class Comparison:
    """A claim on one archive, and the difference that tests it."""

    claim: Claim
    dataset: str  # title of the archive
    sides: str  # both methods and how they entered, in words; or why the run cannot test the claim
    difference: Difference | None = None  # MoSAiC less its opponent, in units of the measure, if tested
    untrained: str = ""  # why MoSAiC was, or may have been, trained too little for any verdict


def judge(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Give every claim its verdict by one interval.

    The intervals hold together at 95 %: each at 1 - 0.05 / m for m comparisons with enough seeds and scenes
    (Bonferroni, which alone bounds the errors of all verdicts at once; Holm's bounds those of rejections).

    Returns:
        One row a comparison: the attributes of its claim, dataset, comparison (in words), untrained, effect,
        low and high (the corrected interval), n_seeds, n_scenes, p_value, p_corrected, mde
        (:func:`detectable`; NaN where the run cannot tell), variance_scenes, variance_seeds, comparisons (m),
        verdict, reason.
    """
    untested = Difference(np.nan, np.nan, np.nan, 0, 0, np.nan, np.nan, np.nan)
    table = pd.DataFrame(
        {
            **asdict(comparison.claim),
            "dataset": comparison.dataset,
            "comparison": comparison.sides,
            "untrained": comparison.untrained,
            **asdict(comparison.difference or untested),
        }
        for comparison in comparisons
    ).rename(columns={"value": "effect"})
    enough = (table["n_seeds"] >= LEAST_SEEDS) & (table["n_scenes"] >= LEAST_SCENES)
    count = max(1, int((enough & table["variance_scenes"].notna()).sum()))
    judged = []
    for row in table.to_dict("records"):
        variances, sizes = (row["variance_scenes"], row["variance_seeds"]), (row["n_scenes"], row["n_seeds"])
        low, high = ends(row["effect"], *error_and_df(variances, sizes), LEVEL / count)
        mde = detectable(variances, sizes, count) if row["n_seeds"] > 1 else np.nan
        if not np.isfinite(row["effect"]):
            verdict, reason = "not tested", row["comparison"]
        elif reason := too_few(*sizes) or row["untrained"]:
            verdict = "undecided"
        else:
            verdict, reason = decide(low, high, mde)
        p = float(np.minimum(1.0, count * row["p_value"]))  # NaN of one seed
        judged.append((low, high, p, mde, verdict, reason))
    columns = ["low", "high", "p_corrected", "mde", "verdict", "reason"]
    return table.assign(comparisons=count, **pd.DataFrame(judged, columns=columns))


def too_few(scenes: int, seeds: int) -> str:
    """Return why a sample of this size decides nothing; empty when it may."""
    if scenes < LEAST_SCENES:
        return f"too few scenes ({scenes}) to decide; at least {LEAST_SCENES} are needed"
    few = f"{words.count(seeds, 'seed')} cannot decide; at least {LEAST_SEEDS} are needed"
    return few if seeds < LEAST_SEEDS else ""


def too_little_training(margins: Mapping[str, Interval | None]) -> str:
    """Return why MoSAiC was trained too little for a claim, or may have been, with both numbers; or "".

    Margins are of macro average precision, over ``"band statistics"`` and ``"random features"``; ``None`` if
    the run has none. The first must not be negative, and the interval of the second must lie above zero.
    """
    bar, chance = margins["band statistics"], margins["random features"]
    if (bar and bar.value < 0) or (chance and not chance.low > 0):
        known = {name: words.effect(m.value, m.low, m.high) for name, m in margins.items() if m}
        numbers = ", less ".join(f"{name} {number}" for name, number in known.items())
        return f"too little training: MoSAiC less {numbers}"
    absent = " or ".join(name for name, margin in margins.items() if not margin)
    return f"whether training was long enough is not known: no {absent} in this run" if absent else ""


def decide(low: float, high: float, mde: float) -> tuple[str, str]:
    """Return the verdict on an effect in [low, high], and its reason; mirrored ends, mirrored verdicts."""
    if np.isnan(low):
        return "undecided", "no interval: one scene holds all that can be scored"
    if low > -RELEVANT and high < RELEVANT:
        return "too small to matter", f"the interval lies within -{RELEVANT:g} to {RELEVANT:g}"
    if low > 0:
        return "supported", "the interval lies above zero"
    if high < 0:
        return "not supported", "the interval lies below zero"
    *others, last = (f"{each:g}" for each in (-RELEVANT, 0, RELEVANT) if low <= each <= high)
    why = "the run is too small" if mde > RELEVANT else "the effect is small"
    size = f"it finds {mde:.3f} with {100 * POWER:.0f} % chance"
    return "undecided", f"the interval holds {', '.join(others)} and {last}; {why}: {size}"


def detectable(variances: tuple[float, float], sizes: tuple[float, float], count: int) -> float:
    """Return the minimum detectable effect: found with a chance of :data:`POWER` among ``count`` comparisons.

    ``variances`` are those of the mean over scenes and over seeds, ``sizes`` the numbers of both. It is
    simulated, for a run knows its variances only as estimates, by which its intervals vary: with few seeds
    the sum of two t quantiles is found less often than it says.
    """
    v, df = np.asarray(variances, float), np.maximum(np.asarray(sizes, float) - 1, 1)
    estimated = np.stack([v[i] / df[i] * _chi_squared(float(df[i]), i) for i in (0, 1)], axis=1)
    total = estimated.sum(1)
    inverse = (estimated**2 / df).sum(1) / np.where(total == 0, 1, total) ** 2  # Satterthwaite's
    limit = np.exp(np.interp(inverse, _INVERSE, _log_quantiles(1 - LEVEL / (2 * count)))) * np.sqrt(total)
    return float(np.quantile(limit - np.sqrt(v.sum()) * ndtri(_DRAWN[2]), POWER))


@cache
def _chi_squared(df: float, part: int) -> NDArray[np.float64]:
    return chdtri(df, _DRAWN[part])


@cache
def _log_quantiles(level: float) -> NDArray[np.float64]:
    """Return the logarithm of t quantiles, smooth in one over the degrees of freedom, :data:`_INVERSE`."""
    return np.log(stdtrit(1 / _INVERSE, level))


def resolution(claims: pd.DataFrame, measure: str = "ap_macro") -> pd.DataFrame:
    """Return what runs of other sizes could detect: dataset, n_seeds, n_scenes, mde.

    The variance over scenes falls as 1 / scenes, that over seeds as 1 / seeds; of this run's claims on a
    measure the median counts. Empty where no claim has two seeds and enough scenes.
    """
    rows = []
    known = claims[(claims["measure"] == measure) & claims["mde"].notna()]
    for dataset, members in known.groupby("dataset", sort=False):
        over_scenes = (members["variance_scenes"] * members["n_scenes"]).median()
        over_seeds = (members["variance_seeds"] * members["n_seeds"]).median()
        for k, n in product(SEEDS, SCENES):
            mde = detectable((over_scenes / n, over_seeds / k), (n, k), int(members["comparisons"].iloc[0]))
            rows.append((dataset, k, n, mde))
    return pd.DataFrame(rows, columns=["dataset", "n_seeds", "n_scenes", "mde"])
