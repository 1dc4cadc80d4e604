"""A hand-made archive in the true format of BigEarthNet v2: what TorchGeo's own fixtures are not.

Float32 SAR in dB, Sentinel-2 at native 120/60/20 pixels, uint16 reference maps with CORINE codes, UTM corners
that agree with the names, ``s1_name`` without zero padding.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

_SIZES = {"B01": 20, "B02": 120, "B03": 120, "B04": 120, "B05": 60, "B06": 60}
_SIZES |= {"B07": 60, "B08": 120, "B8A": 60, "B09": 20, "B11": 60, "B12": 60}
#: CORINE code -> class: one code each of six classes, with a reflectance and a backscatter of its own.
CODES = {
    112: ("Urban fabric", 1500, -6.0),
    211: ("Arable land", 2500, -12.0),
    231: ("Pastures", 3000, -13.0),
    312: ("Coniferous forest", 800, -10.0),
    324: ("Transitional woodland, shrub", 1800, -11.0),
    512: ("Inland waters", 150, -21.0),
}
#: Tile -> (EPSG code, upper-left corner); one tile a split, so that no place is in two splits.
TILES = {
    "train": ("33UUP", 32633, 300000, 5400000),
    "validation": ("29SND", 32629, 499980, 4300020),
    "test": ("35VPK", 32635, 600000, 6500040),
}


def write_tif(path: Path, array: np.ndarray, corner: tuple[float, float], epsg: int) -> None:
    """Write one band as the official files are: a single band, no tags, uncompressed."""
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    side = array.shape[0]
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": array.dtype}
    transform = from_origin(*corner, 1200 / side, 1200 / side)
    with rasterio.open(path, "w", crs=f"EPSG:{epsg}", transform=transform, **profile) as file:
        file.write(array, 1)


def write_archive(
    root: Path,
    patches: int = 12,
    bands: Sequence[str] = tuple(_SIZES),
    with_maps: bool = True,
    seed: int = 0,
) -> Path:
    """Write ``patches`` pairs, half of them train, the rest validation and test."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(patches):
        split = ("train", "validation", "train", "test")[i % 4]
        tile, epsg, ulx, uly = TILES[split]
        column, row, date = i // 4, 3 + i % 4, ("20170613", "20180204")[i // 4 % 2]
        patch_id = f"S2A_MSIL2A_{date}T101031_N9999_R022_T{tile}_{column:02d}_{row:02d}"
        s1_name = f"S1A_IW_GRDH_1SDV_{date}T165043_{tile}_{column}_{row}"
        corner = (ulx + 1200 * column, uly - 1200 * row)
        codes = random.choice(list(CODES), size=2, replace=False)
        codes_map = np.where(np.arange(120)[:, None] < 40 + 10 * (i % 5), codes[0], codes[1])
        codes_map = np.broadcast_to(codes_map, (120, 120)).astype(np.uint16)
        for band in bands:
            step = 120 // _SIZES[band]
            level = np.vectorize(lambda code: CODES[code][1])(codes_map[::step, ::step])
            noisy = np.clip(level + random.normal(0, 50, level.shape), 1, 10000).astype(np.uint16)
            folder = root / "BigEarthNet-S2" / patch_id.rsplit("_", 2)[0] / patch_id
            write_tif(folder / f"{patch_id}_{band}.tif", noisy, corner, epsg)
        for band, shift in (("VV", 0.0), ("VH", -6.5)):
            level = np.vectorize(lambda code: CODES[code][2])(codes_map) + shift
            noisy = (level + random.normal(0, 1.5, level.shape)).astype(np.float32)
            folder = root / "BigEarthNet-S1" / s1_name.rsplit("_", 3)[0] / s1_name
            write_tif(folder / f"{s1_name}_{band}.tif", noisy, corner, epsg)
        if with_maps:
            folder = root / "Reference_Maps" / patch_id.rsplit("_", 2)[0] / patch_id
            write_tif(folder / f"{patch_id}_reference_map.tif", codes_map, corner, epsg)
        rows.append(
            {
                "patch_id": patch_id,
                "labels": sorted(CODES[code][0] for code in codes),
                "split": split,
                "country": "Austria",
                "s1_name": s1_name,
                "s2v1_name": f"S2A_MSIL2A_{date}T101031_{column}_{row}",
                "contains_seasonal_snow": False,
                "contains_cloud_or_shadow": False,
            }
        )
    pd.DataFrame(rows).to_parquet(root / "metadata.parquet", index=False)
    return root


@pytest.fixture
def official_archive() -> Callable[..., Path]:
    """Write an archive in the official layout: ``official_archive(root, patches=12, ...) -> root``."""
    return write_archive


@pytest.fixture(scope="session")
def shared_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of 24 pairs that no test changes."""
    return write_archive(tmp_path_factory.mktemp("official"), patches=24)
