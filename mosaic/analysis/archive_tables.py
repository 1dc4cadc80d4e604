"""Tables and pictures of an archive, as ``01_explore_data`` shows them."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mosaic.losses.label_kernels import KERNELS, pair_weights
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import PackError

TRUE_COLOUR = ("B04", "B03", "B02")
_MOST_SCENES = 2000  # scenes whose pairs are looked at; every pair of more would not change the shares


def splits_table(store: PackedStore) -> pd.DataFrame:
    """Count pairs, scenes, tiles, places and mean labels of each split."""
    counts = []
    for split, part in store.index.groupby("split", sort=False):
        counts.append(
            {
                "split": split,
                "pairs": len(part),
                "scenes": part["scene"].nunique(),
                "tiles": part["tile"].nunique(),
                "places": part["location"].nunique(),
                "labels a patch": float(part["labels"].str.len().mean()),
            }
        )
    return pd.DataFrame(counts)


def tiles(archive: Any, store: PackedStore) -> pd.DataFrame:
    """Return where the tiles (or scenes) lie: tile, lon, lat (degrees), split, count (pairs)."""
    counts = store.index.groupby(["tile", "split"], sort=False).size().rename("count").reset_index()
    places = {tile: archive.centre(tile) for tile in counts["tile"].unique()}
    return counts.assign(
        lon=[places[tile][0] for tile in counts["tile"]], lat=[places[tile][1] for tile in counts["tile"]]
    )


def display_bands(store: PackedStore) -> list[str]:
    """Return what is shown as red, green and blue: true colour, or the first 10 m bands there are.

    Raises:
        PackError: when no optical band was packed.
    """
    there = [band for sensor in store.layout.sensors if sensor.unit != "dB" for band in sensor.bands]
    if set(TRUE_COLOUR) <= set(there):
        return list(TRUE_COLOUR)
    finest = max((store.layout.group_of(band)[0].size for band in there), default=0)
    fine = [band for band in there if store.layout.group_of(band)[0].size == finest]
    if not fine:
        raise PackError(f"{store.folder} holds no optical band: pack at least one")
    return (fine * 3)[:3]


def pair_images(archive: Any, store: PackedStore, patches: int, seed: int = 0) -> dict[str, Any]:
    """Return ``patches`` pairs of many labels, as ``plots.imagery.gallery`` takes them."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(store), size=min(patches, len(store)), replace=False)
    place = {name: i for i, name in enumerate(archive.index["patch_id"])}
    ids = store.index["patch_id"].to_numpy()[rows]
    visible = display_bands(store)
    bands = store.read_bands(rows, [*visible, "VV", "VH"])
    maps = [archive.read_map(place[name]) for name in ids]
    return {
        "optical": np.stack([bands[b] for b in visible], axis=-1),
        "sar": np.stack([bands[b] for b in ("VV", "VH")], axis=1),
        "maps": None if maps[0] is None else np.stack(maps),
        "titles": [f"{r.tile} {r.date}" for r in store.index.iloc[rows].itertuples()],
        "class_names": store.class_names,
        "colors": store.manifest.class_colors,
    }


def kernel_positives(labels: NDArray[np.uint8], seed: int = 0) -> pd.DataFrame:
    """Return, for each label kernel, the share of random pairs it calls positive, and their mean weight.

    Args:
        labels: training labels (N, C); at most 2,000 scenes are drawn.
        seed: of that draw.
    """
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(labels))[:_MOST_SCENES]
    some = torch.from_numpy(labels[drawn]).float()
    pairs = len(some) * (len(some) - 1)
    rows = []
    for kernel in KERNELS:
        weights = pair_weights(some, kernel)
        rows.append(
            {
                "kernel": kernel,
                "positive_share": float((weights > 0).sum()) / pairs,
                "mean_weight": float(weights.sum() / (weights > 0).sum().clamp_min(1)),
            }
        )
    return pd.DataFrame(rows)
