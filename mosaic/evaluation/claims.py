"""What the abstract claims, as comparisons whose rules were fixed before any result.

Each claim is a paired difference, MoSAiC less one opponent, on the test split. Whatever could be chosen to
please is chosen on the validation split: which opponent of a family stands for it, and which evaluation (kNN,
linear probe, fine-tuning, or its own classifier) each side enters with.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mosaic.evaluation.bootstrap import Difference, holm

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
        against: family of methods that the opponent comes from.
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
# name, statement, topic, fraction, stratum and measure of what the abstract claims against every family
_CLAIMED = (
    ("accuracy", "More accurate with all labels", "accuracy", "all", "all", "ap_macro"),
    ("few labels", "More accurate with few labels", "few labels", "least", "all", "ap_macro"),
    ("overlap", "More accurate where classes overlap", "class overlap", "all", "overlap", "ap_macro"),
    (
        "overlap, few labels",
        "More accurate where classes overlap, with few labels",
        *("class overlap", "least", "overlap", "ap_macro"),
    ),
    ("coherence", "Neighbourhoods more coherent", "coherence", "all", "all", "knn_jaccard"),
)
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(f"{name} vs {family}", f"{statement} than {title}", topic, family, *selection)
    for name, statement, topic, *selection in _CLAIMED
    for family, title in FAMILIES.items()
)


@dataclass(frozen=True)
class Comparison:
    """A claim on one archive, and the difference that tests it.

    Attributes:
        claim: which one.
        dataset: title of the archive.
        sides: both methods and how they entered, in words; or why the run cannot test the claim.
        difference: MoSAiC less its opponent, in units of the measure; ``None`` when the claim was not tested.
    """

    claim: Claim
    dataset: str
    sides: str
    difference: Difference | None = None


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
    untested = Difference(np.nan, np.nan, np.nan, 0, 0, np.nan)
    differences = [comparison.difference or untested for comparison in comparisons]
    p_values = np.array([difference.p_value for difference in differences])
    tested = np.isfinite(p_values)
    p_holm = np.full(len(p_values), np.nan)
    p_holm[tested] = holm(p_values[tested].tolist())
    rows = []
    for comparison, difference, corrected in zip(comparisons, differences, p_holm.tolist(), strict=True):
        claim, numbers = comparison.claim, asdict(difference)
        verdict, reason = _verdict(difference, corrected)
        rows.append(
            {
                **{name: getattr(claim, name) for name in ("name", "statement", "topic")},
                "comparison": comparison.sides,
                "measure": claim.measure,
                "effect": numbers["value"],
                **{name: numbers[name] for name in ("low", "high", "p_value", "n_seeds", "n_scenes")},
                "dataset": comparison.dataset,
                "p_holm": corrected,
                "verdict": verdict,
                "reason": reason or comparison.sides,
            }
        )
    return pd.DataFrame(rows)


def _verdict(difference: Difference, p_holm: float) -> tuple[Verdict, str]:
    """Return the verdict and its reason, which is empty when the claim was not tested."""
    count = difference.n_seeds
    if not np.isfinite(difference.value):
        return "undecided", ""
    if count < LEAST_SEEDS:
        return "undecided", f"{count} seed{'s' * (count != 1)}; at least {LEAST_SEEDS} are needed"
    if p_holm < LEVEL:
        if difference.value > 0:
            return "supported", f"above zero, corrected p = {p_holm:.3g}"
        return "not supported", f"below zero, corrected p = {p_holm:.3g}"
    if difference.high < RELEVANT:
        return "not supported", f"an advantage of {RELEVANT:g} or more is excluded"
    return "undecided", f"the interval holds both zero and {RELEVANT:g}; corrected p = {p_holm:.3g}"
