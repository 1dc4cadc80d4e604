"""Simulated land: a true cover at 10 m, and the maps of CORINE and of MODIS that generalise it.

CORINE's map has soft, irregular borders and only the classes of the patch's label set. The truth below it has
parcels, inclusions smaller than CORINE's minimum mapping unit (25 ha), shifted borders, and real mixtures
inside the mixed classes: that difference is the label noise of the dataset. MODIS has one class for each cell
of 500 m, and some cells carry the class of another, as the real product is right for about two of three; the
rules follow the IGBP legend in the user guide of MCD12Q1 (collection 6), with numbers simplified by hand.

``covers.csv`` has a row a cover: side of its parcels in pixels; pattern of its texture; by how many days its
greenest time comes after midsummer, and how much greener it is then (standard deviations); whether it is
ploughed; the groups that MODIS cells are judged by; and what the class of a map really consists of.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree

from mosaic.datasets.reference import label_sets
from mosaic.datasets.simulation.texture import draw_relief, draw_texture

SIDE = 120
#: Every class gets at least this many patches in a split of ``_ROOM`` patches or more.
_LEAST, _ROOM = 3, 200
TABLE = pd.read_csv(Path(__file__).with_name("covers.csv"))
#: The covers: the 19 classes of BigEarthNet, and two that Europe's labels do not name.
COVERS: tuple[str, ...] = tuple(TABLE["name"])
URBAN, INDUSTRY, ARABLE, PERMANENT, PASTURE, COMPLEX, AGRINATURE, AGROFOREST = range(8)
BROADLEAF, CONIFER, MIXED, GRASS, MOOR, SHRUB, BEACH, INLANDWET, COASTWET, INLANDWATER, SEA = range(8, 19)
SNOW, ROCK = 19, 20
_COMPOSITION = [
    [(list(TABLE["key"]).index(key), float(share)) for key, share in map(str.split, parts.split("|"))]
    for parts in TABLE["composition"]
]

#: Side of a cell, pixels of 10 m.
CELL = 50
_BLUR = 12.0  # pixels; a sensor's footprint is wider than its cell
_MISTAKEN = 0.15

_MEMBERS = TABLE["groups"].fillna("").str.get_dummies("|")  # what cells are judged by, a column a group


class Landscape(NamedTuple):
    """The ground of one patch, the same on every date; arrays are (side, side)."""

    truth: NDArray[np.uint8]  # cover at 10 m, indices of COVERS
    classes: NDArray[np.uint8]  # the CORINE-like map, class indices, 255 where unlabelled
    parcels: NDArray[np.int64]  # number of each pixel's parcel
    texture: NDArray[np.float64]  # pattern of the cover, standard deviations
    slopes: tuple[NDArray[np.float64], NDArray[np.float64]]  # to the sun and to the radar, likewise


def draw_label_sets(number: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw label sets (number, 19) for one split from those of the real BigEarthNet v2, independently.

    In a split of 200 patches or more, classes drawn fewer than three times replace others, chosen at random.
    """
    sets, share = label_sets()
    drawn = sets[random.choice(len(sets), size=number, p=share)]
    if number < _ROOM:
        return drawn
    for rare in np.argsort(drawn.sum(0)):
        short = _LEAST - int(drawn[:, rare].sum())
        if short <= 0:
            continue
        carrying = np.flatnonzero(sets[:, rare])
        chosen = random.choice(carrying, size=short, p=share[carrying] / share[carrying].sum())
        # replace patches whose own labels can all be spared
        spare = (drawn.sum(0) - drawn > _LEAST) | (drawn == 0)
        replaced = random.choice(np.flatnonzero(spare.all(1)), size=short, replace=False)
        drawn[replaced] = sets[chosen]
    return drawn


def _field(random: np.random.Generator, scale: float, side: int) -> NDArray[np.float64]:
    """Return smooth noise (side, side) of unit variance whose features are about ``scale`` pixels wide."""
    coarse = random.standard_normal((side // 4 + 1, side // 4 + 1))
    smooth = gaussian_filter(zoom(coarse, 4.0, order=1)[:side, :side], scale / 2.5, mode="reflect")
    return (smooth - smooth.mean()) / (smooth.std() + 1e-9)


def _draw_parcels(random: np.random.Generator, size: float, side: int) -> NDArray[np.int64]:
    """Return irregular parcels (side, side): nearest of jittered seeds, with wavering borders."""
    steps = max(2, round(side / size))
    grid = (np.moveaxis(np.mgrid[0:steps, 0:steps], 0, -1) + 0.5) * side / steps
    seeds = (grid + random.uniform(-0.45, 0.45, grid.shape) * side / steps).reshape(-1, 2)
    rows, columns = (axis + 0.15 * size * _field(random, size, side) for axis in np.mgrid[0:side, 0:side])
    return cKDTree(seeds).query(np.stack([rows, columns], axis=-1))[1].astype(np.int64)


def draw_landscape(labels: NDArray[np.uint8], random: np.random.Generator, side: int = SIDE) -> Landscape:
    """Draw the ground of ``side`` pixels of 10 m whose map holds exactly the covers that ``labels`` marks."""
    present = np.flatnonzero(labels)
    share = random.dirichlet(np.full(len(present), 1.2))
    # a large square holds larger regions, so that its parts do not all look like the whole
    wide = max(1.0, side / (2 * SIDE))
    fields = np.stack([_field(random, wide * random.uniform(20, 40), side) for _ in present])
    bias = np.log(share + 0.02) * 0.9
    level = fields + bias[:, None, None]
    classes = present[level.argmax(0)].astype(np.uint8)
    # a cover that hardly occurs in the generalised map gets the spot where it came nearest
    margin = level - level.max(0)
    for index, cover in enumerate(present):
        if (classes == cover).sum() < 60:
            centre = np.unravel_index(margin[index].argmax(), (side, side))
            rows, columns = np.mgrid[0:side, 0:side]
            reach = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
            others = np.array([(classes == c).sum() for c in range(len(COVERS))])
            classes[(reach < random.uniform(40, 90)) & (others[classes] > 150)] = cover
            classes[centre] = cover
    for cover in present:  # discs may cover one another: every class keeps a pixel at least
        if not (classes == cover).any():
            classes[tuple(random.integers(0, side, 2))] = cover
    if set(np.unique(classes)) != set(present):
        return draw_landscape(labels, random, side)
    # the truth: parcels of what each mapped class really consists of, inside borders that CORINE smoothed
    moved = level + 0.25 * np.stack([_field(random, 6.0, side) for _ in present])
    real = np.where(random.random() < 0.9, present[moved.argmax(0)], classes) if len(present) > 1 else classes
    truth = np.zeros((side, side), np.uint8)
    parcels = np.zeros((side, side), np.int64)
    for cover in np.unique(real):
        cells = _draw_parcels(random, TABLE["parcel"][cover] * random.uniform(0.8, 1.3), side)
        covers, shares = zip(*_COMPOSITION[cover], strict=True)
        # shares differ from place to place: one "mixed forest" is not another
        local = random.dirichlet(np.array(shares) * 12)
        kind = random.choice(covers, size=cells.max() + 1, p=local)
        inside = real == cover
        truth[inside] = kind[cells][inside]
        parcels[inside] = cells[inside] + 1000 * int(cover)  # a rare clash of numbers only shares a tone
    if random.random() < 0.15:  # ground no class covers, as in the real maps: at most a fifth of the patch
        common = classes == np.bincount(classes.ravel()).argmax()
        unlabelled = common & (_field(random, 15.0, side) > 1.2)
        if unlabelled.sum() < min(0.2 * classes.size, 0.5 * common.sum()):
            classes[unlabelled] = 255
    texture = draw_texture(TABLE["pattern"].to_numpy(str)[truth], parcels, random)
    return Landscape(truth, classes, parcels, texture, draw_relief(random, side))


def land_cover(truth: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return IGBP and three layers of LCCS, uint8 (4, side, side), for a true cover (side, side)."""
    side = len(truth)
    cells = -(-side // CELL) + 1
    offset = random.integers(0, CELL, 2)
    rows, columns = (np.minimum((np.arange(side) + start) // CELL, cells - 1) for start in offset)
    index = rows[:, None] * cells + columns[None, :]
    count = np.maximum(np.bincount(index.ravel(), minlength=cells**2), 1)
    shares = {}
    for name, members in _MEMBERS.items():
        weight = members.to_numpy(float)
        weight[AGROFOREST] *= 0.4  # scattered trees
        blurred = gaussian_filter(weight[truth], _BLUR, mode="reflect")
        shares[str(name)] = np.bincount(index.ravel(), blurred.ravel(), minlength=cells**2) / count
    codes = igbp(shares)
    seen = np.unique(index)
    mistaken = seen[random.random(len(seen)) < _MISTAKEN]
    codes[mistaken] = codes[random.choice(seen, len(mistaken))]
    layers = np.zeros((4, 18), np.uint8)
    lccs = pd.read_csv(Path(__file__).with_name("lccs.csv"))
    layers[:, lccs["igbp"]] = lccs.to_numpy().T
    return layers[:, codes][:, index]


def igbp(shares: dict[str, NDArray[np.float64]]) -> NDArray[np.uint8]:
    """Return the IGBP code of cells from their share (N,) of each group; the first rule that holds wins."""
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
