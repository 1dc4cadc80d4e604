"""How fast is an archive packed?

Usage: python benchmarks/bench_packing.py [--patches 2400] [--seconds 2] [--rounds 5]

Packing is all of it: states of the files, reading, every check, moments, checksums, writing and flushing. The
archive is simulated in the layout of BigEarthNet v2, page cache warm.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import DATA, over, parser, rates, ratio, row, save, simulated, torchgeo_pairs

from mosaic.store.writer import pack
from mosaic.utils.forked import default_workers

TORCHGEO = "TorchGeo, reading alone, 1 core"


def packing(archive: Any, workers: int) -> Callable[[], int]:
    """Return what packs an archive anew."""

    def work() -> int:
        with tempfile.TemporaryDirectory(dir=DATA) as scratch:
            return len(pack(archive, Path(scratch), shard_size=-(-len(archive) // workers), workers=workers))

    return work


def by_torchgeo(root: Path) -> Callable[[], int]:
    """Return what reads 32 random pairs by TorchGeo."""
    pairs = torchgeo_pairs(root)
    random = np.random.default_rng(0)

    def work() -> int:
        for i in random.integers(0, len(pairs), 32):
            pairs[int(i)]
        return 32

    return work


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--patches", type=int, default=2400)
    args = options.parse_args()
    torch.set_num_threads(1)
    archive, workers = simulated(args.patches), default_workers()
    one, all_cores = "mosaic, packing, 1 core", f"mosaic, packing, {workers} cores"
    candidates = {TORCHGEO: by_torchgeo(archive.root), one: packing(archive, 1)}
    candidates[all_cores] = packing(archive, workers)
    measured = rates(candidates, args.seconds, args.rounds)
    record = pack(archive, DATA / f"packed-{args.patches}").layout.record_bytes
    group, space = "BigEarthNet v2, pairs a second", "bytes a pair of BigEarthNet v2"
    rows = [row(group, name, values, "pairs/s", ours=name != TORCHGEO) for name, values in measured.items()]
    each = over(measured, all_cores, TORCHGEO)
    save(
        "packing",
        "How fast is an archive packed?",
        [*rows, row(space, "mosaic, packed", record, "B", ours=True)],
        [
            ratio("packing over TorchGeo's reading, 1 core", over(measured, one, TORCHGEO), 10),
            ratio(f"packing over TorchGeo's reading, a core of {workers}", each and each / workers, 10),
        ],
        args.results,
        packages=("torchgeo", "rasterio"),
        settings={"patches": args.patches, "seconds": args.seconds, "rounds": args.rounds},
    )


if __name__ == "__main__":
    main()
