"""The official lists of SEN12MS, parsed and checked before any image is opened, and the validation split."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mosaic.datasets.igbp import LISTS
from mosaic.datasets.problems import listing
from mosaic.utils.errors import ArchiveError

#: What a patch is listed and stored as: Sentinel-1, Sentinel-2 and land cover.
SOURCES = ("s1", "s2", "lc")
_VALIDATION_SHARE = 0.2  # of the training scenes


def read_lists(root: Path) -> pd.DataFrame:
    """Return the patches of both lists, sorted by name: patch_id, season, scene and the official split.

    Raises:
        ArchiveError: when a list is missing or malformed, or both name the same patch or scene.
    """
    if not root.is_dir():
        raise ArchiveError(
            f"there is no folder {root}: name an archive's folder, or get one with "
            "`python -m mosaic simulate --layout sen12ms`"
        )
    missing = [name for name in LISTS.values() if not (root / name).is_file()]
    if missing:
        packed = sorted(path.name for path in root.iterdir() if ".tar" in path.name)
        remedy = f"; also extract {', '.join(packed)}" if packed else ""
        raise ArchiveError(
            f"{root} is not an archive of SEN12MS, {', '.join(missing)} missing: get the lists from "
            f"github.com/schmitt-muc/SEN12MS, folder splits{remedy}"
        )
    index = pd.concat([_read_list(root / name, split) for split, name in LISTS.items()], ignore_index=True)
    both = index.groupby("scene")["split"].nunique()
    if (both > 1).any() or index["patch_id"].duplicated().any():
        wrong = [*both[both > 1].index, *index["patch_id"][index["patch_id"].duplicated()]]
        raise ArchiveError(
            f"{root}: listed twice, or in both lists: {listing(wrong, 5)}; patches of a scene "
            "overlap, so a scene has one split: use the official lists"
        )
    return index.sort_values("patch_id", kind="stable", ignore_index=True)


def _read_list(path: Path, split: str) -> pd.DataFrame:
    names = [line.removesuffix(".tif").split("_") for line in path.read_text(encoding="utf-8").split()]
    wrong = ["_".join(parts) for parts in names if len(parts) != 5 or parts[2] not in SOURCES]
    if wrong:
        raise ArchiveError(
            f"{path} holds lines that name no patch: {listing(wrong, 3)}; expected e.g. "
            "ROIs1158_spring_s2_1_p30.tif: use the official list"
        )
    table = pd.DataFrame(names, columns=["roi", "season", "source", "number", "patch"], dtype=str)
    scene = table["roi"] + "_" + table["season"] + "_" + table["number"]
    columns = {"patch_id": scene + "_" + table["patch"], "season": table["season"], "scene": scene}
    return pd.DataFrame(columns).assign(split=split)


def with_validation(index: pd.DataFrame) -> pd.DataFrame:
    """Return the patches that are there, some training scenes as validation; see ``validation_scenes``."""
    held = validation_scenes(index.loc[index["split"] == "train", "scene"].unique())
    return index.assign(split=index["split"].mask(index["scene"].isin(held), "validation"))


def validation_scenes(scenes: Iterable[str]) -> list[str]:
    """Return the training scenes that are held out for validation: a fifth, and one of two at least.

    They are the first by SHA-256 of their names: no generator, no order of files, no seed.
    """
    ordered = sorted(scenes, key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())
    count = max(1, round(_VALIDATION_SHARE * len(ordered))) if len(ordered) > 1 else 0
    return ordered[:count]
