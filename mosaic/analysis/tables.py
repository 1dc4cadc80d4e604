"""What the tables of all notebooks share: methods by title and in order, intervals in one cell."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mosaic.methods import METHODS, get_method

EVALUATIONS = {
    "knn": "k nearest neighbours",
    "linear": "linear probe",
    "finetune": "fine-tuning",
    "end_to_end": "end to end",
}


def input_title(name: str) -> str:
    """Return the title of an input, such as ``"s1"``, ``"fused"`` or ``"fused_without_s1"``."""
    if name == "fused":
        return "all sensors"
    missing = name.removeprefix("fused_without_")
    return missing.upper() if missing == name else f"without {missing.upper()}"


def input_order(name: str) -> tuple[bool, str]:
    """Return the sort key of an input: single sensors, then all, then all but one."""
    return name.startswith("fused"), name


def titled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with methods by their titles."""
    return frame.assign(method=[get_method(str(name)).title for name in frame["method"]])


def in_order(frame: pd.DataFrame, *further: str) -> pd.DataFrame:
    """Sort rows as the table of methods does, then by further columns; rows that tie stay in their order."""
    keyed = frame.assign(_row=frame["method"].map(list(METHODS).index))
    return keyed.sort_values(["_row", *further], kind="stable", ignore_index=True).drop(columns="_row")


def intervals(frame: pd.DataFrame, value: str = "value") -> pd.Series:
    """Return (value, low, high) of each row, which ``report.display.table`` shows as one number."""
    cells: list[Any] = list(zip(frame[value], frame["low"], frame["high"], strict=True))
    return pd.Series(cells, index=frame.index, dtype=object)


def readable(frame: pd.DataFrame, titles: Mapping[str, str], value: str = "value") -> pd.DataFrame:
    """Return columns under the titles of a report: methods by title, ``value`` with its interval."""
    named = titled(frame) if "method" in titles else frame
    named = named.assign(**{value: intervals(frame, value)})
    return named[list(titles)].rename(columns=dict(titles)).reset_index(drop=True)


def pivot_intervals(
    frame: pd.DataFrame, rows: Sequence[str], column: str, columns: Iterable[str]
) -> pd.DataFrame:
    """Return intervals with one row a combination of ``rows``, and one column a value of ``column``.

    Rows stand in the order they appear in ``frame``, columns in the order of ``columns``; gaps are NaN.
    """
    cells = frame.assign(cell=intervals(frame))
    table = cells.pivot(index=list(rows), columns=column, values="cell").reindex(columns=list(columns))
    order = frame[list(rows)].drop_duplicates()
    return order.join(table, on=list(rows)).reset_index(drop=True).rename_axis(columns=None)
