"""What the abstract claims, as comparisons whose rules were fixed before any result.

Each claim is a paired difference, MoSAiC less one opponent, on the test split. Whatever could be chosen to
please is chosen on the validation split: which opponent of a family stands for it, and which evaluation (kNN,
linear probe, fine-tuning, or its own classifier) each side enters with.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    """One comparison that the abstract implies."""

    name: str
    statement: str
    against: str  # family of methods that the opponent comes from
    fraction: str  # "all" or "least" of the label fractions of the run
    stratum: str  # of the test patches: "all" or "overlap"
    measure: str  # "ap_macro" or "knn_jaccard"


#: Families that MoSAiC is compared with. The abstract names the first two; the third is the nearest kin.
FAMILIES: dict[str, str] = {
    "supervised": "fully supervised training",
    "self-supervised": "self-supervision",
    "label-contrastive": "label contrast alone",
}
_OVERLAP = "More accurate where classes overlap"
#: What the abstract claims: accuracy, cluster coherence, few labels, high class overlap; each against all.
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(f"{name} vs {family}", f"{statement} than {title}", family, *selection)
    for name, statement, *selection in (
        ("accuracy", "More accurate with all labels", "all", "all", "ap_macro"),
        ("few labels", "More accurate with few labels", "least", "all", "ap_macro"),
        ("overlap", _OVERLAP, "all", "overlap", "ap_macro"),
        ("overlap, few labels", f"{_OVERLAP}, with few labels", "least", "overlap", "ap_macro"),
        ("coherence", "Neighbourhoods more coherent", "all", "all", "knn_jaccard"),
    )
    for family, title in FAMILIES.items()
)


@dataclass(frozen=True)
class Comparison:
    """A claim on one archive (its title), and the difference that tests it.

    Attributes:
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

    Returns:
        One row a comparison: the attributes of its claim, dataset, comparison (in words), effect, low, high,
        p_value, n_seeds, n_scenes, p_holm, verdict, reason.
    """
    untested = Difference(np.nan, np.nan, np.nan, 0, 0, np.nan)
    rows = [
        {
            **asdict(comparison.claim),
            "dataset": comparison.dataset,
            "comparison": comparison.sides,
            **asdict(comparison.difference or untested),
        }
        for comparison in comparisons
    ]
    table = pd.DataFrame(rows).rename(columns={"value": "effect"})
    tested = table["p_value"].notna()
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p_value"].tolist())
    verdicts = [_verdict(row) for row in table.to_dict("records")]
    return table.assign(verdict=[v for v, _ in verdicts], reason=[reason for _, reason in verdicts])


def _verdict(row: Mapping[Hashable, Any]) -> tuple[Verdict, str]:
    """Return the verdict on a row of the table, and its reason."""
    count, p_holm = row["n_seeds"], row["p_holm"]
    if not np.isfinite(row["effect"]):
        return "undecided", row["comparison"]
    if count < LEAST_SEEDS:
        return "undecided", f"{count} seed{'s' * (count != 1)}; at least {LEAST_SEEDS} are needed"
    if p_holm < LEVEL:
        if row["effect"] > 0:
            return "supported", f"above zero, corrected p = {p_holm:.3g}"
        return "not supported", f"below zero, corrected p = {p_holm:.3g}"
    if row["high"] < RELEVANT:
        return "not supported", f"an advantage of {RELEVANT:g} or more is excluded"
    return "undecided", f"the interval holds both zero and {RELEVANT:g}; corrected p = {p_holm:.3g}"
