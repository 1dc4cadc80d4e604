"""Faults of an archive and of its patches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mosaic.utils.errors import ArchiveError


@dataclass(frozen=True)
class Problem:
    """One row of the table that ``verify`` prints."""

    patch_id: str  # empty when the problem concerns the whole archive
    kind: str  # short name, e.g. "missing file"
    detail: str  # what was found and what was expected
    path: Path | None = None  # file or folder at fault
    note: bool = False  # an oddity that is no reason to reject the patch


class PatchError(ArchiveError):
    """A patch is unusable; attributes as in :class:`Problem`."""

    def __init__(self, patch_id: str, path: Path, reason: str, kind: str = "unusable") -> None:
        super().__init__(f"{patch_id}: {reason} ({path})")
        self.patch_id, self.path, self.reason, self.kind = patch_id, path, reason, kind

    def __reduce__(self) -> tuple[type["PatchError"], tuple[str, Path, str, str]]:
        """Pickle the constructor's arguments, so that the error survives the way out of a worker process."""
        return type(self), (self.patch_id, self.path, self.reason, self.kind)

    def problem(self) -> Problem:
        """Return the error as a row of the table."""
        return Problem(self.patch_id, self.kind, self.reason, self.path)


def join_first(items: Iterable[object], shown: int = 10) -> str:
    """Join the first items by commas and count the rest."""
    names = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def report_faults(root: Path, faults: Sequence[Problem], problems: list[Problem] | None) -> None:
    """Add faults to a list of problems; without a list, raise if there are any.

    Raises:
        ArchiveError: one line a kind, with the first ten patches and the number of all.
    """
    if problems is not None:
        problems += faults
    elif faults:
        by_kind: dict[str, list[Problem]] = {}
        for fault in faults:
            by_kind.setdefault(fault.kind, []).append(fault)
        lines = [
            f"  {kind}: {len(rows)} patches, the first: {rows[0].detail}\n"
            f"    {join_first(row.patch_id for row in rows)}\n"
            for kind, rows in by_kind.items()
        ]
        raise ArchiveError(
            f"{root} is not a sound archive:\n{''.join(lines)}Correct or remove these rows and their "
            "folders; `python -m mosaic verify` lists them all"
        )
