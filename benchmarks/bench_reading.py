"""How fast do pairs come from disk: as they are stored, and as views ready to train on?

Usage: python benchmarks/bench_reading.py [--patches 600] [--seconds 2] [--rounds 5]

One simulated archive in the layout of BigEarthNet v2, page cache warm, batches of 128 pairs in random order.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from common import DATA, over, parser, rates, ratio, row, save, simulated, torchgeo_pairs
from configilm_peer import ConfigILM, PeerError
from torch.utils.data import DataLoader, RandomSampler

from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.transforms.views import Views

BATCH = 128
SIZES = (64, 120)
TORCHGEO, RECORDS = "TorchGeo BigEarthNetV2, 1 core", "mosaic, packed records, 1 core"
CORES = {1: "1 core", 2: "2 cores"}
PEER = {cores: f"ConfigILM, LMDB of safetensors, {title}" for cores, title in CORES.items()}
VIEWS = {(n, cores): f"mosaic, views of {n} px, {title}" for cores, title in CORES.items() for n in SIZES}


class Packed:
    """Our reader on one core: arrays of its own, batches in random order."""

    def __init__(self, store: PackedStore, seed: int) -> None:
        self.store, self.random = store, np.random.default_rng(seed)
        self.out = store.read(np.zeros(BATCH, np.int64))
        self.records = {name: torch.from_numpy(array) for name, array in self.out.items()}
        self.views = {size: Views(store.layout, size) for size in SIZES}
        self.generator = torch.Generator().manual_seed(seed)

    def read(self) -> int:
        self.store.read(self.random.integers(0, len(self.store), BATCH), self.out)
        return BATCH

    def view(self, size: int, batches: int = 1) -> int:
        for _ in range(batches):
            self.read()
            self.views[size](self.records, self.generator)
        return BATCH * batches


def by_torchgeo(root) -> Callable[[], int]:
    """Return what reads one batch by TorchGeo."""
    pairs = torchgeo_pairs(root)
    loader = DataLoader(pairs, BATCH, sampler=RandomSampler(pairs, num_samples=BATCH))
    return lambda: sum(len(batch["label"]) for batch in loader)


def on_two_cores(pool: ThreadPoolExecutor, works: list[Callable[[], int]]) -> int:
    """Let two threads make whole batches side by side; compiled sampling holds no lock."""
    return sum(pool.map(lambda work: work(), works))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--patches", type=int, default=600)
    args = options.parse_args()
    torch.set_num_threads(1)  # what uses two cores says so
    archive = simulated(args.patches)
    store = pack(archive, DATA / f"packed-{args.patches}")
    readers, pool = [Packed(store, seed) for seed in (0, 1)], ThreadPoolExecutor(2)
    candidates = {TORCHGEO: by_torchgeo(archive.root), RECORDS: readers[0].read}
    peer, unmeasured = None, {}
    try:
        peer = ConfigILM(archive, DATA, BATCH)
        candidates |= {PEER[1]: partial(peer.read, 0, 4 * BATCH)}
        candidates |= {PEER[2]: partial(peer.read, 2, 8 * BATCH)}
    except PeerError as error:
        unmeasured = {"note": f"not measured: {error}"}
        print(error, file=sys.stderr)
    for size in SIZES:
        candidates[VIEWS[size, 1]] = partial(readers[0].view, size)
        both = [partial(reader.view, size, 4) for reader in readers]
        candidates[VIEWS[size, 2]] = partial(on_two_cores, pool, both)
    measured = rates(candidates, args.seconds, args.rounds)
    if peer is not None:
        peer.close()

    stored, ready = "stored pairs", "ready views"
    rows = [
        row(stored, TORCHGEO, measured[TORCHGEO], "pairs/s"),
        row(stored, RECORDS, measured[RECORDS], "pairs/s", ours=True),
    ]
    rows += [row(stored, name, measured.get(name), "pairs/s", **unmeasured) for name in PEER.values()]
    rows += [row(ready, name, measured[name], "pairs/s", ours=True) for name in VIEWS.values()]
    ratios = [
        ratio("packed records over TorchGeo, 1 core", over(measured, RECORDS, TORCHGEO), 400),
        ratio("packed records over ConfigILM, 1 core", over(measured, RECORDS, PEER[1]), 30),
    ]
    for size, cores in sorted(VIEWS):
        value = over(measured, VIEWS[size, cores], PEER[cores])
        ratios.append(ratio(f"views of {size} px over ConfigILM, {CORES[cores]}", value, 10))
    save(
        "reading",
        "How many pairs of BigEarthNet v2 a second are read, and made ready to train on?",
        rows,
        ratios,
        args.results,
        packages=("torchgeo", "rasterio"),
        settings={"patches": args.patches, "batch": BATCH, "seconds": args.seconds, "rounds": args.rounds},
        peer_versions=peer.versions if peer else None,
    )


if __name__ == "__main__":
    main()
