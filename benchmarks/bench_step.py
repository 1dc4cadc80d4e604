"""What does a training step cost beside the encoder alone, and beside other implementations?

Usage: python benchmarks/bench_step.py [--steps 4] [--rounds 3] [--encoder resnet18] [--pixels 64]

Every candidate takes the same scenes, four images each (two views of both sensors), through the same two
encoders. Defaults depend on the device: ResNet-18 at 64 pixels in 32 bits on a CPU, ResNet-50 at 120
pixels in bfloat16 with 1,024 scenes on a GPU.
"""

import contextlib
import logging
import tempfile
import time
import warnings
from argparse import BooleanOptionalAction
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import device_suffix, parser, ratio, row, save
from lightning.pytorch import Callback, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn

from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.callbacks import Logbook
from mosaic.training.data import KnownLabels, ScenePicker, StepBatches
from mosaic.training.distributed import Processes
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import resolve_precision
from mosaic.training.trainer import fit
from mosaic.transforms.views import Views

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
STEP, OPTIONS = "training step", "encoder, forward and backward"
_WARM = 2 if not CUDA else 10  # steps that are not timed
_SEED = 0


def settled() -> float:
    """Return the time once the device has done what it was given."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(store: PackedStore, config: TrialSettings) -> float:
    """Return scenes a second of the whole step, from the records to the optimiser, under Lightning."""
    train = store.split_rows("train")
    known = KnownLabels(store, train)
    module = Pretraining(config, store, known)
    picker = ScenePicker(module.method, train, train, config.batch_scenes, 0.25, _SEED)
    with tempfile.TemporaryDirectory() as folder:
        logbook = Logbook(store, config, train, train, Path(folder) / "last.ckpt", "bench", 1e9)
        batches = StepBatches(store, picker, known, module.method, 0, config.steps, DEVICE.type)
        fit(module, logbook, batches, config, resolve_precision(config.precision), None, Processes())
    seconds = [one["seconds"] for one in logbook.rows if one["step"] > 0]
    return config.batch_scenes * (len(seconds) - _WARM) / (seconds[-1] - seconds[_WARM - 1])


def timed(step: Callable[[], Any], steps: int, scenes: int) -> float:
    """Return scenes a second of a step taken several times."""
    for _ in range(_WARM):
        step()
    start = settled()
    for _ in range(steps):
        step()
    return scenes * steps / (settled() - start)


def a_batch(store: PackedStore, config: TrialSettings) -> NDArray[np.int64]:
    """Return rows of as many training scenes as a batch has, some several times where there are fewer."""
    return np.resize(store.split_rows("train"), config.batch_scenes)


class Alone:
    """The encoder by itself: forward and backward of the same images, again and again."""

    def __init__(
        self, store: PackedStore, config: TrialSettings, memory: bool = True, autocast: bool | None = None
    ) -> None:
        module = Pretraining(config, store, KnownLabels(store, store.split_rows("train")))
        form = torch.channels_last if memory else torch.contiguous_format
        self.encoder = module.encoder.to(DEVICE).to(memory_format=form).train()
        wide = resolve_precision(config.precision) != "32" if autocast is None else autocast
        self.autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=wide)
        self.forward: Callable[..., Any] = self.encoder
        channels = {
            name: bands for stream in self.encoder.in_channels.values() for name, bands in stream.items()
        }
        side, images = config.views.image_size, 2 * config.batch_scenes
        self.images = {
            name: torch.randn(images, bands, side, side, device=DEVICE).to(memory_format=form)
            for name, bands in channels.items()
        }

    def step(self) -> None:
        with self.autocast:
            features = self.forward(self.images)
        sum(feature.float().sum() for feature in features.values()).backward()
        self.encoder.zero_grad(set_to_none=True)


class PublishedIaI:
    """A step of IaI-SimCLR as its authors take it: six forward passes, three heads, Adam; lightly's loss.

    Pairs (S1, S2), (S1', S1'') and (S2', S2''), each image through its encoder by itself; images are those of
    our views, ready in memory.
    """

    def __init__(self, store: PackedStore, config: TrialSettings) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        module = Pretraining(config, store, KnownLabels(store, store.split_rows("train")))
        encoder = module.encoder.to(DEVICE).train()
        self.backbones = encoder.backbones
        width = encoder.feature_dims["s1"]
        self.heads = nn.ModuleList(SimCLRProjectionHead(width, 512, 128) for _ in range(3)).to(DEVICE)
        self.loss = NTXentLoss(config.loss.temperature_intra)
        parameters = [*self.backbones.parameters(), *self.heads.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=1e-4)
        wide = resolve_precision(config.precision) != "32"
        self.autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=wide)
        rows = a_batch(store, config)
        self.records = {name: torch.from_numpy(array).to(DEVICE) for name, array in store.read(rows).items()}
        self.views = Views(store.layout, config.views.image_size)
        self.generator = torch.Generator(DEVICE).manual_seed(_SEED)

    def step(self) -> None:
        first, second, third = (self.views(self.records, self.generator) for _ in range(3))
        pairs = (
            (("s1", first["s1"]), ("s2", first["s2"])),
            (("s1", second["s1"]), ("s1", third["s1"])),
            (("s2", second["s2"]), ("s2", third["s2"])),
        )
        for head, pair in zip(self.heads, pairs, strict=True):
            with self.autocast:
                loss = self.loss(*(head(self.backbones[sensor](image)).float() for sensor, image in pair))
            loss.backward()  # of each pair by itself: the same gradient, a third of the memory
        self.optimiser.step()
        self.optimiser.zero_grad()


def torchgeo_task(store: PackedStore, config: TrialSettings, steps: int) -> float:
    """Return scenes a second of TorchGeo's SimCLRTask, one for each sensor: times of both added.

    Its images are normalised patches of native size that lie ready in memory; kornia crops, flips and changes
    their brightness, lightly computes the loss. Reading is not counted.
    """
    import kornia.augmentation as kornia
    from torchgeo.trainers import SimCLRTask

    side, scenes = config.views.image_size, config.batch_scenes
    rows = a_batch(store, config)
    native = max(group.size for group in store.layout.groups)
    records = {name: torch.from_numpy(array) for name, array in store.read(rows).items()}
    whole = Views(store.layout, native).evaluation(records)
    seconds = 0.0
    for image in whole.values():
        augment = kornia.AugmentationSequential(
            kornia.RandomResizedCrop((side, side), scale=(config.views.crop_scale, 1.0)),
            kornia.RandomHorizontalFlip(),
            kornia.RandomVerticalFlip(),
            kornia.RandomBrightness(brightness=(0.8, 1.2), p=0.8),
            data_keys=["input"],
        )
        task = SimCLRTask(
            model=config.encoder,
            in_channels=image.shape[1],
            version=1,
            layers=2,
            output_dim=config.loss.projection_dim,
            memory_bank_size=0,
            temperature=config.loss.temperature_intra,
            lr=1e-3,
            augmentations=augment,
        )
        watch = Watch()
        trainer = Trainer(
            accelerator="cuda" if CUDA else "cpu",
            devices=1,
            precision=resolve_precision(config.precision),
            max_steps=steps + _WARM,
            max_epochs=-1,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, train_dataloaders=Ready(image.contiguous().to(DEVICE), steps + _WARM))
        seconds += (watch.times[-1] - watch.times[_WARM - 1]) / steps
    return scenes / seconds


class Ready:
    """Batches that lie in the memory of the device, as TorchGeo's trainers take them."""

    def __init__(self, image: Tensor, steps: int) -> None:
        self.image, self.steps = image, steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for _ in range(self.steps):
            yield {"image": self.image.clone()}


class Watch(Callback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.times.append(settled())


def optimiser(store: PackedStore, config: TrialSettings, steps: int, fused: bool) -> float:
    """Return steps a second of AdamW alone."""
    module = Pretraining(config, store, KnownLabels(store, store.split_rows("train"))).to(DEVICE)
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    adamw = torch.optim.AdamW(parameters, lr=1e-3, fused=fused, foreach=None if fused else True)
    return timed(adamw.step, 10 * steps, 1)


def compiled(store: PackedStore, config: TrialSettings, steps: int) -> float | None:
    """Return scenes a second of the encoder alone, compiled; None where it does not compile."""
    one = Alone(store, config)
    one.forward = torch.compile(one.encoder)
    try:
        return timed(one.step, steps, config.batch_scenes)
    except Exception as error:  # no compiler on this machine, or one that fails
        print(f"torch.compile failed: {error}")
        return None


def data(folder: Path | None, patches: int) -> PackedStore:
    """Return packed data: a given folder, or a simulated archive packed once."""
    if folder is not None:
        return PackedStore(folder)
    from simulated import DATA, opened

    from mosaic.store.writer import pack

    return pack(opened(patches), DATA / f"packed-{patches}")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--packed", type=Path, help="packed data; simulated by default, which needs TorchGeo"
    )
    arguments.add_argument("--patches", type=int, default=600, help="of the simulated archive")
    arguments.add_argument("--steps", type=int, default=40 if CUDA else 3, help="timed steps a round")
    arguments.add_argument("--encoder", default="resnet50" if CUDA else "resnet18")
    arguments.add_argument("--pixels", type=int, default=120 if CUDA else 64)
    arguments.add_argument("--scenes", type=int, default=1024 if CUDA else 64)
    arguments.add_argument(
        "--compile", action=BooleanOptionalAction, default=True, help="measure torch.compile"
    )
    args = arguments.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    store = data(args.packed, args.patches)
    config = TrialSettings(
        encoder=args.encoder,
        batch_scenes=args.scenes,
        steps=args.steps + _WARM,
        monitor_every=0,
        seed=_SEED,
    ).replace(image_size=args.pixels)
    found: dict[str, list[float]] = {}
    candidates: dict[str, Callable[[], float | None]] = {
        "encoder alone": lambda: timed(Alone(store, config).step, args.steps, args.scenes),
        "whole": lambda: ours(store, config),
        "simclr": lambda: torchgeo_task(store, config, args.steps),
        "iai": lambda: timed(PublishedIaI(store, config).step, args.steps, args.scenes),
        "contiguous": lambda: timed(Alone(store, config, memory=False).step, args.steps, args.scenes),
        "autocast": lambda: timed(Alone(store, config, autocast=True).step, 1, args.scenes),
        "32 bits": lambda: timed(Alone(store, config, autocast=False).step, args.steps, args.scenes),
        "fused": lambda: optimiser(store, config, args.steps, fused=True),
        "foreach": lambda: optimiser(store, config, args.steps, fused=False),
    }
    if args.compile:
        candidates["compiled"] = lambda: compiled(store, config, args.steps)
    missing: dict[str, str] = {}
    peaks: dict[str, float] = {}
    for _ in range(args.rounds):
        for name, measure in candidates.items():
            if name in missing:
                continue
            if CUDA:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                value = measure()
            except ImportError as error:
                missing[name] = f"not measured: {error.name} is not installed"
                continue
            except torch.OutOfMemoryError:
                missing[name] = "not measured: it needs more memory than the GPU has"
                continue
            if value is not None:
                found.setdefault(name, []).append(value)
                peaks[name] = torch.cuda.max_memory_allocated() / 2**30 if CUDA else 0.0
    about = f"{args.encoder}, {args.pixels} px, {args.scenes} scenes, {resolve_precision(config.precision)}"
    titles = {
        "encoder alone": (STEP, "encoders alone, forward and backward", "scenes/s"),
        "whole": (STEP, "MoSAiC, data to optimiser", "scenes/s"),
        "simclr": (STEP, "TorchGeo SimCLRTask for each sensor, images ready", "scenes/s"),
        "iai": (STEP, "IaI-SimCLR, six forward passes, records ready", "scenes/s"),
        "contiguous": (OPTIONS, "without channels-last", "scenes/s"),
        "autocast": (OPTIONS, "bfloat16 autocast", "scenes/s"),
        "32 bits": (OPTIONS, "32 bits, channels-last", "scenes/s"),
        "compiled": (OPTIONS, "torch.compile", "scenes/s"),
        "fused": ("AdamW", "fused", "steps/s"),
        "foreach": ("AdamW", "foreach", "steps/s"),
    }
    rows = [
        row(group, title, found.get(name), unit, ours=name in ("whole", "32 bits", "fused"))
        | ({"note": missing[name]} if name in missing else {})
        | ({"peak_gib": round(peaks[name], 2)} if peaks.get(name) else {})
        for name, (group, title, unit) in titles.items()
    ]
    where = "GPU" if CUDA else "CPU"

    def divided(first: str, second: str) -> float | None:
        both = first in found and second in found
        return median(found[first]) / median(found[second]) if both else None

    whole = divided("whole", "encoder alone")
    overhead = None if whole is None else 1 - whole
    peers = {"simclr": "TorchGeo SimCLRTask", "iai": "IaI-SimCLR in six passes"}
    ratios = [
        ratio(
            f"{where}: overhead of the step over the encoders, {about}", overhead, 0.15 if CUDA else 0.1, True
        )
    ]
    ratios += [
        ratio(f"{where}: MoSAiC step / {title}", divided("whole", name), 2 if CUDA else None)
        for name, title in peers.items()
    ]
    if not CUDA:
        ratios.append(ratio("GPU: overhead of the step over the encoders", None, 0.15, at_most=True))
        ratios += [ratio(f"GPU: MoSAiC step / {title}", None, 2) for title in peers.values()]
    ratios += [
        ratio(f"{where}: channels-last / contiguous", divided("32 bits", "contiguous")),
        ratio(f"{where}: bfloat16 autocast / 32 bits", divided("autocast", "32 bits")),
        ratio(f"{where}: torch.compile / not compiled", divided("compiled", "encoder alone")),
        ratio(f"{where}: fused AdamW / foreach", divided("fused", "foreach")),
    ]
    packages = [name for name in ("lightning", "timm", "lightly", "kornia", "torchgeo") if _installed(name)]
    title = f"A training step on a {where}: {about}; four images a scene."
    save(
        "step" + device_suffix(),
        title,
        rows,
        ratios,
        args.results,
        packages,
        steps=args.steps,
        rounds=args.rounds,
    )


def _installed(name: str) -> bool:
    with contextlib.suppress(ImportError):
        __import__(name)
        return True
    return False


if __name__ == "__main__":
    main()
