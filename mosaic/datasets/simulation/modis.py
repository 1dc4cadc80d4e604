"""Simulated land cover of MODIS: one class for each 500 m of a 10 m truth, which makes the labels noisy.

Cells are larger than most parcels, do not lie where the pixels of Sentinel lie, and some carry the class of
another cell, as the real product is right for about two cells of three. The rules follow the wording of the
IGBP legend in the user guide of MCD12Q1 (collection 6); their numbers are simplified by hand.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mosaic.datasets.simulation import landscape as land

#: Side of a cell, pixels of 10 m.
CELL = 50
_BLUR = 12.0  # pixels; a sensor's footprint is wider than its cell
_MISTAKEN = 0.15

#: IGBP -> codes of the three LCCS layers: land cover, land use, surface hydrology.
LCCS: dict[int, tuple[int, int, int]] = {
    1: (11, 10, 10), 4: (14, 10, 10), 5: (15, 10, 10), 6: (41, 40, 40), 7: (43, 40, 40), 8: (21, 20, 20),
    9: (22, 20, 20), 10: (31, 30, 30), 11: (31, 30, 50), 12: (31, 36, 30), 13: (1, 9, 1), 14: (31, 35, 30),
    15: (2, 2, 2), 16: (1, 1, 1), 17: (3, 3, 3),
}  # fmt: skip

#: What cells are judged by -> covers that count as it. Agroforestry counts by 0.4 as trees.
_GROUPS: dict[str, tuple[int, ...]] = {
    "needles": (land.CONIFER,),
    "trees": (land.BROADLEAF, land.CONIFER, land.AGROFOREST),
    "shrubs": (land.SHRUB, land.MOOR),
    "crops": (land.ARABLE, land.PERMANENT, land.COMPLEX),
    "wet": (land.INLANDWET, land.COASTWET),
    "built": (land.URBAN, land.INDUSTRY),
    "snow": (land.SNOW,),
    "bare": (land.BEACH, land.ROCK),
    "water": (land.INLANDWATER, land.SEA),
}


def land_cover(truth: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the four layers of SEN12MS at 10 m: IGBP and three of LCCS, uint8 (4, side, side).

    ``truth`` is the cover at 10 m as indices of :data:`landscape.COVERS`, (side, side).
    """
    side = len(truth)
    cells = -(-side // CELL) + 1
    offset = random.integers(0, CELL, 2)
    rows, columns = (np.minimum((np.arange(side) + start) // CELL, cells - 1) for start in offset)
    index = rows[:, None] * cells + columns[None, :]
    count = np.maximum(np.bincount(index.ravel(), minlength=cells**2), 1)
    shares = {}
    for name, covers in _GROUPS.items():
        weight = np.isin(np.arange(len(land.COVERS)), covers).astype(float)
        weight[land.AGROFOREST] *= 0.4
        blurred = gaussian_filter(weight[truth], _BLUR, mode="reflect")
        shares[name] = np.bincount(index.ravel(), blurred.ravel(), minlength=cells**2) / count
    codes = igbp(shares)
    seen = np.unique(index)
    mistaken = seen[random.random(len(seen)) < _MISTAKEN]
    codes[mistaken] = codes[random.choice(seen, len(mistaken))]
    layers = np.zeros((4, 18), np.uint8)
    layers[0] = np.arange(18)
    for code, lccs in LCCS.items():
        layers[1:, code] = lccs
    return layers[:, codes][:, index]


def igbp(shares: dict[str, NDArray[np.float64]]) -> NDArray[np.uint8]:
    """Return the IGBP code of cells, from the shares of what covers them; the first rule that holds wins.

    Args:
        shares: ``needles`` (also among ``trees``), ``trees``, ``shrubs``, ``crops``, ``wet``, ``built``,
            ``snow``, ``bare`` and ``water``, each (N,) in [0, 1]. The rest is grass.
    """
    trees = shares["trees"]
    needles = shares["needles"] / np.maximum(trees, 1e-9)
    rules: tuple[tuple[NDArray[np.bool_], int], ...] = (
        (shares["water"] >= 0.6, 17),
        (shares["built"] >= 0.3, 13),
        (shares["snow"] >= 0.5, 15),
        (shares["bare"] >= 0.5, 16),
        (shares["wet"] >= 0.4, 11),
        (shares["crops"] >= 0.6, 12),
        (shares["crops"] >= 0.35, 14),
        ((trees >= 0.5) & (needles >= 0.6), 1),
        ((trees >= 0.5) & (needles <= 0.4), 4),
        (trees >= 0.5, 5),
        (trees >= 0.3, 8),
        (shares["shrubs"] >= 0.6, 6),
        (shares["shrubs"] >= 0.3, 7),
        (trees >= 0.2, 9),
    )
    return np.select([rule for rule, _ in rules], [code for _, code in rules], 10).astype(np.uint8)
