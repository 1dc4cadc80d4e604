"""How much faster are packed records than the archive's own files? Ratios measured side by side.

Usage: python benchmarks/bench_read_records.py [ARCHIVE] [--bands all] [--seconds 2] [--rounds 5] [--json OUT]

Without ARCHIVE 300 simulated patches are written first. The page cache is warm for both readers.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from mosaic.archives.catalogue import open_archive
from mosaic.archives.simulated.bigearthnet import simulate
from mosaic.packed.pack import pack

BATCH = 128


def rate(read: Callable[[np.ndarray], object], patches: int, batch: int, seconds: float) -> float:
    """Records per second of ``read`` over random batches."""
    random = np.random.default_rng(0)
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        read(random.integers(0, patches, batch))
        done += batch
    return done / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--bands", default="all")
    parser.add_argument("--seconds", type=float, default=2.0, help="per reader and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = args.archive or simulate(Path(scratch) / "archive", patches=300, seed=0)
        archive = open_archive("bigearthnet", root, args.bands)
        start = time.perf_counter()
        store = pack(archive, Path(scratch) / "packed")
        packing = len(store) / (time.perf_counter() - start)
        readers: dict[str, tuple[Callable[[np.ndarray], object], int]] = {
            "archive, band files": (lambda rows: [archive.read(int(i)) for i in rows], 1),
            "packed, batches of 128": (store.read, BATCH),
        }
        rounds = {
            name: [rate(read, len(store), batch, args.seconds) for _ in range(args.rounds)]
            for name, (read, batch) in readers.items()
        }
    base = median(rounds["archive, band files"])
    numbers = {
        name: {
            "records_per_s": median(found),
            "least": min(found),
            "most": max(found),
            "ratio": median(found) / base,
        }
        for name, found in rounds.items()
    }
    size = store.layout.record_bytes
    print(f"{len(store)} patches, {size:,} bytes a record; packing {packing:.0f} patches/s")
    for name, found in numbers.items():
        print(
            f"{name:24} {found['records_per_s']:9,.0f} records/s "
            f"[{found['least']:,.0f}-{found['most']:,.0f}]  x {found['ratio']:,.1f}"
        )
    text = json.dumps({"patches": len(store), "packing_per_s": packing, "readers": numbers}, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
