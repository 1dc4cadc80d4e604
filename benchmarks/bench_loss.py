"""How do time and memory of the label term grow with the number of views?

Usage: python benchmarks/bench_loss.py [--seconds 2] [--rounds 5] [--most 65536]

Forward and backward of the contrastive loss over views of 128 dimensions, weighed by the Jaccard index of 19
labels: in blocks, as the terms compute it, and all pairs at once. Memory is the peak above the inputs, in a
fresh process for each form and size: resident memory on a CPU, torch's allocations on a GPU.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import CUDA, NOT_MEASURED, over, parser, rates, ratio, row, save
from torch.nn.functional import normalize

from mosaic.datasets.simulation.landscape import draw_label_sets
from mosaic.losses import contrastive
from mosaic.losses.pairs import LabelledViews, label_pairs

DIM, VIEWS = 128, 4  # two views of two sensors
SIZES = [1024 * 2**i for i in range(7)]
SMALL, LARGE = 4096, 65536  # views: where the two forms are compared, and where memory is judged
MOST_GIB, MOST_SECONDS = 8, 1800  # that a call may take
LABEL = "jaccard over 19 labels"
BLOCKS, AT_ONCE = "ours, in blocks", "ours, all pairs at once"
DEVICE = "cuda" if CUDA else "cpu"
STATUS = Path("/proc/self/status")


def step(form: str, number: int, block: int | None = None) -> Callable[[], int]:
    """Return forward and backward over ``number`` prepared views, of a quarter as many scenes.

    In ``BLOCKS``, ``block`` pairs are in memory at once, by default as many as in the library.
    """
    z = normalize(torch.randn(number, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
    z = z.to(DEVICE).requires_grad_()
    sets = torch.from_numpy(draw_label_sets(number // VIEWS, np.random.default_rng(0)))
    scene = torch.arange(number // VIEWS, device=DEVICE).repeat(VIEWS)
    labels, labelled = sets.float().repeat(VIEWS, 1).to(DEVICE), torch.ones_like(scene, dtype=torch.bool)
    pairs = label_pairs(LabelledViews(z, labels, labelled, scene), "jaccard")
    name = f"{'GPU' if CUDA else 'CPU'}_BLOCK"
    block = number**2 if form == AT_ONCE else block or getattr(contrastive, name)

    def work() -> int:
        z.grad = None
        with patch.object(contrastive, name, block):
            contrastive.contrastive_loss(z, pairs, 0.1).backward()
        if CUDA:
            torch.cuda.synchronize()
        return number

    return work


def peak_bytes(reset: bool = False) -> int:
    """Return the most bytes in use so far, or since the last reset."""
    if CUDA:
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # see proc(5); Linux only
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(form: str, number: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return GiB of the first call, and seconds of it or of later ones; for a process of its own."""
    step(form, 256)()  # loads what it needs
    work = step(form, number)
    before = peak_bytes(reset=True)
    first = timeit(work, number=1)
    gib, times = max(0, peak_bytes() - before) / 2**30, []  # Linux counts in steps of some pages
    while first < 10 * args.seconds and len(times) < args.rounds and sum(times) < args.seconds:
        times.append(timeit(work, number=1))
    return {"gib": gib, "seconds": times or [first]}


def growth(form: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield rows of time and memory from small to large, up to what would pass a limit."""
    group = f"{LABEL}, {DEVICE}"
    for number in [size for size in SIZES if size <= args.most]:
        options = ["--seconds", str(args.seconds), "--rounds", str(args.rounds)]
        command = [sys.executable, __file__, *options, "--one", form, str(number)]
        measured = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        yield row(f"{group}: time", form, measured["seconds"], "s", ours=True, size=number)
        yield row(f"{group}: memory", form, measured["gib"], "GiB", ours=True, size=number)
        # twice as many views are four times the pairs
        if 4 * measured["gib"] > MOST_GIB or 4 * median(measured["seconds"]) > MOST_SECONDS:
            note = f"{NOT_MEASURED}: more than {MOST_GIB:g} GiB or {MOST_SECONDS:g} s"
            yield row(f"{group}: time", form, None, "s", ours=True, size=2 * number, note=note)
            return


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--most", type=int, default=LARGE, help="views")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), args)))
        return
    work = {form: step(form, SMALL, SMALL**2 // 8) for form in (AT_ONCE, BLOCKS)}
    side_by_side = rates(work, args.seconds, args.rounds)
    group = f"{LABEL}, {DEVICE}: {SMALL:,} views side by side"
    rows = [row(group, form, values, "views/s", ours=True) for form, values in side_by_side.items()]
    rows += [one for form in (BLOCKS, AT_ONCE) for one in growth(form, args)]
    memory = {one["size"]: one["value"] for one in rows if one["unit"] == "GiB" and one["name"] == BLOCKS}
    relative = over(side_by_side, AT_ONCE, BLOCKS)
    gib = memory.get(LARGE)
    save(
        "loss",
        "Time and memory of the label term, forward and backward, over the number of views.",
        rows,
        [
            ratio(f"time in blocks / all at once, {SMALL:,} views, {DEVICE}", relative, 1.3, at_most=True),
            ratio(f"GiB above the inputs, {LARGE:,} views, {DEVICE}", gib, 2, at_most=True),
        ],
        args.results,
        threads=torch.get_num_threads(),
        settings={"seconds": args.seconds, "rounds": args.rounds, "most": args.most},
    )


if __name__ == "__main__":
    main()
