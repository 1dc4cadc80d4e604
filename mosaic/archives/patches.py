"""What can be wrong with one patch."""

from pathlib import Path

from mosaic.common.errors import ArchiveError


class PatchError(ArchiveError):
    """One patch cannot be used.

    Attributes:
        patch_id: which patch.
        path: the file at fault.
        reason: what was found, and what was expected.
    """

    def __init__(self, patch_id: str, path: Path, reason: str) -> None:
        super().__init__(f"{patch_id}: {reason} ({path})")
        self.patch_id, self.path, self.reason = patch_id, path, reason

    def __reduce__(self) -> tuple[type["PatchError"], tuple[str, Path, str]]:
        """Pickle by the three parts, so that a worker process can hand the error over."""
        return type(self), (self.patch_id, self.path, self.reason)
