"""Errors a user can cause. Each message names the thing, what was expected, and the remedy."""

import difflib
from collections.abc import Iterable


class MosaicError(ValueError):
    """Base of every error that a wrong input, setting or file may cause."""


class ArchiveError(MosaicError):
    """An archive folder is missing, incomplete or inconsistent."""


class PackError(MosaicError):
    """Packed data cannot be written or read."""


class BudgetError(MosaicError):
    """A label budget cannot be drawn."""


class SettingsError(MosaicError):
    """A parameter has an unknown name, a wrong type or an impossible value."""


class CheckpointError(MosaicError):
    """A checkpoint is missing, damaged or of another architecture."""


class RunError(MosaicError):
    """A run cannot start or continue: folder in use, not writable, no space, or a stage that is missing."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or the full list when none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
