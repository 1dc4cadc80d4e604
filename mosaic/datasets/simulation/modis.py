"""Land cover as MODIS sees it: one class for each 500 m of a 10 m truth. That coarseness is the label noise.

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

_TREES = {land.BROADLEAF: 1.0, land.CONIFER: 1.0, land.AGROFOREST: 0.4}
_SHARES: dict[str, dict[int, float]] = {
    "needles": {land.CONIFER: 1.0},
    "trees": _TREES,
    "shrubs": {land.SHRUB: 1.0, land.MOOR: 1.0},
    "crops": {land.ARABLE: 1.0, land.PERMANENT: 1.0, land.COMPLEX: 1.0},
    "wet": {land.INLANDWET: 1.0, land.COASTWET: 1.0},
    "built": {land.URBAN: 1.0, land.INDUSTRY: 1.0},
    "snow": {land.SNOW: 1.0},
    "bare": {land.BEACH: 1.0, land.ROCK: 1.0},
    "water": {land.INLANDWATER: 1.0, land.SEA: 1.0},
}


def land_cover(truth: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the four layers of SEN12MS at 10 m: IGBP and three of LCCS, uint8 (4, side, side).

    Args:
        truth: cover at 10 m, indices of :data:`landscape.COVERS`, (side, side).
        random: where the grid of cells lies, and which cells are mistaken.
    """
    side = len(truth)
    cells = -(-side // CELL) + 1
    offset = random.integers(0, CELL, 2)
    place = [np.minimum((np.arange(side) + start) // CELL, cells - 1) for start in offset]
    index = place[0][:, None] * cells + place[1][None, :]
    count = np.maximum(np.bincount(index.ravel(), minlength=cells**2), 1)
    shares = {}
    for name, covers in _SHARES.items():
        weight = np.zeros(len(land.COVERS))
        weight[list(covers)] = list(covers.values())
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
