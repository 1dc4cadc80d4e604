"""What a method cost beside what it reached."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.analysis.compare import FinishedRun, compared_rows
from mosaic.analysis.results import common_rows
from mosaic.methods import get_method
from mosaic.utils.files import read_json


def cost_table(one: FinishedRun) -> pd.DataFrame:
    """Return what a method cost beside what it reached, at all labels.

    Returns:
        One row a method: method (key), parameters (of the encoder), trained (parameters that were trained),
        steps, minutes and memory_mb (means over encoders of all labels, or none), value, low, high (macro
        average precision), device and seeds.
    """
    rows = compared_rows(one).query("metric == 'ap_macro'")
    best = common_rows(rows, max(one.fractions)).to_dict("records")
    scores: dict[str, dict[Any, Any]] = {row["method"]: row for row in best}
    found = []
    for method, trials in one.trials[one.trials["budget"].isin([0.0, 100.0])].groupby("method", sort=False):
        if method not in scores:
            continue
        cards = [read_json(Path(folder) / "card.json") for folder in trials["folder"]]
        trained = get_method(str(method)).trained
        found.append(
            {
                "method": str(method),
                "parameters": cards[0]["parameters"]["encoder"],
                "trained": cards[0]["parameters"]["trained"] if trained else 0,
                "steps": cards[0]["config"]["steps"] if trained else 0,
                "minutes": float(np.mean([card["timing"]["seconds"] for card in cards])) / 60,
                "memory_mb": float(np.mean([card["timing"]["peak_memory_mb"] for card in cards])),
                "device": cards[0]["timing"]["device"],
                "seeds": one.seeds(str(method)),
                **{part: scores[str(method)][part] for part in ("value", "low", "high")},
            }
        )
    return pd.DataFrame(found)


def readable_costs(table: pd.DataFrame) -> pd.DataFrame:
    """Return costs as readers see them."""
    return pd.DataFrame(
        {
            "method": [get_method(name).title for name in table["method"]],
            "seeds": table["seeds"],
            "macro AP": list(zip(table["value"], table["low"], table["high"], strict=True)),
            "encoder, million": table["parameters"] / 1e6,
            "trained, million": table["trained"] / 1e6,
            "steps": table["steps"],
            "minutes": table["minutes"],
            "memory, MiB": table["memory_mb"],
        }
    )
