"""Losses, label kernels, methods and datasets by name, and Python files (*plugins*) that register more."""

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mosaic.utils.errors import SettingsError, suggest
from mosaic.utils.files import hash_json, require_regular

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])
#: Environment variable for processes that this one starts: absolute path of a plugin -> its hash, as JSON.
VARIABLE = "MOSAIC_PLUGINS"
_hashes: dict[str, str] = {}  # module of a plugin -> hash of its source


class Registry(dict[str, T]):
    """What is known by name; looking up an unknown name raises an error that suggests the nearest."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind  # what the entries are, for messages

    def __missing__(self, name: str) -> T:
        raise SettingsError(f"unknown {self.kind} {name!r}{suggest(name, self)}")

    def add(self, name: str, entry: T) -> T:
        """Add an entry; its definition may run again, another one of that name raises ``SettingsError``."""
        known = self.get(name, entry)
        if known != entry and _origin(known) != _origin(entry):
            raise SettingsError(f"{self.kind} {name!r} is registered already: choose another name")
        self[name] = entry
        return entry

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that adds a function or class under a name."""
        return partial(self.add, name)  # type: ignore[return-value]


def _origin(entry: object) -> object:
    """Return where a function or class is defined; other entries are only equal to themselves."""
    name = getattr(entry, "__qualname__", None)
    return (entry.__module__, name) if name else id(entry)


def load_plugins(paths: Iterable[str | Path] | None = None) -> None:
    """Import Python files, each once, and let processes that this one starts do the same.

    Without ``paths`` those that the parent process loaded, as at the start of a worker process. SettingsError
    when a file is missing, raises, or was edited since this process or its parent loaded it; it names the
    file, and the line that failed.
    """
    known: dict[str, str] = json.loads(os.environ.get(VARIABLE) or "{}")
    files = [*known] if paths is None else [str(Path(path).expanduser().resolve()) for path in paths]
    for file in files:
        if paths is not None or _hashes.get(_module(file)) != known[file]:
            known[file] = _load(Path(file), known.get(file))
    if files:
        os.environ[VARIABLE] = json.dumps(known)


def plugin_hashes(*entries: object) -> list[str]:
    """Return the hashes of the plugins that define these functions or classes; none for our own."""
    return sorted({_hashes[entry.__module__] for entry in entries if entry.__module__ in _hashes})


def loaded_hashes() -> list[str]:
    """Return the hash of every plugin that this process has loaded."""
    return sorted(_hashes.values())


def _module(file: str) -> str:
    return f"mosaic_plugin_{Path(file).stem}_{hash_json(file)}"


def _hash(source: bytes) -> str:
    """Return the SHA-256 of what a file does: remarks do not count."""
    with contextlib.suppress(SyntaxError, ValueError):
        source = ast.dump(ast.parse(source)).encode()
    return hashlib.sha256(source).hexdigest()


def _load(file: Path, expected: str | None) -> str:
    """Import a file of the ``expected`` hash, which is returned, unless that was done before."""
    name = _module(str(file))
    spec = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or spec is None:
        raise SettingsError(f"plugin {file} is not there or no Python file: give the path of a .py file")
    require_regular(file, SettingsError, "make it readable")
    source = file.read_bytes()
    found = _hash(source)
    if found != _hashes.get(name, expected or found):
        # results are kept under the content of the plugin, which must be what computes them
        raise SettingsError(f"plugin {file} was edited since it was loaded: restart the kernel or command")
    if name in sys.modules:
        return found
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        exec(compile(source, file, "exec"), vars(module))  # not a compiled file, which may be older
    except Exception as error:
        del sys.modules[name]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [1, *(frame.lineno for frame in frames if frame.filename == str(file))]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1]
        raise SettingsError(f"plugin {file}, line {line}: {type(error).__name__}: {error}") from error
    _hashes[name] = found
    return found
