"""Write a simulated archive part by part, on several cores, so that it is either complete or absent."""

import shutil
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import lock, read_json, require_free_space, write_json
from mosaic.utils.forked import forked_map
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
    returns its index rows, and ``finish`` writes what needs those of all parts. Stopped or killed, it goes on
    with the parts that are missing; another process that writes the same archive is waited for.
    """
    if recipe["patches"] < 12:
        raise ArchiveError(f"{recipe['patches']} patches are too few for three splits: simulate 12 or more")
    root = root.resolve()  # the folder, not a link to it or a name without a parent
    if _is_there(root, recipe):
        return root
    work = root.with_name(f".{root.name}.partial")
    with lock(work, wait=True):
        if _is_there(root, recipe):  # written while this process waited
            return root
        partial = work / root.name
        if partial.exists() and _recipe_of(partial) != recipe:
            shutil.rmtree(partial)
        require_free_space(root.parent, recipe["patches"] * patch_bytes)
        if (root / SIMULATION_NOTE).exists():
            log(f"simulated archive: {root} is of another version, made anew")
        write_json(partial / SIMULATION_NOTE, recipe)
        parts = plan(recipe["patches"], recipe["seed"])
        written = forked_map(lambda i: _write(write_part, partial, i, parts[i]), len(parts), chunk=1)
        finish(partial, list(chain.from_iterable(progress(written, "simulating scenes", len(parts)))))
        for done in partial.glob(".part-*.json"):
            done.unlink()
        if root.exists():  # empty, or of another version
            shutil.rmtree(root)
        partial.rename(root)
        shutil.rmtree(work)
    return root


def _recipe_of(folder: Path) -> dict[str, Any]:
    """Return what determined the content of a folder; nothing where no note tells."""
    note, remedy = folder / SIMULATION_NOTE, "remove its folder"
    found: dict[str, Any] = read_json(note, {}, error=ArchiveError, remedy=remedy) if note.exists() else {}
    return found


def _is_there(root: Path, recipe: dict[str, Any]) -> bool:
    found = _recipe_of(root)
    if found == recipe:
        log(f"simulated archive: reused {root}")
        return True
    another_version = {**found, "version": recipe["version"]} == recipe
    if (root.is_file() or (root.exists() and any(root.iterdir()))) and not another_version:
        raise ArchiveError(f"{root} holds something else than this simulation: remove it, or choose another")
    return False


def _write(write_part: Callable[[Path, Any], Rows], partial: Path, number: int, part: Any) -> Rows:
    """Write one part, then its note, unless that is there; return the part's rows."""
    note = partial / f".part-{number}.json"
    if not note.exists():
        write_json(note, write_part(partial, part))
    rows: Rows = read_json(note)
    return rows


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
