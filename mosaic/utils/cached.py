"""Files that can be made again: checked when they are read, set aside and replaced where they are damaged."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path, set_aside

T = TypeVar("T")

#: Errors of the machine, not of the content of a file.
_MACHINE = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EIO}


def read_if_sound(path: Path, read: Callable[[Path], T]) -> T | None:
    """Return ``read(path)``; None for a file that is absent, or damaged and therefore set aside.

    ``RunError`` when the machine refuses to read.
    """
    if not (path.exists() or path.is_symlink()):
        return None
    try:
        if not path.is_file():  # a FIFO would be waited for
            raise ValueError("no regular file")
        return read(path)
    except MemoryError:
        raise
    except Exception as error:  # NumPy, pandas, torch and safetensors each raise many
        if isinstance(error, OSError) and error.errno in _MACHINE:
            raise RunError(f"{path} cannot be read ({error.strerror}): start again without that") from error
        why = str(error).split("In PyTorch")[0]  # without torch's advice to execute the file
        set_aside(path, why or type(error).__name__)
        return None


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` by name, each checked by the checksum of its file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def write_parquet(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Write a table atomically, with checksums; return it."""
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False, write_page_checksum=True)
    return table


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table and compare its checksums; ``OSError`` or ``ValueError`` when it is damaged."""
    return pd.read_parquet(path, page_checksum_verification=True)
