"""What does a training step cost over the encoders alone, and against IaI-SimCLR as its authors train it?

Usage: python benchmarks/bench_step.py [--steps 3] [--rounds 5] [--encoder resnet18] [--pixels 64]

Every candidate takes as many scenes, four images each (two views of both sensors), through the same two
encoders. Defaults depend on the device: ResNet-18 at 64 pixels in 32 bits on a CPU, compiled ResNet-50 at 120
pixels in bfloat16 with 512 scenes on a GPU. There it also measures what one CUDA graph a step is worth.
"""

import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from common import CUDA, DATA, Result, over, parser, ratio, row, save, simulated
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import nn

from mosaic.models.encoders import Encoder
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.training import captured
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import LOG, pretrain
from mosaic.transforms.views import Views
from mosaic.utils.devices import resolve_precision

DEVICE = torch.device("cuda" if CUDA else "cpu")
WARM_UP = 50 if CUDA else 2  # steps that are not timed; from a GPU the log has the time every 50 steps
#: Encoder, pixels, scenes, whether compiled, and how many times as fast as kernel by kernel it should be.
SIZES = (
    ("light", 64, 256, "no", 4.0),
    ("resnet18", 64, 256, "no", 2.2),
    ("resnet50", 120, 512, "yes", 1.35),
)
ENCODERS, WHOLE = "encoders alone, forward and backward", "MoSAiC, data to optimiser"
LAUNCHED, GRAPH = "launched kernel by kernel", "its CUDA graph alone"
IAI = "IaI-SimCLR, six forward passes, records ready"


def whole_step(store: PackedStore, trial: TrialSettings) -> float:
    """Return scenes per second of pretraining, from the records to the optimiser."""
    train = store.split_rows("train")
    with tempfile.TemporaryDirectory() as folder:
        log = pd.read_csv(pretrain(store, trial, train, Path(folder), checkpoint_seconds=1e9) / LOG)
    seconds = log.loc[log["step"] > 0, "seconds"].to_numpy()
    return float(trial.batch_scenes * (len(seconds) - WARM_UP) / (seconds[-1] - seconds[WARM_UP - 1]))


def captured_step(store: PackedStore, trial: TrialSettings) -> tuple[float, float]:
    """Return scenes per second of the whole step, and of its CUDA graph alone, replayed."""
    recorded: list[Callable[[], None]] = []
    alone: list[float] = []
    record = captured.record

    def keep(work: Callable[[], None]) -> Callable[[], None]:
        recorded.append(record(work))
        return recorded[-1]

    def replay(module: Pretraining) -> None:
        for count in (3, 40):
            start = _now()
            for _ in range(count):
                recorded[-1]()
            seconds = _now() - start
        alone.append(trial.batch_scenes * count / seconds)

    with mock.patch.object(captured, "record", keep), mock.patch.object(Pretraining, "on_train_end", replay):
        return whole_step(store, trial), alone[0]


def busy_share(store: PackedStore, trial: TrialSettings) -> float:
    """Return the share of time in which the GPU works, from the start of a trial to its saved encoder."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(query, stdout=-1, text=True) as sampling:
        pretrain(store, trial, store.split_rows("train"), Path(folder))
        sampling.terminate()
        used = [float(line) for line in (sampling.stdout or []) if line.strip()]
    return sum(used) / len(used) / 100


def gpu_rows(store: PackedStore, trial: TrialSettings, rounds: int) -> tuple[list[Result], list[Result]]:
    """Return what a captured step is worth at three sizes, and how busy a whole trial keeps the GPU."""
    rows, ratios = [], []
    for encoder, pixels, scenes, compiled, target in SIZES:
        size = f"{encoder}, {pixels} px, {scenes} scenes"
        sized = trial.replace(encoder=encoder, image_size=pixels, batch_scenes=scenes)
        eager = sized.replace(
            capture=False, gpu_records=0.0, log_every=1, compile_encoder="no", steps=WARM_UP + 10
        )
        kind = "captured, compiled encoder" if compiled == "yes" else "captured"
        measured: dict[str, list[float]] = {LAUNCHED: [], kind: [], GRAPH: []}
        for _ in range(rounds if CUDA else 0):
            measured[LAUNCHED].append(whole_step(store, eager))
            whole, alone = captured_step(store, sized.replace(compile_encoder=compiled))
            measured[kind].append(whole)
            measured[GRAPH].append(alone)
            torch.cuda.empty_cache()
        rows += [row(size, name, values, "scenes/s", ours=name == kind) for name, values in measured.items()]
        gain, graph = over(measured, kind, LAUNCHED), over(measured, kind, GRAPH)
        ratios.append(ratio(f"GPU: captured step / kernel by kernel, {size}", gain, target))
        more = graph and 1 / graph - 1
        ratios.append(ratio(f"GPU: whole step over its graph alone, {size}", more, 0.1, at_most=True))
    long = trial.replace(encoder="resnet18", image_size=64, batch_scenes=256, compile_encoder="auto")
    busy = [busy_share(store, long.replace(steps=2000, monitor_every=1000))] if CUDA else None
    rows.append(row("whole trial", "GPU busy, resnet18, 2,000 steps, three evaluations", busy, "share"))
    ratios.append(ratio("GPU: busy in a whole trial, resnet18, 2,000 steps", busy and busy[0], 0.9))
    return rows, ratios


def timed(step: Callable[[], None], trial: TrialSettings) -> float:
    """Return scenes per second of a step taken several times."""
    for i in range(trial.steps):
        if i == WARM_UP:
            start = _now()
        step()
    return trial.batch_scenes * (trial.steps - WARM_UP) / (_now() - start)


def _now() -> float:
    """Return the time once the device has done what it was given."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def encoder_of(store: PackedStore, trial: TrialSettings) -> Encoder:
    channels = {sensor.name: len(sensor.bands) for sensor in store.layout.sensors}
    return Encoder(trial.encoder, channels, trial.views.image_size).to(DEVICE).train()


def autocast(trial: TrialSettings) -> torch.autocast:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=resolve_precision(trial.precision) != "32")


def encoders_alone(store: PackedStore, trial: TrialSettings) -> Callable[[], None]:
    """Return forward and backward of the same images."""
    encoder, side = encoder_of(store, trial), trial.views.image_size
    if trial.compute.compile_encoder == "yes":
        for backbone in encoder.backbones.values():
            backbone.compile(dynamic=False)
    images = {
        sensor.name: torch.randn(2 * trial.batch_scenes, len(sensor.bands), side, side, device=DEVICE)
        for sensor in store.layout.sensors
    }
    images = {name: image.to(memory_format=torch.channels_last) for name, image in images.items()}

    def step() -> None:
        with autocast(trial):
            features = encoder(images)
        sum(feature.float().sum() for feature in features.values()).backward()
        encoder.zero_grad(set_to_none=True)

    return step


def published_iai(store: PackedStore, trial: TrialSettings) -> Callable[[], None]:
    """Return a step of IaI-SimCLR as its authors take it: six forward passes, three heads, Adam.

    Pairs (S1, S2), (S1', S1'') and (S2', S2''), each image through its encoder by itself; the loss is
    lightly's, the images are our views of records that lie ready in memory.
    """
    encoder = encoder_of(store, trial)
    backbones, width = encoder.backbones, encoder.feature_dims["s1"]
    heads = nn.ModuleList(SimCLRProjectionHead(width, 512, 128) for _ in range(3)).to(DEVICE)
    criterion = NTXentLoss(trial.loss.temperature_intra)
    optimiser = torch.optim.Adam([*encoder.parameters(), *heads.parameters()], lr=1e-4)
    rows = np.resize(store.split_rows("train"), trial.batch_scenes)
    records = {name: torch.from_numpy(array).to(DEVICE) for name, array in store.read(rows).items()}
    views, generator = Views(store.layout, trial.views.image_size), torch.Generator().manual_seed(0)

    def step() -> None:
        first, second, third = (views(records, generator) for _ in range(3))
        pairs = (
            (("s1", first["s1"]), ("s2", first["s2"])),
            (("s1", second["s1"]), ("s1", third["s1"])),
            (("s2", second["s2"]), ("s2", third["s2"])),
        )
        for head, pair in zip(heads, pairs, strict=True):
            with autocast(trial):
                loss = criterion(*(head(backbones[sensor](image)).float() for sensor, image in pair))
            loss.backward()  # of each pair by itself: the same gradient, a third of the memory
        optimiser.step()
        optimiser.zero_grad()

    return step


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--packed", type=Path, help="packed data; simulated by default")
    options.add_argument("--patches", type=int, default=3000 if CUDA else 600)
    options.add_argument("--steps", type=int, default=100 if CUDA else 3, help="timed steps a round")
    options.add_argument("--encoder", default="resnet50" if CUDA else "resnet18")
    options.add_argument("--pixels", type=int, default=120 if CUDA else 64)
    options.add_argument("--scenes", type=int, default=512 if CUDA else 64)
    args = options.parse_args()
    warnings.simplefilter("ignore")
    packed = args.packed or pack(simulated(args.patches), DATA / f"packed-{args.patches}").folder
    store = PackedStore(packed)
    size = {"encoder": args.encoder, "image_size": args.pixels, "batch_scenes": args.scenes}
    options = {"monitor_every": 0, "compile_encoder": "yes" if CUDA else "no"}
    trial = TrialSettings(method="mosaic", steps=args.steps + WARM_UP, **size, **options)
    candidates = {
        ENCODERS: lambda: timed(encoders_alone(store, trial), trial),
        WHOLE: lambda: whole_step(store, trial),
        IAI: lambda: timed(published_iai(store, trial), trial),
    }
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    gib: dict[str, float] = {}
    for _ in range(args.rounds):
        for name, measure in candidates.items():
            if CUDA:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            measured[name].append(measure())
            if CUDA:
                gib[name] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    rows = [
        row("training step", name, values, "scenes/s", ours=name == WHOLE)
        | ({"peak_gib": gib[name]} if name in gib else {})
        for name, values in measured.items()
    ]
    where, precision = DEVICE.type.upper().replace("CUDA", "GPU"), resolve_precision(trial.precision)
    about = f"{args.encoder}, {args.pixels} px, {args.scenes} scenes, {precision}"
    share = over(measured, WHOLE, ENCODERS)
    gpu, gpu_ratios = gpu_rows(store, trial, args.rounds)
    overhead = f"{where}: overhead of the step over the encoders, {about}"
    relative = over(measured, WHOLE, IAI)
    save(
        "step",
        f"A training step on a {where}: {about}; four images a scene.",
        [*rows, *gpu],
        [
            ratio(overhead, share and 1 - share, 0.15 if CUDA else 0.1, at_most=True),
            ratio(f"{where}: MoSAiC step / IaI-SimCLR in six passes", relative, 2 if CUDA else None),
            *gpu_ratios,
        ],
        args.results,
        packages=("lightning", "timm", "lightly"),
        steps=args.steps,
        rounds=args.rounds,
    )


if __name__ == "__main__":
    main()
