"""Writing files so that a reader never meets half of one."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mosaic.utils.errors import RunError
from mosaic.utils.progress import log


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it to ``path``.

    The suffix is kept, so writers that look at it (parquet, npz, png) behave as for the final name.

    Raises:
        RunError: when the disk is full; nothing is left under either name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError(
                f"no space left while writing {path}: free some, or choose another folder"
            ) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a damaged one is named in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not valid JSON ({error}): delete it, it will be made again") from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: str | Path) -> str:
    """Return a line that is another one when the file changes: its size and when it was written."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return "absent\n"
    return f"{stat.st_size} {stat.st_mtime_ns}\n"


def require_writable(folder: Path) -> None:
    """Make ``folder`` and prove that a file can be written there.

    Raises:
        RunError: when it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mosaic")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(
            f"cannot write to {folder} ({error.strerror}): choose another folder or mend its rights"
        ) from error


def require_free_space(folder: Path, needed: int) -> None:
    """Refuse work that would fill the disk.

    Args:
        folder: where the data will go; it or its nearest existing parent is asked.
        needed: bytes that will be written.

    Raises:
        RunError: when fewer than ``needed`` bytes are free.
    """
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"{folder} needs {needed / 1e9:.2f} GB but {existing} has {free / 1e9:.2f} GB free: "
            "free some space or choose another folder"
        )


@contextlib.contextmanager
def lock(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold ``folder`` for one process. The lock dies with the process, so a killed run never blocks the next.

    Args:
        folder: made if it is not there.
        wait: until another process that holds it lets it go or ends, which is told as progress.

    Raises:
        RunError: when another process holds it and ``wait`` is not asked for; names its pid.
    """
    require_writable(folder)
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            if not wait:
                raise RunError(
                    f"{folder} is in use by process {holder}: wait for it, or give this run another name"
                ) from error
            log(f"{folder} is in use by process {holder}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
