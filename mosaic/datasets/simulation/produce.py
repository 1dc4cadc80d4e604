"""Writing a simulated archive in parts, on several cores, so that it is either whole or not there."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import read_json, require_free_space, write_json
from mosaic.utils.forked import available_cores
from mosaic.utils.progress import log, progress

Rows = list[dict[str, Any]]
NOTE = "simulation.json"


def produce(
    root: Path,
    recipe: dict[str, Any],
    needed_bytes: int,
    parts: Sequence[Any],
    write_part: Callable[[Path, Any], Rows],
    finish: Callable[[Path, Rows], None],
    workers: int | None = None,
) -> Path:
    """Write an archive, or find that it is there already.

    Args:
        root: folder to write.
        recipe: all that decides the content; kept in ``simulation.json``.
        needed_bytes: space it takes, about.
        parts: independent parts of the archive.
        write_part: a function of an importable module: writes a part into a folder, returns its index rows.
        finish: writes what needs the rows of all parts, in the order of the parts.
        workers: processes; one for each core by default.

    Returns:
        ``root``.

    Raises:
        ArchiveError: when ``root`` holds something else.
        RunError: when there is no space.
    """
    note = root / NOTE
    if note.exists() and read_json(note) == recipe:
        log(f"simulated archive: reused {root}")
        return root
    if root.exists() and any(root.iterdir()):
        raise ArchiveError(
            f"{root} holds something else than this simulation: remove it, or choose another folder"
        )
    require_free_space(root.parent, needed_bytes)
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        rows: Rows = []
        with ProcessPoolExecutor(workers or available_cores(), get_context("spawn")) as pool:
            done = pool.map(write_part, [partial] * len(parts), parts)
            for part_rows in progress(done, "simulating scenes", total=len(parts)):
                rows += part_rows
        finish(partial, rows)
        write_json(partial / NOTE, recipe)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root
