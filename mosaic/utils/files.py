"""Files that are written whole or not at all, their hashes, and folders that one process uses at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mosaic.utils.errors import MosaicError, RunError, SettingsError
from mosaic.utils.progress import log

_Type = type | tuple[type, ...]
_MADE_AGAIN = "delete it, it will be made again"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on success flush it to disk and rename it to ``path``.

    The suffix is kept, for writers that look at it. RunError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # in containers that share a folder, processes have the same numbers
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        if path.is_dir():
            set_aside(path, "a folder")
        os.replace(partial, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError(f"no space left while writing {path}: free some or use another folder") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file or folder to ``<name>.damaged``, in place of an earlier one, and log it."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir():
        shutil.rmtree(aside)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.replace(path, aside)
    log(f"{path} is damaged ({' '.join(why.split())[:200]}): kept as {aside.name}, made again")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN, which is not JSON, raises ``ValueError``."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def require_regular(path: Path, error: type[MosaicError] = RunError, remedy: str = _MADE_AGAIN) -> None:
    """Raise ``error`` when ``path`` is missing, unreadable or no regular file; a FIFO would be waited for."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError as cause:
        raise error(f"{path} is missing: {remedy}") from cause
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause.strerror}): {remedy}") from cause
    if not (regular and os.access(path, os.R_OK)):
        raise error(f"{path} is {'not readable' if regular else 'not a regular file'}: {remedy}")


def read_json(
    path: Path,
    keys: Mapping[str, _Type] | None = None,
    *,
    build: Callable[[Any], Any] = lambda content: content,
    error: type[MosaicError] = RunError,
    remedy: str = _MADE_AGAIN,
    parse: Callable[[str], Any] = json.loads,
) -> Any:
    """Return the content of a JSON file, or ``parse`` another format; ``error`` whatever is wrong with it.

    Args:
        path: of the file, UTF-8.
        keys: what an object must have: key -> type or types of its value. None for any content.
        build: turns the content into what is returned, such as :func:`unsealed` or ``Model.model_validate``.
        error: what is raised.
        remedy: end of its message, which names the file and the key.
        parse: of the text.
    """
    require_regular(path, error, remedy)
    try:
        content = parse(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as cause:
        raise error(f"{path} is not UTF-8 text: {remedy}") from cause
    except (ValueError, yaml.YAMLError, RecursionError) as cause:
        kind = path.suffix[1:].upper().replace("YML", "YAML")
        raise error(f"{path} is not valid {kind} ({_shortened(cause)}): {remedy}") from cause
    if keys is not None and not isinstance(content, dict):
        raise error(f"{path} holds a {type(content).__name__}, expected names with values: {remedy}")
    try:
        for key, expected in (keys or {}).items():
            if not isinstance(content[key], expected):
                raise TypeError(f"{key!r} is of type {type(content[key]).__name__}")
        return build(content)
    except MosaicError:
        raise
    except KeyError as cause:
        raise error(f"{path} lacks {cause}: {remedy}") from cause
    except (ValueError, TypeError, AttributeError, IndexError) as cause:
        raise error(f"{path} has unexpected content ({_shortened(cause)}): {remedy}") from cause


def read_yaml(path: Path, keys: Mapping[str, _Type] | None = None, **options: Any) -> Any:
    """Return the mapping in a YAML file, whose keys are names; an empty file is an empty mapping.

    Arguments and errors are those of :func:`read_json`, but ``SettingsError`` by default. Refused as well are
    keys that occur twice, of which YAML would keep the last, aliases, which can grow without bound, and tags.
    """

    def parse(text: str) -> Any:
        content = yaml.load(text, _StrictLoader)
        return {} if content is None else content

    return read_json(
        path, keys or {}, parse=parse, **{"error": SettingsError, "remedy": "correct it", **options}
    )


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON content with a ``seal``: the hash of all the rest, by which a change is noticed."""
    return {**content, "seal": hash_json(content)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was sealed; ``ValueError`` when it was changed since, ``KeyError`` without a seal."""
    bare = {key: value for key, value in content.items() if key != "seal"}
    if hash_json(bare) != content["seal"]:
        raise ValueError("changed since it was written")
    return bare


def _shortened(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class _StrictLoader(yaml.SafeLoader):
    """YAML without tags and aliases, in which every key is a name that occurs once."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(
                problem="aliases and tags are not allowed", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str) or name in seen:
                fault = "occurs twice" if isinstance(name, str) else "is not a name: quote it"
                raise yaml.MarkedYAMLError(problem=f"key {name!r} {fault}", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def hash_json(content: Any) -> str:
    """Return 16 hex digits of the SHA-256 of ``content`` as JSON; its keys may come in any order.

    NaN and infinity, which are not JSON, raise ``ValueError``.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex; ``RunError`` when it cannot be read."""
    require_regular(path, remedy="make it readable, or delete it and start again")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: str | Path) -> str:
    """Return size and time of change of a file as a line, which differs once the file was changed."""
    try:
        state = os.stat(path)
    except OSError:  # also a link to itself
        return "absent\n"
    return f"{state.st_size} {state.st_mtime_ns}\n"


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

    While another process has the lock, ``wait`` for it and log that, or raise ``RunError`` with its pid.
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
        except OSError as error:  # some network file systems
            log(f"{folder} cannot be locked ({error.strerror}): see to it that only one run uses it")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
