"""Write scaling.md: what pretraining costs on 1, 8 and 64 devices, and which term breaks first.

Usage: python benchmarks/scaling.py [--results benchmarks/results]

Counts (parameters, FLOPs, bytes) are taken from the code; rates from the results of bench_step.py,
bench_loss.py and bench_packing.py. Run those first.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bench_loss import LABEL, OURS, VIEWS
from common import RESULTS, load_all
from jinja2 import StrictUndefined, Template
from simulated import OFFICIAL
from torch.utils.flop_counter import FlopCounterMode

from mosaic.methods import get_method
from mosaic.models.encoders import Encoder
from mosaic.models.heads import Heads
from mosaic.utils.files import write_text

PLACE = Path(__file__).with_name("scaling.md")
TEMPLATE = Path(__file__).with_name("scaling.md.j2")
DEVICES = (1, 8, 64)
DIM, LABELS, EPOCHS = 128, 19, 100
#: Batch of one device, scenes; side of a view, pixels; the encoder of each sensor; its bands.
SCENES, PIXELS, ENCODER, BANDS = 1024, 120, "resnet50", (2, 12)
#: Scenes -> pairs of archives to project to.
ARCHIVES = {"BigEarthNet v2": OFFICIAL["bigearthnet"], "10 million": 10_000_000, "100 million": 100_000_000}
LINK = 25e9  # bytes/s between devices, assumed: 200 Gbit/s
WIDE = 4  # bytes of a float
#: Entries of similarity matrices, in units of B^2 scenes: intra 2 (2B)^2, inter 2 (2B)^2, label (4B)^2.
PAIRS = 2 * 2**2 + 2 * 2**2 + 4**2
#: Similarity and both gradients, 2 D each, and intersections of label sets.
FLOPS_A_PAIR = 3 * 2 * DIM + 2 * LABELS
#: Projections that are gathered: three heads, two sensors, two views.
PROJECTIONS = 3 * 2 * 2
RATE = 1000  # scenes/s of one device, to multiply by, where no GPU was measured


def counted() -> tuple[int, float]:
    """Return the parameters of MoSAiC's encoders and heads, and FLOPs a scene of forward and backward."""
    method = get_method("mosaic")
    channels = dict(zip(method.streams, BANDS, strict=True))
    encoder = Encoder(ENCODER, channels, PIXELS)
    heads = Heads(method, encoder.feature_dims, LABELS, DIM)
    parameters = sum(p.numel() for module in (encoder, heads) for p in module.parameters())
    images = {name: torch.randn(4, bands, PIXELS, PIXELS) for name, bands in channels.items()}
    with FlopCounterMode(display=False) as counter:
        sum(feature.sum() for feature in encoder(images).values()).backward()
    return parameters, counter.get_total_flops() / 2  # four images a sensor are two scenes of two views


def exchanged(devices: int, parameters: int) -> tuple[float, float]:
    """Return bytes a step that each device receives: of gradients (ring all-reduce), of projections."""
    others = (devices - 1) / devices
    batch = SCENES * devices
    # forward and, for the gradients, backward again; labels and the mask ride along forward
    return 2 * others * WIDE * parameters, others * batch * WIDE * (2 * PROJECTIONS * DIM + LABELS + 1)


def measured_rates(found: Mapping[str, Any]) -> tuple[float, float, int]:
    """Return scenes/s of a whole training step, pairs/s of the label term, and over how many views."""
    (step,) = [r["value"] for r in found["step"]["rows"] if r["name"] == "MoSAiC, data to optimiser"]
    device = "cuda" if found["loss"]["machine"]["gpu"] else "cpu"
    times = {
        r["size"]: r["value"]
        for r in found["loss"]["rows"]
        if r["group"] == f"{LABEL}, {device}: time" and r["name"] == OURS and r["value"]
    }
    largest = max(times)
    return step, largest**2 / times[largest], largest


def of_a_gpu(found: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return scenes/s and GiB at most of a whole step on a GPU; None where none was measured."""
    rows = found.get("step-cuda", {"rows": []})["rows"]
    (whole,) = [r for r in rows if r["name"] == "MoSAiC, data to optimiser"] or [{}]
    return whole.get("value"), whole.get("peak_gib")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def document(found: Mapping[str, Any]) -> str:
    """Return scaling.md."""
    parameters, flops = counted()
    rate, pairs, views = measured_rates(found)
    step, loss = found["step"], found["loss"]
    given, peak = of_a_gpu(found)
    machine = step["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores" + (f", {machine['gpu']}" if machine["gpu"] else "")
    record = next(r["value"] for r in found["packing"]["rows"] if r["name"] == "mosaic, packed")
    small = step["title"].removeprefix("A training step on a ").split(";")[0]
    batch = int(small.split(" scenes")[0].split()[-1])

    work = []
    for devices in DEVICES:
        anchors = PAIRS * (SCENES * devices) ** 2
        own, whole = (FLOPS_A_PAIR * n / SCENES / flops for n in (anchors / devices, anchors))
        gradients, projections = exchanged(devices, parameters)
        held = SCENES * devices * WIDE * PROJECTIONS * DIM
        work.append(
            [
                f"{devices}",
                f"{SCENES * devices:,}",
                f"{own:.1%}",
                f"{whole:.1%}",
                f"{gradients / 1e6:,.0f}",
                f"{projections / 1e6:,.0f}",
                f"{(gradients + projections) / LINK * 1e3:,.0f}",
                f"{held / 2**20:,.0f}",
                f"{WIDE * (VIEWS * SCENES * devices) ** 2 / 2**30:,.2f}",
            ]
        )
    hours = []
    for name, number in ARCHIVES.items():
        cells = []
        for devices in DEVICES:
            seconds = number * EPOCHS / (given or RATE) / devices
            extra = FLOPS_A_PAIR * PAIRS * SCENES * (devices - 1) / flops  # more for the loss than alone
            seconds *= 1 + extra
            seconds += number * EPOCHS / (SCENES * devices) * sum(exchanged(devices, parameters)) / LINK
            cells.append(f"{seconds / 3600:,.1f}")
        hours.append([name, f"{number:,}", f"{number * record / 1e9:,.0f}", *cells])
    here = []
    for devices in DEVICES:
        together = batch * devices
        encode = batch / rate
        own, whole = (PAIRS * n / pairs for n in ((together**2 - batch**2 * devices) / devices, together**2))
        here.append([f"{devices}", f"{together:,}", f"{encode:.2f}", f"{own:.2f}", f"{whole:.2f}"])

    work_header = [
        "W",
        "B",
        "loss / encoders, FLOPs, shared",
        "not shared",
        "gradients, MB a step",
        "projections, MB a step",
        "ms a step",
        "gathered projections, MiB",
        "one matrix of all pairs, GiB",
    ]
    here_header = ["W", "B", "step alone", "more for the loss, shared", "the loss, not shared"]
    most = SCENES * DEVICES[-1]
    text = TEMPLATE.read_text(encoding="utf-8")
    return Template(text, undefined=StrictUndefined, keep_trailing_newline=True).render(
        gpu=given is not None,
        peak=f"{peak:.1f}" if peak else "",
        where=where,
        scenes=f"{SCENES:,}",
        encoder=ENCODER,
        pixels=PIXELS,
        bands=BANDS,
        millions=f"{parameters / 1e6:.1f}",
        gflop=f"{flops / 1e9:.1f}",
        pairs=PAIRS,
        flops_a_pair=FLOPS_A_PAIR,
        projections=PROJECTIONS,
        dim=DIM,
        labels=LABELS + 1,
        link=f"{LINK / 1e9:g}",
        work=table(work_header, work),
        devices=DEVICES[-1],
        times=f"{FLOPS_A_PAIR * PAIRS * most**2 / SCENES / flops:.1f}",
        matrix=f"{WIDE * (VIEWS * most) ** 2 / 2**30:,.0f}",
        step=small,
        rate=f"{rate:,.1f}",
        views=f"{views:,}",
        pair_rate=f"{pairs / 1e6:,.0f}",
        threads=loss["threads"],
        batch=batch,
        here=table(here_header, here),
        epochs=EPOCHS,
        given=f"{given or RATE:,.0f}",
        record=f"{record:,.0f}",
        hours=table(["archive", "pairs", "packed, GB", *(f"hours, W = {n}" for n in DEVICES)], hours),
        state=f"{16 * parameters / 2**30:.2f}",
        reading=f"{(given or RATE) * record / 1e6:,.0f}",
    )


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--results", type=Path, default=RESULTS)
    made.add_argument("--to", type=Path, default=PLACE)
    args = made.parse_args()
    found = load_all(args.results)
    lacking = [name for name in ("step", "loss", "packing") if name not in found]
    if lacking:
        sys.exit(f"no results in {args.results}: run benchmarks/bench_{', bench_'.join(lacking)} first")
    write_text(args.to, document(found))
    print(args.to)


if __name__ == "__main__":
    main()
