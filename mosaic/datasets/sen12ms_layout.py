"""The official layout of SEN12MS: its lists of patches, and the published classification protocol.

Sources: Schmitt et al. 2019 (doi:10.5194/isprs-annals-IV-2-W7-153-2019) for layers and layout; Schmitt and
Wu 2021 (arXiv:2104.00704) for the threshold of 10 %.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.archive import join_first, require_files
from mosaic.datasets.nomenclature import IGBP
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import require_regular

SIDE = 256  # of a patch, in pixels of 10 m
COVERAGE = 0.10  # share of a patch that a class has to cover to be a label
#: Official split -> file that lists its patches.
LISTS = {"train": "train_list.txt", "test": "test_list.txt"}
SEASONS: tuple[str, ...] = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
_VALIDATION_SHARE = 0.2  # of the training scenes
_LISTED = r"^(?P<season>ROIs\d+_[a-z]+)_(?:s1|s2|lc)_(?P<number>\d+)_(?P<patch>p\d+)(?:\.(?i:tif))?$"


def labels_of(classes: NDArray[np.uint8]) -> list[str]:
    """Return the classes that cover at least 10 % of a patch of class indices; 255 counts as none."""
    counts = np.bincount(classes.ravel(), minlength=256)
    return [name for i, name in enumerate(IGBP.classes) if counts[i] / classes.size >= COVERAGE]


def read_lists(root: Path) -> pd.DataFrame:
    """Return the patches of both official lists, sorted by name: patch_id, season, scene and split.

    Raises:
        ArchiveError: when a list is missing or malformed, or both name the same patch or scene.
    """
    remedy = "get the lists from github.com/schmitt-muc/SEN12MS, folder splits"
    require_files(root, "SEN12MS", LISTS.values(), remedy)
    lists = [_read_list(root / name, split) for split, name in LISTS.items()]
    index = pd.concat(lists).sort_values("patch_id", kind="stable", ignore_index=True)
    twice = index["patch_id"].duplicated() | (index.groupby("scene")["split"].transform("nunique") > 1)
    if twice.any():
        raise ArchiveError(
            f"{root}: listed twice, or of a scene in both lists: {join_first(index['patch_id'][twice], 5)}; "
            "patches of a scene overlap, so a scene has one split: use the official lists"
        )
    return index


def _read_list(path: Path, split: str) -> pd.DataFrame:
    remedy = "use the official list"
    require_regular(path, ArchiveError, remedy)
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    names = pd.Series(text.split(), dtype=str)
    parts = names.str.extract(_LISTED)
    malformed = names[parts["patch"].isna()]
    if len(malformed):
        raise ArchiveError(
            f"{path} holds lines that name no patch: {join_first(malformed, 3)}; expected e.g. "
            f"ROIs1158_spring_s2_1_p30.tif: {remedy}"
        )
    scene = parts["season"] + "_" + parts["number"]
    columns = {"patch_id": scene + "_" + parts["patch"], "season": parts["season"].str.split("_").str[1]}
    return pd.DataFrame(columns).assign(scene=scene, split=split)


def validation_scenes(scenes: Iterable[str]) -> list[str]:
    """Return the training scenes that are held out for validation: a fifth, and one of two at least.

    They are the first by SHA-256 of their names: no generator, no order of files, no seed.
    """
    ordered = sorted(scenes, key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())
    count = max(1, round(_VALIDATION_SHARE * len(ordered))) if len(ordered) > 1 else 0
    return ordered[:count]
