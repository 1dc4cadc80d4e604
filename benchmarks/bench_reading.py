"""How fast do pairs come from disk: as they are stored, and as views ready to train on?

Usage: python benchmarks/bench_reading.py [--patches 600] [--seconds 2] [--rounds 5]

One simulated archive in the official layout, page cache warm, batches of 128 pairs in random order. On one
core, then on two.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from common import device_suffix, parser, rates, ratio, row, save
from configilm_peer import ConfigILM, PeerError
from simulated import DATA, opened, torchgeo
from torch.utils.data import DataLoader, RandomSampler

from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.transforms import torch_sampling
from mosaic.transforms import views as views_module
from mosaic.transforms.views import Views

BATCH = 128
SIZES = (64, 120)
READ, READY = "stored pairs", "ready views"
ONE, TWO, GPU = "1 core", "2 cores", "GPU"


class Packed:
    """Our reader on one core: arrays of its own, batches in random order."""

    def __init__(self, store: PackedStore, seed: int) -> None:
        self.store, self.random = store, np.random.default_rng(seed)
        self.out = store.allocate(BATCH)
        self.records = {name: torch.from_numpy(array) for name, array in self.out.items()}
        self.views = {size: Views(store.layout, size) for size in SIZES}
        self.generator = torch.Generator().manual_seed(seed)

    def read(self) -> int:
        self.store.read(self.random.integers(0, len(self.store), BATCH), self.out)
        return BATCH

    def view(self, size: int) -> int:
        self.read()
        self.views[size](self.records, self.generator)
        return BATCH

    def copy(self) -> Callable[[], int]:
        """Return what copies a batch that is in memory already."""
        target = self.store.allocate(BATCH)

        def work() -> int:
            for name, array in self.out.items():
                np.copyto(target[name], array)
            return BATCH

        return work


def on_two_cores(pool: ThreadPoolExecutor, works: list[Callable[[], int]], times: int) -> int:
    """Let two threads make whole batches side by side; compiled sampling holds no lock."""
    return sum(pool.map(lambda work: sum(work() for _ in range(times)), works))


def loaded(root, workers: int) -> Callable[[], int]:
    """Return what reads one batch a process by TorchGeo."""
    pairs = torchgeo(root)
    sampler = RandomSampler(pairs, num_samples=BATCH * max(1, workers))
    loader = DataLoader(pairs, BATCH, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    return lambda: sum(len(batch["label"]) for batch in loader)


def on_gpu(store: PackedStore, size: int | None, fused: bool = True) -> Callable[[], int]:
    """Return work that reads a batch into pinned memory, copies it to the GPU and makes views there."""
    sampler = views_module._sampler if fused else lambda device: torch_sampling.sample
    rows = np.random.default_rng(0).permutation(len(store))[:BATCH]
    views = None if size is None else Views(store.layout, size)
    generator = torch.Generator("cuda").manual_seed(0)
    pinned = {
        group.name: torch.empty((len(rows), *group.shape), dtype=torch.int16, pin_memory=True)
        for group in store.layout.groups
    }

    def work() -> int:
        store.read(rows, {name: tensor.numpy() for name, tensor in pinned.items()})
        records = {name: tensor.to("cuda", non_blocking=True) for name, tensor in pinned.items()}
        if views is not None:
            with patch.object(views_module, "_sampler", sampler):
                views(records, generator)
        torch.cuda.synchronize()
        return len(rows)

    return work


def kornia_views(root, size: int) -> Callable[[], int]:
    """Return what reads one batch by TorchGeo and augments it as TorchGeo's trainers do, by kornia."""
    from kornia import augmentation

    pairs = torchgeo(root)
    loader = DataLoader(pairs, BATCH, sampler=RandomSampler(pairs, num_samples=BATCH))
    change = augmentation.AugmentationSequential(
        augmentation.RandomResizedCrop((size, size), scale=(0.4, 1.0)),
        augmentation.RandomHorizontalFlip(),
        augmentation.RandomVerticalFlip(),
        augmentation.Normalize(torch.zeros(14), torch.full((14,), 1e4)),
        data_keys=["input"],
    )
    sensors = ("image_s1", "image_s2")
    return lambda: sum(len(change(torch.cat([batch[key] for key in sensors], 1))) for batch in loader)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--patches", type=int, default=600)
    args = options.parse_args()
    torch.set_num_threads(1)  # what uses two cores says so
    archive = opened(args.patches)
    root, store = archive.root, pack(archive, DATA / f"packed-{args.patches}")
    first, second = Packed(store, 0), Packed(store, 1)
    pool = ThreadPoolExecutor(2)

    candidates: dict[tuple[str, str, str], Callable[[], int]] = {
        (READ, ONE, "TorchGeo BigEarthNetV2"): loaded(root, 0),
        (READ, TWO, "TorchGeo BigEarthNetV2"): loaded(root, 2),
        (READ, ONE, "mosaic, packed records"): first.read,
        (READ, ONE, "memory copy of a batch"): first.copy(),
    }
    peer: ConfigILM | None = None
    reason = ""
    try:
        peer = ConfigILM(archive, DATA, BATCH)
        candidates[READ, ONE, "ConfigILM, LMDB of safetensors"] = partial(peer.read, 0, 4 * BATCH)
        candidates[READ, TWO, "ConfigILM, LMDB of safetensors"] = partial(peer.read, 2, 8 * BATCH)
    except PeerError as error:
        reason = str(error)
        print(reason, file=sys.stderr)
    for size in SIZES:
        both = [partial(reader.view, size) for reader in (first, second)]
        candidates[READY, ONE, f"mosaic, views of {size} px"] = both[0]
        candidates[READY, TWO, f"mosaic, views of {size} px"] = partial(on_two_cores, pool, both, 4)
    candidates[READY, ONE, "TorchGeo and kornia, 120 px"] = kornia_views(root, 120)
    gpu: dict[str, tuple[int | None, bool]] = {"mosaic, records to the device, pinned": (None, True)}
    for size in SIZES:
        gpu[f"mosaic, views of {size} px"] = size, True
        gpu[f"mosaic, views of {size} px, kernels not fused"] = size, False
    if torch.cuda.is_available():
        candidates |= {(READY, GPU, name): on_gpu(store, *how) for name, how in gpu.items()}

    found = rates(candidates, args.seconds, args.rounds)
    if peer is not None:
        peer.close()

    def value(*key: str) -> float | None:
        return median(found[key]) if key in found else None

    def over(key: tuple[str, str, str], other: tuple[str, str, str]) -> float | None:
        ours, theirs = value(*key), value(*other)
        return None if ours is None or theirs is None else ours / theirs

    notes = {
        "ConfigILM, LMDB of safetensors": "14 x 120 x 120, float32, not augmented, not normalised: also the "
        "measure of ready views",
        "memory copy of a batch": "the limit of reading",
    }
    unmeasured = [] if peer else [(READ, cores, "ConfigILM, LMDB of safetensors") for cores in (ONE, TWO)]
    unmeasured += [(READY, GPU, name) for name in gpu if not torch.cuda.is_available()]
    rows = [
        row(
            f"{group}, {cores}",
            name,
            found.get((group, cores, name)),
            "pairs/s",
            ours=name.startswith("mosaic"),
            **(
                {"note": note}
                if (note := reason if not peer and "ConfigILM" in name else notes.get(name))
                else {}
            ),
        )
        for group, cores, name in sorted(
            [*candidates, *unmeasured], key=lambda key: (key[0] == READY, key[1])
        )
    ]
    records, copy = (READ, ONE, "mosaic, packed records"), (READ, ONE, "memory copy of a batch")
    ratios = [
        ratio(
            "packed records over TorchGeo, 1 core", over(records, (READ, ONE, "TorchGeo BigEarthNetV2")), 400
        ),
        ratio(
            "packed records over ConfigILM, 1 core",
            over(records, (READ, ONE, "ConfigILM, LMDB of safetensors")),
            30,
        ),
        ratio("packed records over a memory copy", over(records, copy)),
    ]
    for size in SIZES:
        for cores in (ONE, TWO):
            views = (READY, cores, f"mosaic, views of {size} px")
            peer_key = (READ, cores, "ConfigILM, LMDB of safetensors")
            ratios.append(ratio(f"views of {size} px over ConfigILM, {cores}", over(views, peer_key), 10))
    for size in SIZES:
        views = (READY, GPU, f"mosaic, views of {size} px")
        plain = (READY, GPU, f"{views[2]}, kernels not fused")
        ratios.append(ratio(f"GPU: views of {size} px, fused over not fused", over(views, plain)))
    save(
        "reading" + device_suffix(),
        "How many pairs of BigEarthNet v2 a second are read, and made ready to train on?",
        rows,
        ratios,
        args.results,
        packages=("torchgeo", "rasterio", "kornia"),
        settings={"patches": args.patches, "batch": BATCH, "seconds": args.seconds, "rounds": args.rounds},
        peer_versions=peer.versions if peer else None,
    )


if __name__ == "__main__":
    main()
