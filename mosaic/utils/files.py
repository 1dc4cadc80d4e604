"""Files that are written whole or not at all, their hashes, and folders that one process uses at a time."""

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
    """Yield a temporary path next to ``path``; on success flush it to disk and rename it to ``path``.

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
            raise RunError(f"no space left while writing {path}: free some or use another folder") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN, which is not JSON, raises ``ValueError``."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; a damaged one raises ``RunError``."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not valid JSON ({error}): delete it, it will be made again") from error


def hash_json(content: Any) -> str:
    """Return 16 hex digits of the SHA-256 of ``content`` as JSON; its keys may come in any order.

    NaN and infinity, which are not JSON, raise ``ValueError``.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: str | Path) -> str:
    """Return size and time of change of a file as a line, which differs once the file was changed."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return "absent\n"
    return f"{stat.st_size} {stat.st_mtime_ns}\n"


def require_writable(folder: Path) -> None:
    """Create ``folder``, and raise ``RunError`` where no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"mosaic")
    except OSError as error:
        raise RunError(
            f"cannot write to {folder} ({error.strerror}): choose another folder or change its permissions"
        ) from error


def require_free_space(folder: Path, needed: int) -> None:
    """Raise ``RunError`` where the disk of ``folder``, which need not exist, lacks ``needed`` free bytes."""
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"{folder} needs {needed / 1e9:.2f} GB but {existing} has {free / 1e9:.2f} GB free: "
            "free some space or choose another folder"
        )


@contextlib.contextmanager
def lock(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock ``folder``, created where absent, until this process leaves the block or ends.

    Args:
        folder: what to lock.
        wait: whether to wait, and log that, while another process has the lock.

    Raises:
        RunError: when another process has the lock and ``wait`` is false; names its pid.
    """
    require_writable(folder)
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            in_use = f"{folder} is in use by process {file.read().strip() or 'unknown'}"
            if not wait:
                raise RunError(f"{in_use}: wait for it, or give this run another name") from error
            log(f"{in_use}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
