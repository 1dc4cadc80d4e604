"""Write scaling.md: what pretraining costs on 1, 8 and 64 devices, and which term breaks first.

Usage: python benchmarks/scaling.py

Counts (parameters, FLOPs, bytes) are taken from the code; rates from the results of bench_step.py,
bench_loss.py and bench_packing.py. Run those first.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from bench_loss import BLOCKS, LABEL, VIEWS
from bench_step import WHOLE
from common import RESULTS, Result, load_all, machine_title
from jinja2 import StrictUndefined, Template
from torch.utils.flop_counter import FlopCounterMode

from mosaic.methods import get_method
from mosaic.models.encoders import Encoder
from mosaic.models.heads import Heads
from mosaic.utils.files import write_text

TARGET = Path(__file__).with_name("scaling.md")
TEMPLATE = Path(__file__).with_name("scaling.md.j2")
DEVICES = (1, 8, 64)
DIM, LABELS, EPOCHS = 128, 19, 100
#: Batch of one device, scenes; side of a view, pixels; the encoder of each sensor; its bands.
SCENES, PIXELS, ENCODER, BANDS = 1024, 120, "resnet50", {"s1": 2, "s2": 12}
#: Archive -> pairs.
ARCHIVES = {"BigEarthNet v2": 480_038, "10 million": 10_000_000, "100 million": 100_000_000}
LINK = 25e9  # bytes/s between devices, assumed: 200 Gbit/s
FLOAT = 4  # bytes
#: Entries of similarity matrices, in units of B^2 scenes: intra 2 (2B)^2, inter 2 (2B)^2, label (4B)^2.
PAIRS = 2 * 2**2 + 2 * 2**2 + 4**2
#: Similarity and both gradients, 2 D each, and intersections of label sets.
FLOPS_A_PAIR = 3 * 2 * DIM + 2 * LABELS
#: Projections that are gathered: three heads, two sensors, two views.
PROJECTIONS = 3 * 2 * 2
RATE = 1000  # scenes/s of one device, to multiply by, where no GPU was measured


def counted() -> tuple[int, float]:
    """Return the parameters of MoSAiC's encoders and heads, and FLOPs a scene of forward and backward."""
    encoder = Encoder(ENCODER, BANDS, PIXELS)
    heads = Heads(get_method("mosaic"), encoder.feature_dims, DIM)
    parameters = sum(p.numel() for module in (encoder, heads) for p in module.parameters())
    images = {name: torch.randn(4, bands, PIXELS, PIXELS) for name, bands in BANDS.items()}
    with FlopCounterMode(display=False) as counter:
        sum(feature.sum() for feature in encoder(images).values()).backward()
    return parameters, counter.get_total_flops() / 2  # four images a sensor are two scenes of two views


def exchanged(devices: int, parameters: int) -> tuple[float, float]:
    """Return bytes a step that each device receives: of gradients (ring all-reduce), of projections."""
    others = (devices - 1) / devices
    batch = SCENES * devices
    # forward and, for the gradients, backward again; labels and the mask are gathered forward only
    return 2 * others * FLOAT * parameters, others * batch * FLOAT * (2 * PROJECTIONS * DIM + LABELS + 1)


def measured_rates(results: Mapping[str, Result]) -> tuple[float, float, int]:
    """Return scenes/s of a whole training step, pairs/s of the label term, and over how many views."""
    (step,) = [r["value"] for r in results["step"]["rows"] if r["name"] == WHOLE]
    group = f"{LABEL}, cpu: time"
    rows = [r for r in results["loss"]["rows"] if r["group"] == group and r["name"] == BLOCKS and r["value"]]
    times = {r["size"]: r["value"] for r in rows}
    largest = max(times)
    return step, largest**2 / times[largest], largest


def of_a_gpu(results: Mapping[str, Result]) -> tuple[float | None, float | None]:
    """Return scenes/s and peak GiB of a whole step on a GPU; None where none was measured."""
    rows = results.get("step-cuda", {"rows": []})["rows"]
    (whole,) = [r for r in rows if r["name"] == WHOLE] or [{}]
    return whole.get("value"), whole.get("peak_gib")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def work_table(parameters: int, flops: float) -> str:
    """Return what a step of ResNet-50 computes, exchanges and keeps on W devices."""
    header = ["W", "B", "loss / encoders, FLOPs, shared", "not shared", "gradients, MB a step"]
    header += ["projections, MB a step", "ms a step", "gathered projections, MiB"]
    rows = []
    for devices in DEVICES:
        batch = SCENES * devices
        loss = FLOPS_A_PAIR * PAIRS * batch**2 / SCENES / flops
        gradients, projections = exchanged(devices, parameters)
        cells = [f"{devices}", f"{batch:,}", f"{loss / devices:.1%}", f"{loss:.1%}"]
        cells += [f"{gradients / 1e6:,.0f}", f"{projections / 1e6:,.0f}"]
        cells += [f"{(gradients + projections) / LINK * 1e3:,.0f}"]
        cells += [f"{batch * FLOAT * PROJECTIONS * DIM / 2**20:,.0f}"]
        rows.append([*cells, f"{FLOAT * (VIEWS * batch) ** 2 / 2**30:,.2f}"])
    return table([*header, "one matrix of all pairs, GiB"], rows)


def step_table(batch: int, rate: float, pairs: float) -> str:
    """Return seconds of the measured step on W such machines; ``pairs`` per second of the label term."""
    rows = []
    for devices in DEVICES:
        whole = PAIRS * (batch * devices) ** 2
        seconds = (batch / rate, (whole / devices - PAIRS * batch**2) / pairs, whole / pairs)
        rows.append([f"{devices}", f"{batch * devices:,}", *(f"{s:.2f}" for s in seconds)])
    return table(["W", "B", "step alone", "more for the loss, shared", "the loss, not shared"], rows)


def hours_table(parameters: int, flops: float, rate: float, record: float) -> str:
    """Return hours of all epochs and packed GB for archives, at ``rate`` scenes/s and ``record`` bytes."""
    rows = []
    for name, number in ARCHIVES.items():
        hours = []
        for devices in DEVICES:
            loss = FLOPS_A_PAIR * PAIRS * SCENES * (devices - 1) / flops  # more than on one device
            exchange = sum(exchanged(devices, parameters)) / LINK
            seconds = number * EPOCHS / devices * ((1 + loss) / rate + exchange / SCENES)
            hours.append(f"{seconds / 3600:,.1f}")
        rows.append([name, f"{number:,}", f"{number * record / 1e9:,.0f}", *hours])
    return table(["archive", "pairs", "packed, GB", *(f"hours, W = {n}" for n in DEVICES)], rows)


def document(results: Mapping[str, Result]) -> str:
    """Return scaling.md."""
    parameters, flops = counted()
    rate, pairs, views = measured_rates(results)
    given, peak = of_a_gpu(results)
    record = next(r["value"] for r in results["packing"]["rows"] if r["name"] == "mosaic, packed")
    step, measured_step = (
        results[name]["title"].removeprefix("A training step on a ").split(";")[0] if name in results else ""
        for name in ("step", "step-cuda")
    )
    batch = int(step.split(" scenes")[0].split()[-1])
    most = SCENES * DEVICES[-1]
    template = Template(TEMPLATE.read_text("utf-8"), undefined=StrictUndefined, keep_trailing_newline=True)
    counts = {"scenes": f"{SCENES:,}", "encoder": ENCODER, "pixels": PIXELS, "bands": list(BANDS.values())}
    counts |= {"millions": f"{parameters / 1e6:.1f}", "gflop": f"{flops / 1e9:.1f}", "pairs": PAIRS}
    counts |= {"flops_a_pair": FLOPS_A_PAIR, "projections": PROJECTIONS, "dim": DIM, "labels": LABELS + 1}
    counts |= {"link": f"{LINK / 1e9:g}", "devices": DEVICES[-1], "epochs": EPOCHS, "batch": batch}
    rates = {"rate": f"{rate:,.1f}", "views": f"{views:,}", "pair_rate": f"{pairs / 1e6:,.0f}"}
    rates |= {"given": f"{given or RATE:,.0f}", "record": f"{record:,.0f}"}
    return template.render(
        **counts,
        **rates,
        gpu=given is not None,
        peak=f"{peak:.1f}" if peak else "",
        step=step,
        measured_step=measured_step and f"{results['step-cuda']['machine']['gpu']}, {measured_step}",
        where=machine_title(results["step"]),
        threads=results["loss"]["threads"],
        work=work_table(parameters, flops),
        here=step_table(batch, rate, pairs),
        hours=hours_table(parameters, flops, given or RATE, record),
        times=f"{FLOPS_A_PAIR * PAIRS * most**2 / SCENES / flops:.1f}",
        matrix=f"{FLOAT * (VIEWS * most) ** 2 / 2**30:,.0f}",
        state=f"{16 * parameters / 2**30:.2f}",
        reading=f"{(given or RATE) * record / 1e6:,.0f}",
    )


def main() -> None:
    write_text(TARGET, document(load_all(RESULTS)))
    print(TARGET)


if __name__ == "__main__":
    main()
