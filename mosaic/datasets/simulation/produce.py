"""Write a simulated archive part by part, on several cores, so that it is either complete or absent."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import read_json, require_free_space, write_json
from mosaic.utils.forked import available_cores
from mosaic.utils.progress import log, progress

Rows = list[dict[str, Any]]
#: File in a simulated archive's folder that tells how it was made.
SIMULATION_NOTE = "simulation.json"


def produce(
    root: Path,
    recipe: dict[str, Any],
    patch_bytes: int,
    plan: Callable[[int, int], Sequence[Any]],
    write_part: Callable[[Path, Any], Rows],
    finish: Callable[[Path, Rows], None],
) -> Path:
    """Write an archive of about ``patch_bytes`` a patch, or reuse the one that is there, and return ``root``.

    ``recipe`` is everything that determines the content, ``patches`` and ``seed`` among it. ``plan`` turns
    these two into independent parts; ``write_part``, a function of a module, writes one into a folder and
    returns its index rows, and ``finish`` writes what needs those of all parts.
    """
    if recipe["patches"] < 12:
        raise ArchiveError(f"{recipe['patches']} patches are too few for three splits: simulate 12 or more")
    note = root / SIMULATION_NOTE
    if note.exists() and read_json(note) == recipe:
        log(f"simulated archive: reused {root}")
        return root
    if root.exists() and any(root.iterdir()):
        raise ArchiveError(f"{root} holds something else than this simulation: remove it, or choose another")
    require_free_space(root.parent, recipe["patches"] * patch_bytes)
    parts = plan(recipe["patches"], recipe["seed"])
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        rows: Rows = []
        with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
            written = pool.map(write_part, [partial] * len(parts), parts)
            for part_rows in progress(written, "simulating scenes", total=len(parts)):
                rows += part_rows
        finish(partial, rows)
        write_json(partial / note.name, recipe)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def write_geotiff(
    path: Path, layers: NDArray, corner: tuple[float, float], epsg: int, metres: float = 10, **options: Any
) -> None:
    """Write layers (bands, side, side); ``corner`` is (easting, northing), ``metres`` the side of a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = layers.shape
    transform = from_origin(*corner, metres, metres)
    profile = {"width": width, "height": height, "count": count, "dtype": layers.dtype.name}
    profile |= {"crs": f"EPSG:{epsg}", "transform": transform, **options}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(layers)
