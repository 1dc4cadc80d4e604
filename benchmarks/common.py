"""Alternating rounds of the candidates, the archive they read, and one form of result for every benchmark.

Speeds of one machine change from minute to minute, so candidates are measured in turns within one process and
compared by the median of the rounds. A result says on what it was measured; what could not be measured has no
number.
"""

import argparse
import datetime
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

from mosaic.report.provenance import commit
from mosaic.utils.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"
BEFORE = RESULTS / "before"  # of earlier commits, kept for comparison
DATA = Path(__file__).parents[1] / "data" / "cache" / "benchmarks"
NOT_MEASURED = "not measured"
CUDA = torch.cuda.is_available()
Result = Mapping[str, Any]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark has."""
    options = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    options.add_argument("--seconds", type=float, default=2.0, help="per candidate and round")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON results")
    return options


def simulated(patches: int) -> Any:
    """Return a simulated archive in the layout of BigEarthNet v2, written at the first call."""
    from mosaic.datasets.registry import open_archive, simulate_archive  # loads TorchGeo, which takes seconds

    folder = simulate_archive("bigearthnet", DATA / f"bigearthnet-{patches}", patches, 0)
    return open_archive("bigearthnet", folder)


def torchgeo_pairs(root: Path) -> Any:
    """Return TorchGeo's own dataset, with the pairs of all splits."""
    from torch.utils.data import ConcatDataset
    from torchgeo.datasets import BigEarthNetV2

    splits = ("train", "val", "test")
    return ConcatDataset([BigEarthNetV2(root, split=split, bands="all") for split in splits])


def rates(candidates: Mapping[str, Callable[[], int]], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Measure how many items a second each candidate delivers: name -> one rate per round.

    A candidate does some work and returns how many items it did; in every round each takes at least
    ``seconds``, in turns. A first call of each is not counted.
    """
    for work in candidates.values():
        work()
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            done, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < seconds:
                done += work()
            measured[name].append(done / passed)
    return measured


def row(
    group: str, name: str, values: Sequence[float] | float | None, unit: str, ours: bool = False, **more: Any
) -> dict[str, Any]:
    """Return one row of a result: ``name`` among the candidates of its ``group``.

    ``values`` are one per round, a single number, or None for what was not measured.
    """
    each = [values] if isinstance(values, int | float) else list(values or [])
    spread = {"value": median(each), "low": min(each), "high": max(each)} if each else {}
    empty = {"value": None, "low": None, "high": None, "note": NOT_MEASURED}
    return {"group": group, "name": name, "unit": unit, "ours": ours, **(spread or empty), **more}


def ratio(what: str, value: float | None, target: float | None, at_most: bool = False) -> dict[str, Any]:
    """Return one comparison and its target, the least or the most it should be."""
    known = value is not None and target is not None
    reached = (value <= target if at_most else value >= target) if known else None
    return {"what": what, "value": value, "target": target, "at_most": at_most, "reached": reached}


def over(measured: Mapping[str, Sequence[float]], name: str, other: str) -> float | None:
    """Return the ratio of two medians; None where one was not measured."""
    both = measured.get(name) and measured.get(other)
    return median(measured[name]) / median(measured[other]) if both else None


def machine() -> dict[str, Any]:
    """Return what the numbers are measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpus = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": cpus[0] if cpus else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def save(
    name: str,
    title: str,
    rows: Sequence[Result],
    ratios: Sequence[Result],
    folder: Path,
    packages: Sequence[str] = (),
    **more: Any,
) -> None:
    """Write a result to ``<folder>/<name>.json`` and print it; on a GPU to ``<name>-cuda.json``.

    ``packages`` are those whose versions matter, besides Python, NumPy and torch.
    """
    name += "-cuda" if torch.cuda.is_available() else ""
    content = {
        "name": name,
        "title": title,
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in ("numpy", "torch", *packages)},
        **more,
        "rows": list(rows),
        "ratios": list(ratios),
    }
    write_json(folder / f"{name}.json", content)
    for table, columns in ((rows, ["group", "name", "value", "unit"]), (ratios, ["what", "value", "target"])):
        print(pd.DataFrame(table, columns=columns).to_string(index=False))


def load_all(folder: str | Path) -> dict[str, Result]:
    """Return name -> result of every JSON file in a folder, by name; none where nothing was measured."""
    paths = sorted(Path(folder).glob("*.json"))
    return {content["name"]: content for content in map(read_json, paths)}


def machine_title(result: Result) -> str:
    """Return what a result was measured on, for captions."""
    about = result["machine"]
    return f"{about['cpu']}, {about['cores']} cores" + (f", {about['gpu']}" if about["gpu"] else "")


def target_table(results: Mapping[str, Result]) -> pd.DataFrame:
    """Return every comparison that has a target: benchmark, comparison, measured, target, reached."""
    reached = {True: "yes", False: "no", None: NOT_MEASURED}
    rows = []
    for name, one in [(name, one) for name, result in results.items() for one in result["ratios"]]:
        if one["target"] is not None:
            target = f"{'at most' if one['at_most'] else 'at least'} {one['target']:g}"
            rows.append((name, one["what"], _short(one["value"]), target, reached[one["reached"]]))
    return pd.DataFrame(rows, columns=["benchmark", "comparison", "measured", "target", "reached"])


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def told(row: Result) -> str:
    """Return the median of a row with its spread over the rounds and its unit."""
    if row["value"] is None:
        return str(row.get("note", NOT_MEASURED))
    low, high = _short(row["low"]), _short(row["high"])
    return f"{_short(row['value'])} [{low}, {high}] {row['unit']}"


def rows_table(result: Result) -> pd.DataFrame:
    """Return every row of a result, with its median and spread."""
    rows = [
        (one["group"], one["name"] + (f", {one['size']:,} views" if "size" in one else ""), told(one))
        for one in result["rows"]
    ]
    return pd.DataFrame(rows, columns=["group", "candidate", "median [least, most]"])


def before_table(before: Result, now: Result) -> pd.DataFrame:
    """Return what an earlier result measured and compared, beside what this one did under the same name."""

    def found(result: Result) -> dict[tuple[str, str], str]:
        rows = {(one["group"], one["name"]): told(one) for one in result["rows"]}
        compared = {one["what"].split(", resnet50")[0]: _short(one["value"]) for one in result["ratios"]}
        return rows | {("comparison", what): value for what, value in compared.items()}

    then, present = found(before), found(now)
    rows = [(*key, value, present.get(key, NOT_MEASURED)) for key, value in then.items()]
    return pd.DataFrame(rows, columns=["group", "candidate", f"before: commit {before['commit']}", "now"])


def how(result: Result) -> str:
    """Return the command, device, commit and day of a result."""
    where = f"{machine_title(result)}, commit {result['commit'] or 'not recorded'}, {result['measured'][:10]}"
    return f"`{result['command']}` on {where}"


def show(results: Mapping[str, Result], name: str) -> None:
    """Show one result in a notebook, and that of a GPU if there is one: figure, comparisons, notes."""
    import figures

    from mosaic.report import display

    if f"{name}-cuda" in results:
        show(results, f"{name}-cuda")
    if name not in results:
        display.table(pd.DataFrame(), f"Not measured: run `python benchmarks/bench_{name}.py`.")
        return
    result = results[name]
    sizes = [row for row in result["rows"] if "size" in row]
    plain = [row for row in result["rows"] if "size" not in row]
    if sizes:
        curves = figures.growth_curves(sizes, "size", "views")
        display.figure(curves, result["title"], "Lines over size, one panel a group.")
    if plain:
        caption = f"{result['title']} Dots are medians of the rounds, lines span least and most."
        display.figure(figures.rate_dots(plain), caption, "Dots on a logarithmic axis, one panel a group.")
    display.table(rows_table(result), f"What was compared: {how(result)}.")
    ratios = [{"comparison": one["what"], "ratio": _short(one["value"])} for one in result["ratios"]]
    display.table(pd.DataFrame(ratios), f"Comparisons of the {name} benchmark, within its one run.")
    before = load_all(BEFORE).get(name)
    if before is not None:
        titles = f"Before: {before['title']} Now: {result['title']}"
        caption = (
            f"Before and now, of runs of different sizes, so that ratios compare and rates do not. {titles} "
        )
        display.table(
            before_table(before, result), f"{caption}Before by {how(before)}; now by {how(result)}."
        )
