"""What can be wrong with one patch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mosaic.utils.errors import ArchiveError


@dataclass(frozen=True)
class Problem:
    """One row of the table that ``verify`` prints.

    Attributes:
        patch_id: which patch; empty when it concerns the archive as a whole.
        kind: a short name, e.g. ``"missing file"``.
        detail: what was found and what was expected.
        path: the file or folder at fault.
        note: True when it is worth knowing but no reason to refuse the patch.
    """

    patch_id: str
    kind: str
    detail: str
    path: Path | None = None
    note: bool = False


class PatchError(ArchiveError):
    """One patch cannot be used.

    Attributes:
        patch_id: which patch.
        path: the file at fault.
        reason: what was found, and what was expected.
        kind: a short name of the fault.
    """

    def __init__(self, patch_id: str, path: Path, reason: str, kind: str = "unusable") -> None:
        super().__init__(f"{patch_id}: {reason} ({path})")
        self.patch_id, self.path, self.reason, self.kind = patch_id, path, reason, kind

    def __reduce__(self) -> tuple[type["PatchError"], tuple[str, Path, str, str]]:
        """Pickle by the parts, so that a worker process can hand the error over."""
        return type(self), (self.patch_id, self.path, self.reason, self.kind)

    def problem(self) -> Problem:
        """Return the row of this error."""
        return Problem(self.patch_id, self.kind, self.reason, self.path)


def listing(items: Iterable[object], shown: int = 10) -> str:
    """Join the first items by commas and count the rest."""
    names = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def refuse(root: Path, problems: Iterable[Problem]) -> None:
    """Raise if anything but notes is among the problems.

    Raises:
        ArchiveError: one line a kind, with the first ten patches and the number of all.
    """
    faults = [problem for problem in problems if not problem.note]
    if not faults:
        return
    by_kind: dict[str, list[Problem]] = {}
    for problem in faults:
        by_kind.setdefault(problem.kind, []).append(problem)
    lines = [
        f"  {kind}: {len(found)} patches, the first: {found[0].detail}\n"
        f"    {listing(problem.patch_id for problem in found)}"
        for kind, found in by_kind.items()
    ]
    raise ArchiveError(
        f"{root} is not a sound archive:\n" + "\n".join(lines) + "\n"
        "Mend or remove these rows and their folders; `python -m mosaic verify` lists them all"
    )
