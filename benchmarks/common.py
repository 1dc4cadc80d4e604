"""What the benchmarks share: rounds that alternate between the candidates, and one form of result.

Speeds of one machine change from minute to minute, so candidates are measured in turns within one process and
compared by the median of the rounds. A result says on what it was measured; what could not be measured stands
there without a number.
"""

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from mosaic.report.provenance import commit
from mosaic.utils.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"
NOT_MEASURED = "not measured"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser that every benchmark has: how long to measure, and where the result goes."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--seconds", type=float, default=2.0, help="per candidate and round")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON results")
    return made


def rates(candidates: Mapping[str, Callable[[], int]], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Measure how many items a second each candidate delivers, in alternating rounds.

    Args:
        candidates: name -> function that does some work and returns how many items it did.
        seconds: least duration of a candidate in a round.
        rounds: number of rounds; a first call of each is not counted.

    Returns:
        Name -> one rate a round.
    """
    for work in candidates.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            done, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < seconds:
                done += work()
            found[name].append(done / passed)
    return found


def row(
    group: str, name: str, values: Sequence[float] | float | None, unit: str, ours: bool = False, **more: Any
) -> dict[str, Any]:
    """Return one row of a result.

    Args:
        group: what it is compared within.
        name: the candidate.
        values: one a round, a single number, or None for what was not measured.
        unit: of the values.
        ours: whether the candidate is this project's.
        **more: further facts, such as ``note``.
    """
    each = [values] if isinstance(values, int | float) else list(values or [])
    spread = {"value": median(each), "low": min(each), "high": max(each)} if each else {}
    empty = {"value": None, "low": None, "high": None, "note": NOT_MEASURED}
    return {"group": group, "name": name, "unit": unit, "ours": ours, **(spread or empty), **more}


def ratio(
    what: str, value: float | None, target: float | None = None, at_most: bool = False
) -> dict[str, Any]:
    """Return one comparison with what was to be reached: at least ``target``, or at most."""
    reached = None
    if value is not None and target is not None:
        reached = value <= target if at_most else value >= target
    return {"what": what, "value": value, "target": target, "at_most": at_most, "reached": reached}


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    import torch

    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) / 1e6 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory[0], 1) if memory else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def device_suffix() -> str:
    """Return what the name of a result ends with, so that one of a GPU stands beside that of a CPU."""
    import torch

    return "-cuda" if torch.cuda.is_available() else ""


def save(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    ratios: Sequence[Mapping[str, Any]],
    folder: Path,
    packages: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Write a result to ``<folder>/<name>.json`` and print it.

    Args:
        name: of the benchmark.
        title: what it asks.
        rows: of :func:`row`.
        ratios: of :func:`ratio`.
        folder: where to.
        packages: whose versions matter, besides Python, NumPy and torch.
        **more: settings and further facts.
    """
    content = {
        "name": name,
        "title": title,
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in ("numpy", "torch", *packages)},
        **more,
        "rows": list(rows),
        "ratios": list(ratios),
    }
    path = folder / f"{name}.json"
    write_json(path, content)
    for one in rows:
        value = NOT_MEASURED if one["value"] is None else f"{one['value']:12,.4g} {one['unit']}"
        print(f"{one['group']:28} {one['name']:48} {value}")
    for one in ratios:
        value = NOT_MEASURED if one["value"] is None else f"{one['value']:,.3g}"
        sign = "<=" if one["at_most"] else ">="
        wanted = "" if one["target"] is None else f" (to reach: {sign} {one['target']:g})"
        print(f"{one['what']}: {value}{wanted}")
    print(path)
    return path


# --------------------------------------------------------------------------------------- the report


def load_all(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return name -> result of every JSON file in a folder, by name; none where nothing was measured."""
    paths = sorted(Path(folder).glob("*.json"))
    return {content["name"]: content for content in map(read_json, paths)}


def device_words(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the results were measured on, in words."""
    machines = dict.fromkeys(_machine_words(one["machine"]) for one in measured.values())
    return "; ".join(machines) or NOT_MEASURED


def _machine_words(machine: Mapping[str, Any]) -> str:
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return f"{machine['cpu']}, {machine['cores']} cores{gpu}"


def target_table(measured: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return every comparison that has a target: benchmark, comparison, measured, to reach, reached."""
    words = {True: "yes", False: "no", None: NOT_MEASURED}
    rows = [
        {
            "benchmark": name,
            "comparison": one["what"],
            "measured": _short(one["value"]),
            "to reach": f"{'at most' if one['at_most'] else 'at least'} {one['target']:g}",
            "reached": words[one["reached"]],
        }
        for name, result in measured.items()
        for one in result["ratios"]
        if one["target"] is not None
    ]
    return pd.DataFrame(rows, columns=["benchmark", "comparison", "measured", "to reach", "reached"])


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}"


def show(measured: Mapping[str, Mapping[str, Any]], name: str, figures: Any) -> None:
    """Show one result in a notebook, and that of a GPU if there is one: figure, ratios, notes."""
    from mosaic.report import display

    if f"{name}-cuda" in measured:
        show(measured, f"{name}-cuda", figures)
    if name not in measured:
        display.table(pd.DataFrame(), f"Not measured: run `python benchmarks/bench_{name}.py`.")
        return
    result = measured[name]
    sizes = [row for row in result["rows"] if "size" in row]
    plain = [row for row in result["rows"] if "size" not in row]
    about = f"{_machine_words(result['machine'])}; {result['measured'][:10]}."
    if sizes:
        display.figure(
            figures.growth_curves(sizes, "size", "views"),
            f"{result['title']} {about}",
            "Lines over size, one panel a group.",
        )
    if plain:
        display.figure(
            figures.rate_dots(plain),
            f"{result['title']} Dots are medians of the rounds, lines span least and most. {about}",
            "Dots on a logarithmic axis, one panel a group.",
        )
    ratios = [{"comparison": one["what"], "ratio": _short(one["value"])} for one in result["ratios"]]
    display.table(pd.DataFrame(ratios), f"Comparisons of the {name} benchmark, within its one run.")
    notes = pd.DataFrame(
        [
            {"row": f"{row['group']}: {row['name']}", "note": row["note"]}
            for row in result["rows"]
            if "note" in row
        ]
    )
    if len(notes):
        display.table(notes, f"Notes on the {name} benchmark.")
