"""How do time and memory of the contrastive loss grow with the number of views?

Usage: python benchmarks/bench_loss.py [--seconds 2] [--rounds 5] [--most 65536] [--device cpu cuda]

Forward and backward, views of 128 dimensions. Memory is the peak above the inputs, in a fresh process for
each candidate and size: resident memory on a CPU, torch's allocations on a GPU. "In blocks" is what the terms
use: where all pairs fit in one block, it is the plain form.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import NOT_MEASURED, device_suffix, parser, rates, ratio, row, save
from torch import Tensor
from torch.nn.functional import normalize

from mosaic.datasets.simulation.label_sets import draw_label_sets
from mosaic.losses import contrastive
from mosaic.losses.contrastive import CPU_BLOCK, contrastive_loss
from mosaic.losses.label_kernels import KERNELS, msc_weights
from mosaic.losses.pairs import LabelledViews, Pairs, instance_pairs
from mosaic.losses.pairs import label_pairs as pairs_by_label

STATUS = Path("/proc/self/status")
DIM, VIEWS, CLASSES = 128, 4, 19  # two views of two sensors
SIZES = [1024 * 2**i for i in range(7)]
BESIDE, LARGE = 4096, 65536  # views at which forms are timed side by side, and at which memory is judged
LABEL, INSTANCE, SINGLE = "jaccard over 19 labels", "views of a scene", "one label a scene"
OURS, PLAIN = "ours, in blocks", "ours, all pairs at once"
LIGHTLY, METRIC = "lightly NTXentLoss", "pytorch-metric-learning SupConLoss"
PACKAGES = {LIGHTLY: "lightly", METRIC: "pytorch-metric-learning"}
CONTRASTS = {LABEL: (OURS, PLAIN), INSTANCE: (OURS, PLAIN, LIGHTLY), SINGLE: (OURS, PLAIN, METRIC)}


def label_pairs(labels: Tensor, kernel: str = "jaccard") -> Pairs:
    """Pairs of a batch whose scenes all are labelled, (N, 19) from view after view, as in the label term."""
    number = len(labels)
    scene = torch.arange(number // VIEWS, device=labels.device).repeat(VIEWS)
    labelled = torch.ones(number, dtype=torch.bool, device=labels.device)
    return pairs_by_label(LabelledViews(labels, labels, labelled, scene), kernel)


@contextmanager
def blocks_of(block: int | None) -> Iterator[None]:
    """Let the loss hold at most so many pairs at once."""
    kept = contrastive.CPU_BLOCK, contrastive.GPU_BLOCK
    contrastive.CPU_BLOCK, contrastive.GPU_BLOCK = (block or size for size in kept)
    try:
        yield
    finally:
        contrastive.CPU_BLOCK, contrastive.GPU_BLOCK = kept


def drawn_labels(number: int, device: str) -> Tensor:
    sets = torch.from_numpy(draw_label_sets(number // VIEWS, np.random.default_rng(0)))
    return sets.float().repeat(VIEWS, 1).to(device)


def drawn_views(number: int, device: str) -> Tensor:
    drawn = torch.randn(number, DIM, generator=torch.Generator().manual_seed(0))
    return normalize(drawn, dim=1).to(device).requires_grad_()


def step(contrast: str, name: str, number: int, device: str, block: int | None = None) -> Callable[[], int]:
    """Return forward and backward over prepared inputs; it returns the number of views."""
    z, views = drawn_views(number, device), 2 if contrast == INSTANCE else VIEWS
    scene = torch.arange(number // views, device=device).repeat(views)
    labels = drawn_labels(number, device)
    single = labels.argmax(1)
    if name == LIGHTLY:
        from lightly.loss import NTXentLoss

        nt_xent = NTXentLoss(temperature=0.1)
        return _backward(z, lambda: nt_xent(*z.chunk(2)))
    if name == METRIC:
        from pytorch_metric_learning.losses import SupConLoss

        supcon = SupConLoss(temperature=0.1)
        return _backward(z, lambda: supcon(z, single))
    pairs = {
        LABEL: label_pairs(labels),
        INSTANCE: instance_pairs(scene),
        SINGLE: instance_pairs(single),
    }[contrast]
    block = number**2 if name == PLAIN else block

    def ours() -> Tensor:
        with blocks_of(block):
            return contrastive_loss(z, pairs, 0.1)

    return _backward(z, ours)


def _backward(z: Tensor, loss: Callable[[], Tensor]) -> Callable[[], int]:
    def work() -> int:
        z.grad = None
        loss().backward()
        if z.is_cuda:
            torch.cuda.synchronize()
        return len(z)

    return work


class Peak:
    """GiB in use at most since this was made, above what was in use then."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading and preparing
        self.before = self._bytes()

    def _bytes(self) -> int:
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        if STATUS.exists():  # Linux's ru_maxrss would count the process that started this one
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def gib(self) -> float:
        return max(0, self._bytes() - self.before) / 2**30  # Linux counts in steps of some pages


def measure(contrast: str, name: str, number: int, device: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return GiB of the first call, and seconds of it or of later ones; for a process of its own."""
    step(contrast, name, 256, device)()  # loads what it needs
    work = step(contrast, name, number, device)
    peak = Peak(device)
    first = _seconds(work)
    gib, times = peak.gib(), []
    while first < 10 * args.seconds and len(times) < args.rounds and sum(times) < args.seconds:
        times.append(_seconds(work))
    return {"gib": gib, "seconds": times or [first]}


def _seconds(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def growth(contrast: str, name: str, device: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield rows of time and memory from small to large, up to what would pass a limit."""
    ours, stop = name in (OURS, PLAIN), None
    package = PACKAGES.get(name)
    if package and not find_spec(package.replace("-", "_")):
        stop = f"{NOT_MEASURED}: pip install {package}"
    for number in [size for size in SIZES if size <= args.most]:
        if stop is None:
            options = ["--seconds", str(args.seconds), "--rounds", str(args.rounds)]
            command = [sys.executable, __file__, *options, "--one", contrast, name, str(number), device]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip() or "a signal").splitlines()[-1]
                stop = f"{NOT_MEASURED}: it failed with {last[:200]}"
        if stop is not None:
            more = {"ours": ours, "size": number, "note": stop}
            yield row(f"{contrast}, {device}: time", name, None, "s", **more)
            return
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{contrast:24} {name:36} {number:6} views {found}", flush=True)
        yield row(f"{contrast}, {device}: time", name, found["seconds"], "s", ours, size=number)
        yield row(f"{contrast}, {device}: memory", name, found["gib"], "GiB", ours, size=number)
        stop = over_limit(found, args)


def over_limit(found: dict[str, Any], args: argparse.Namespace) -> str | None:
    """Say which limit twice as many views, four times the pairs, would pass."""
    limits = (4 * found["gib"], args.memory, "GiB"), (4 * median(found["seconds"]), args.limit, "s")
    over = [f"{value:.0f} {unit} (limit: {limit:g})" for value, limit, unit in limits if value > limit]
    return f"{NOT_MEASURED}: it would take about {' and '.join(over)}" if over else None


def side_by_side(device: str, args: argparse.Namespace) -> tuple[list[dict[str, Any]], float | None]:
    """Time both forms in alternating rounds of one process, the one in eight blocks on any device."""
    group = f"{LABEL}, {device}: {BESIDE:,} views side by side"
    work = {name: step(LABEL, name, BESIDE, device, BESIDE**2 // 8) for name in (PLAIN, OURS)}
    found = rates(work, args.seconds, args.rounds)
    rows = [row(group, name, values, "views/s", ours=True) for name, values in found.items()]
    return rows, median(found[PLAIN]) / median(found[OURS])


def blocks(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time blocks of several sizes on the CPU, for few anchors among many candidates: each costs the same."""
    z, pairs = drawn_views(LARGE, "cpu"), label_pairs(drawn_labels(LARGE, "cpu"))

    def work(block: int) -> Callable[[], int]:
        def run() -> int:
            with blocks_of(block):
                contrastive_loss(z[:128], pairs, 0.1, z).backward()
            return 128

        return run

    sizes = [CPU_BLOCK * 4**i // 16 for i in range(5)]
    found = rates({f"{size:,} pairs": work(size) for size in sizes}, args.seconds, args.rounds)
    group = f"{LABEL}, cpu: size of a block, {LARGE:,} candidates"
    return [row(group, name, values, "anchors/s", ours=True) for name, values in found.items()]


def exactness() -> float:
    """Return the largest difference between gradients of both forms, relative to the largest gradient."""
    z, labels = drawn_views(1024, "cpu").detach().double(), drawn_labels(1024, "cpu").double()
    prototypes = drawn_views(CLASSES, "cpu").detach().double()
    cases: list[tuple[Tensor, Pairs]] = [(z, label_pairs(labels, kernel)) for kernel in KERNELS]
    cases.append((torch.cat([z, prototypes]), lambda rows: (msc_weights(labels[rows], labels), None)))
    worst = 0.0
    for candidates, pairs in cases:
        found = []
        for block in (len(z) * len(candidates), 100_000):
            leaves = z.clone().requires_grad_(), candidates.clone().requires_grad_()
            with blocks_of(block):
                loss = contrastive_loss(leaves[0], pairs, 0.1, leaves[1])
            found.append(torch.autograd.grad(loss, leaves))
        differences = [(a - b).abs().max() / a.abs().max() for a, b in zip(*found, strict=True)]
        worst = max(worst, *map(float, differences))
    return worst


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--device", nargs="+", choices=["cpu", "cuda"], default=["cpu", "cuda"])
    made.add_argument("--most", type=int, default=LARGE, help="views")
    made.add_argument("--memory", type=float, default=8.0, help="GiB a candidate may take")
    made.add_argument("--limit", type=float, default=1800.0, help="seconds a forward and backward may take")
    made.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = made.parse_args()
    if args.one:
        contrast, name, number, device = args.one
        print(json.dumps(measure(contrast, name, int(number), device, args)))
        return
    rows, ratios = blocks(args) if "cpu" in args.device else [], []
    for device in args.device:
        relative = None
        if device == "cuda" and not torch.cuda.is_available():
            rows += [row(f"{what}, cuda", OURS, None, "s", ours=True) for what in CONTRASTS]
        else:
            beside, relative = side_by_side(device, args)
            rows += beside
            for contrast, names in CONTRASTS.items():
                rows += [one for name in names for one in growth(contrast, name, device, args)]
        ours = (f"{LABEL}, {device}: memory", OURS)
        memory = {one["size"]: one["value"] for one in rows if (one["group"], one["name"]) == ours}
        ratios += [
            ratio(f"time in blocks / all at once, {BESIDE:,} views, {device}", relative, 1.3, at_most=True),
            ratio(f"GiB above the inputs, {LARGE:,} views, {device}", memory.get(LARGE), 2, at_most=True),
        ]
    exact = "largest difference of gradients / largest gradient, all kernels, float64"
    ratios.append(ratio(exact, exactness(), 1e-12, at_most=True))
    limits = {"limits": {"gib": args.memory, "seconds": args.limit}, "threads": torch.get_num_threads()}
    limits |= {"settings": {"seconds": args.seconds, "rounds": args.rounds, "most": args.most}}
    title = "Time and memory of the contrastive loss, forward and backward, over the number of views."
    packages = [package for package in PACKAGES.values() if find_spec(package.replace("-", "_"))]
    save("loss" + device_suffix(), title, rows, ratios, args.results, packages, **limits)


if __name__ == "__main__":
    main()
