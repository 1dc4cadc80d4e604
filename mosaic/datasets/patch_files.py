"""Images of one patch from files that belong to no archive."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from mosaic.datasets.geotiff import read_raster
from mosaic.utils.errors import ArchiveError


def read_patch(
    paths: Sequence[Path], bands: Mapping[str, tuple[str, ...]], side: int
) -> dict[str, NDArray[np.float32]]:
    """Return sensor -> (bands, H, W) of a patch, in the unit of its files.

    ``paths`` are for each sensor a GeoTIFF of all its ``bands``, which their number tells, or a folder with a
    file ``*_<band>.tif`` of each, as in BigEarthNet; all are brought to ``side`` pixels. ArchiveError for a
    file that is missing, damaged, of no sensor, or of one that another is of too.
    """
    images: dict[str, NDArray[np.float32]] = {}
    for path in paths:
        files = [(b, file) for own in bands.values() for b in own for file in path.glob(f"*_{b}.tif")]
        parts = [read_raster(file, path.stem)[0] for _, file in files] or [read_raster(path, path.stem)[0]]
        names = tuple(band for band, _ in files)
        found = [s for s, own in bands.items() if (names == own if names else len(own) == len(parts[0]))]
        if len(found) != 1 or found[0] in images:
            known = " or ".join(f"{', '.join(own)} ({sensor})" for sensor, own in bands.items())
            has = f"{len(parts[0])} bands" if not names else f"files of {', '.join(names)}"
            raise ArchiveError(f"{path} has {has}: give one patch, with one file or folder of {known}")
        rasters = [torch.from_numpy(np.array(part[None], np.float32)) for part in parts]
        grown = [interpolate(raster, (side, side), mode="bilinear")[0] for raster in rasters]
        images[found[0]] = torch.cat(grown).numpy()
    return images
