"""How fast is an archive packed, what limits it, and would compression pay?

Usage: python benchmarks/bench_packing.py [--patches 2400] [--triplets 64] [--seconds 2] [--rounds 5]

Packing is all of it: states of the files, reading, every check, moments, checksums, writing and flushing. The
archives are simulated in the official layouts, page cache warm. Hours for the official archives are projected
from these rates: no such archive was packed here.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow
import torch
from common import parser, rates, ratio, row, save
from simulated import DATA, OFFICIAL, bytes_of, opened, torchgeo

from mosaic.datasets import geotiff
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.utils.forked import default_workers

RASTERIO_PART = 60  # pairs; all of them would take most of the time of this benchmark
COMPRESSED = 64  # records


def packing(archive: Any, workers: int) -> Callable[[], int]:
    """Return what packs an archive anew."""
    shard_size = -(-len(archive) // max(1, workers))

    def work() -> int:
        with tempfile.TemporaryDirectory(dir=DATA) as scratch:
            return len(pack(archive, Path(scratch), shard_size=shard_size, workers=workers))

    return work


@contextmanager
def by_rasterio() -> Iterator[None]:
    """Read no file by the small parser."""
    parser = geotiff.read_strips
    geotiff.read_strips = lambda path: None
    try:
        yield
    finally:
        geotiff.read_strips = parser


def reading(archive: Any, rasterio: bool) -> Callable[[], int]:
    """Return what reads and checks some pairs, as packing does."""

    def work() -> int:
        for i in range(RASTERIO_PART):
            archive.read(i)
        return RASTERIO_PART

    def slow() -> int:
        with by_rasterio():
            return work()

    return slow if rasterio else work


def bytes_apart(record: np.ndarray) -> bytes:
    """Put all low bytes first, then all high ones."""
    return record.view(np.uint8).reshape(-1, 2).T.tobytes()


def bytes_together(data: bytes) -> np.ndarray:
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(2, -1).T).view(np.int16).ravel()


def bits_apart(record: np.ndarray) -> bytes:
    """Put the lowest bits first, then the next: what bitshuffle does over a whole record."""
    bits = np.unpackbits(record.view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    return np.packbits(bits.T, bitorder="little").tobytes()


def bits_together(data: bytes) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").reshape(16, -1)
    return np.packbits(np.ascontiguousarray(bits.T), bitorder="little").view(np.int16)


SHUFFLES: dict[str, tuple[Callable, Callable]] = {
    "": (np.ndarray.tobytes, lambda data: np.frombuffer(data, np.int16).copy()),
    ", bytes apart": (bytes_apart, bytes_together),
    ", bits apart": (bits_apart, bits_together),
}
CODECS = {"lz4": ("lz4_raw", None), "zstd, level 1": ("zstd", 1), "zstd, level 9": ("zstd", 9)}


def compression(store: PackedStore) -> tuple[dict[str, float], dict[str, Callable[[], int]]]:
    """Return the ratio of each lossless compression, and what decodes the records."""
    chosen = np.linspace(0, len(store) - 1, COMPRESSED, dtype=int)
    groups = store.read(chosen)
    records = [
        np.concatenate([groups[group.name][i].ravel() for group in store.layout.groups])
        for i in range(COMPRESSED)
    ]
    ratios: dict[str, float] = {}
    candidates: dict[str, Callable[[], int]] = {}
    for codec_name, (name, level) in CODECS.items():
        codec = pyarrow.Codec(name, compression_level=level)
        for shuffle_name, (apart, together) in SHUFFLES.items():
            blobs = [codec.compress(apart(record), asbytes=True) for record in records]

            def decode(codec=codec, together=together, blobs=blobs) -> list[np.ndarray]:
                return [together(codec.decompress(blob, records[0].nbytes, asbytes=True)) for blob in blobs]

            assert all(map(np.array_equal, decode(), records))
            ratios[codec_name + shuffle_name] = sum(r.nbytes for r in records) / sum(map(len, blobs))
            candidates[codec_name + shuffle_name] = lambda decode=decode: len(decode())
    return ratios, candidates


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--patches", type=int, default=2400)
    options.add_argument("--triplets", type=int, default=64, help="of SEN12MS")
    args = options.parse_args()
    torch.set_num_threads(1)
    archive, triplets = opened(args.patches), opened(args.triplets, "sen12ms")
    store = pack(archive, DATA / f"packed-{args.patches}")
    workers = default_workers()
    pairs, random = torchgeo(archive.root), np.random.default_rng(0)

    def by_torchgeo() -> int:
        for i in random.integers(0, len(pairs), 32):
            pairs[int(i)]
        return 32

    official, all_cores = "BigEarthNet v2", f"packing, {workers} cores"
    candidates = {
        "TorchGeo": by_torchgeo,
        "packing, 1 core": packing(archive, 1),
        all_cores: packing(archive, workers),
        "reading": reading(archive, rasterio=False),
        "reading by rasterio": reading(archive, rasterio=True),
        "SEN12MS": packing(triplets, 1),
    }
    found = rates(candidates, args.seconds, args.rounds)
    found["SEN12MS, all"] = rates({"": packing(triplets, workers)}, args.seconds, args.rounds)[""]
    shrunk, decoders = compression(store)
    decoded = rates({"": store_reader(store), **decoders}, min(args.seconds, 0.5), args.rounds)

    one, many, theirs = (median(found[name]) for name in ("packing, 1 core", all_cores, "TorchGeo"))
    files = [archive.path(i, band) for i in range(len(archive)) for band in (*archive.band_sizes, "map")]
    held, taken = (size / len(archive) for size in bytes_of(files))
    size = store.layout.record_bytes
    group = "BigEarthNet v2, pairs a second"
    rows = [
        row(group, "TorchGeo, reading alone, 1 core", found["TorchGeo"], "pairs/s"),
        row(group, "mosaic, packing, 1 core", found["packing, 1 core"], "pairs/s", ours=True),
        row(group, f"mosaic, packing, {workers} cores", found[all_cores], "pairs/s", ours=True),
        row(group, "mosaic, reading and checking alone", found["reading"], "pairs/s", ours=True),
        row(group, "the same, all files by rasterio", found["reading by rasterio"], "pairs/s"),
        row(
            "SEN12MS, triplets a second", "mosaic, packing, 1 core", found["SEN12MS"], "triplets/s", ours=True
        ),
        row(
            "SEN12MS, triplets a second",
            f"mosaic, packing, {workers} cores",
            found["SEN12MS, all"],
            "triplets/s",
            ours=True,
        ),
    ]
    for title, key, rate in (
        (official, "bigearthnet", many),
        ("SEN12MS", "sen12ms", median(found["SEN12MS, all"])),
    ):
        hours = OFFICIAL[key] / rate / 3600
        note = f"projected from the rate above to {OFFICIAL[key]:,} patches; a disk may be slower"
        rows.append(row("projected", f"{title}, {workers} cores", hours, "h", ours=True, note=note))
    space = "bytes a pair of BigEarthNet v2"
    rows += [
        row(space, "official files", held, "B"),
        row(space, "official files, on this disk", taken, "B", note="whole blocks"),
        row(space, "mosaic, packed", size, "B", ours=True),
        row(
            space, "mosaic, packed, all official pairs", size * OFFICIAL["bigearthnet"], "B", note="projected"
        ),
    ]
    raw = median(decoded[""])
    for name, ratio_ in shrunk.items():
        cost = 1 / median(decoded[name])
        slow = size * (1 - 1 / ratio_) / cost / 1e6
        note = f"{ratio_:.2f} x smaller; pays where a disk gives less than {slow:,.0f} MB/s to a core"
        rows.append(row("compression, records decoded a second", name, decoded[name], "records/s", note=note))
    rows.append(
        row("compression, records decoded a second", "none: stored as read", raw, "records/s", ours=True)
    )
    best = max(decoders, key=lambda name: median(decoded[name]))
    save(
        "packing",
        "How fast is an archive packed, and would compression pay?",
        rows,
        [
            ratio("packing over TorchGeo's reading, 1 core", one / theirs, 10),
            ratio(f"packing over TorchGeo's reading, a core of {workers}", many / workers / theirs, 10),
            ratio(
                "reading and checking, parser over rasterio", _over(found, "reading", "reading by rasterio")
            ),
            ratio(f"reading as stored over decoding, fastest ({best})", raw / median(decoded[best])),
            ratio("smallest record, share of the stored one", 1 / max(shrunk.values())),
        ],
        args.results,
        packages=("torchgeo", "rasterio", "pyarrow"),
        settings={
            "patches": args.patches,
            "triplets": args.triplets,
            "seconds": args.seconds,
            "rounds": args.rounds,
        },
    )


def store_reader(store: PackedStore) -> Callable[[], int]:
    random, out = np.random.default_rng(0), store.allocate(COMPRESSED)

    def work() -> int:
        store.read(random.integers(0, len(store), COMPRESSED), out)
        return COMPRESSED

    return work


def _over(found: dict[str, list[float]], name: str, other: str) -> float:
    return median(found[name]) / median(found[other])


if __name__ == "__main__":
    main()
