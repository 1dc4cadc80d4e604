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
_SAR = ("VV", "VH")


def splits_table(store: PackedStore) -> pd.DataFrame:
    """Count pairs, scenes, tiles, places and mean labels of each split."""
    index = store.index.assign(count=store.index["labels"].str.len())
    columns = {
        "pairs": ("scene", "size"),
        "scenes": ("scene", "nunique"),
        "tiles": ("tile", "nunique"),
        "places": ("location", "nunique"),
        "labels a patch": ("count", "mean"),
    }
    return index.groupby("split", sort=False).agg(**columns).reset_index()


def tiles(archive: Any, store: PackedStore) -> pd.DataFrame:
    """Return the centres of the tiles (or scenes): tile, split, count (pairs), lon, lat (degrees)."""
    counts = store.index.groupby(["tile", "split"], sort=False).size().rename("count").reset_index()
    lon, lat = zip(*(archive.centre(tile) for tile in counts["tile"]), strict=True)
    return counts.assign(lon=lon, lat=lat)


def display_bands(store: PackedStore) -> list[str]:
    """Return the bands shown as red, green and blue: true colour, or the first of the finest optical ones.

    Raises:
        PackError: when no optical band was packed.
    """
    optical = [band for sensor in store.layout.sensors if sensor.unit != "dB" for band in sensor.bands]
    if set(TRUE_COLOUR) <= set(optical):
        return list(TRUE_COLOUR)
    if not optical:
        raise PackError(f"{store.folder} holds no optical band: pack at least one")
    sizes = {band: store.layout.group_of(band)[0].size for band in optical}
    finest = [band for band in optical if sizes[band] == max(sizes.values())]
    return (finest * 3)[:3]


def pair_images(archive: Any, store: PackedStore, patches: int) -> dict[str, Any]:
    """Return ``patches`` pairs drawn at random, as ``plots.imagery.gallery`` takes them."""
    rows = np.random.default_rng(0).choice(len(store), size=min(patches, len(store)), replace=False)
    chosen, optical = store.index.iloc[rows], display_bands(store)
    images = store.read_bands(rows, [*optical, *_SAR])
    map_index = {name: i for i, name in enumerate(archive.index["patch_id"])}
    maps = [archive.read_map(map_index[name]) for name in chosen["patch_id"]]
    return {
        "optical": np.stack([images[band] for band in optical], axis=-1),
        "sar": np.stack([images[band] for band in _SAR], axis=1),
        "maps": None if maps[0] is None else np.stack(maps),
        "titles": (chosen["tile"].astype(str) + " " + chosen["date"].astype(str)).tolist(),
        "class_names": store.class_names,
        "colors": store.manifest.class_colors,
    }


def kernel_positives(labels: NDArray[np.uint8]) -> pd.DataFrame:
    """Return each label kernel's share of positives and their mean weight, among pairs of 2,000 patches."""
    drawn = np.random.default_rng(0).permutation(len(labels))[:2000]
    tensor = torch.from_numpy(labels[drawn]).float()
    pairs, rows = len(tensor) * (len(tensor) - 1), []
    for kernel in KERNELS:
        weights = pair_weights(tensor, kernel)
        positive = (weights > 0).sum()
        rows.append((kernel, float(positive) / pairs, float(weights.sum() / positive.clamp_min(1))))
    return pd.DataFrame(rows, columns=["kernel", "positive_share", "mean_weight"])
