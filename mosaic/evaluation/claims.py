"""What the abstract says, as comparisons whose rules were fixed before any result.

Each claim is a paired difference, MoSAiC less one opponent, on the test split. Whatever could be chosen
to please is chosen on the validation split: which opponent of a family stands for it, and which evaluation
(kNN, linear probe, fine-tuning, or its own classifier) each side enters with.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mosaic.evaluation.bootstrap import holm

Verdict = Literal["supported", "not supported", "undecided"]

#: Chance that a claim is called supported (or refuted) although there is no difference.
LEVEL = 0.05
#: Fewer seeds decide nothing: two seeds of one published model differ by 0.007 macro AP on BigEarthNet v2.
LEAST_SEEDS = 3
#: An advantage below this is of no practical use, in units of average precision or Jaccard.
RELEVANT = 0.01


@dataclass(frozen=True)
class Claim:
    """One comparison that the abstract implies.

    Attributes:
        name: short and unique.
        statement: the claim in words.
        topic: ``accuracy``, ``few labels``, ``class overlap`` or ``coherence``.
        against: family of methods it is made against; the opponent comes from it.
        fraction: ``"all"`` or ``"least"`` of the label fractions of the run.
        stratum: of the test patches: ``"all"`` or ``"overlap"``.
        measure: ``"ap_macro"`` or ``"knn_jaccard"``.
    """

    name: str
    statement: str
    topic: str
    against: str
    fraction: str
    stratum: str
    measure: str


#: Families that MoSAiC is compared with. The abstract names the first two; the third is the nearest kin.
FAMILIES: dict[str, str] = {
    "supervised": "fully supervised training",
    "self-supervised": "self-supervision",
    "label-contrastive": "label contrast alone",
}
#: What the abstract claims: accuracy, cluster coherence, few labels, high class overlap; each against all.
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(
        f"{short} vs {against}",
        f"{text} than {FAMILIES[against]}",
        topic,
        against,
        fraction,
        stratum,
        measure,
    )
    for short, text, topic, fraction, stratum, measure in (
        ("accuracy", "More accurate with all labels", "accuracy", "all", "all", "ap_macro"),
        ("few labels", "More accurate with few labels", "few labels", "least", "all", "ap_macro"),
        ("overlap", "More accurate where classes overlap", "class overlap", "all", "overlap", "ap_macro"),
        (
            "overlap, few labels",
            "More accurate where classes overlap, with few labels",
            "class overlap",
            "least",
            "overlap",
            "ap_macro",
        ),
        ("coherence", "Neighbourhoods more coherent", "coherence", "all", "all", "knn_jaccard"),
    )
    for against in FAMILIES
)


@dataclass(frozen=True)
class Comparison:
    """A claim's numbers on one archive.

    Attributes:
        claim: which one.
        ours: MoSAiC and how it entered, in words.
        opponent: the method compared with and how it entered, in words; empty when there was none.
        effect: ours less theirs, in units of the measure; NaN when not computed.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided, uncorrected.
        n_seeds: seeds paired.
        n_scenes: scenes resampled.
        dataset: title of the archive.
    """

    claim: Claim
    ours: str
    opponent: str
    effect: float
    low: float
    high: float
    p_value: float
    n_seeds: int
    n_scenes: int
    dataset: str = ""


def missing(claim: Claim, why: str) -> Comparison:
    """Return the comparison of a claim that the run cannot test, and why."""
    nan = float("nan")
    return Comparison(claim, "MoSAiC", why, nan, nan, nan, nan, 0, 0)


def judge(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Give every claim its verdict.

    *Supported*: the difference is above zero after Holm's correction over all claims tested. *Not supported*:
    it is below zero so corrected, or its 95 % interval excludes an advantage of :data:`RELEVANT` or more.
    *Undecided*: anything else, any claim with fewer than :data:`LEAST_SEEDS` seeds, and what was not tested.

    Args:
        comparisons: one a claim and archive; all are corrected for together.

    Returns:
        One row a comparison, in the order given: name, statement, topic, comparison (in words), measure,
        effect, low, high, p_value, n_seeds, n_scenes, dataset, p_holm, verdict, reason.
    """
    p_values = np.array([c.p_value for c in comparisons])
    tested = np.isfinite(p_values)
    corrected = np.full(len(p_values), np.nan)
    corrected[tested] = holm(p_values[tested].tolist())
    rows: list[dict[str, Any]] = []
    for one, p_holm in zip(comparisons, corrected.tolist(), strict=True):
        verdict, reason = _verdict(one, p_holm)
        numbers = {k: v for k, v in asdict(one).items() if k not in ("claim", "ours", "opponent")}
        rows.append(
            {
                "name": one.claim.name,
                "statement": one.claim.statement,
                "topic": one.claim.topic,
                "comparison": f"{one.ours} against {one.opponent}"
                if np.isfinite(one.effect)
                else one.opponent,
                "measure": one.claim.measure,
                **numbers,
                "p_holm": p_holm,
                "verdict": verdict,
                "reason": reason,
            }
        )
    return pd.DataFrame(rows)


def _verdict(one: Comparison, p_holm: float) -> tuple[Verdict, str]:
    if not np.isfinite(one.effect):
        return "undecided", one.opponent
    if one.n_seeds < LEAST_SEEDS:
        return "undecided", f"{one.n_seeds} seed{'s' * (one.n_seeds != 1)}; at least {LEAST_SEEDS} are needed"
    if p_holm < LEVEL:
        if one.effect > 0:
            return "supported", f"above zero, corrected p = {p_holm:.3g}"
        return "not supported", f"below zero, corrected p = {p_holm:.3g}"
    if one.high < RELEVANT:
        return "not supported", f"an advantage of {RELEVANT:g} or more is excluded"
    return "undecided", f"the interval holds both zero and {RELEVANT:g}; corrected p = {p_holm:.3g}"
