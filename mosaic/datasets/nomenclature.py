"""Classes of land cover with their codes, colours and groups, read from ``corine.csv`` and ``igbp.csv``.

Sources: the 19 classes of BigEarthNet (Sumbul et al. 2021, arXiv:2105.07921), CORINE Land Cover's level-3
codes, level-1 groups and official colours (Copernicus Land Monitoring Service; a class has the colour of its
most common code); the simplified IGBP scheme of SEN12MS (Schmitt and Wu 2021, arXiv:2104.00704), codes and
colours of the user guide of MCD12Q1 (collection 6).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Class index of pixels without a class: no data, or a code that no class covers.
IGNORE = 255
#: Classes that datasets share. CORINE tells how land is used, IGBP what grows on it: the match is by meaning.
_COARSE = ["Forest", "Shrubs and scattered trees", "Grassland", "Wetlands", "Croplands", "Urban", "Barren"]
_COARSE += ["Water"]


@dataclass(frozen=True)
class Nomenclature:
    """The classes of a dataset, in the order of its label vector."""

    classes: tuple[str, ...]
    colors: tuple[str, ...]  # hex
    codes: dict[str, tuple[int, ...]]  # class -> codes of the map
    class_of_code: NDArray[np.uint8]  # (65536,) class index of every code, or IGNORE
    level1: dict[str, tuple[str, ...]]  # coarse group -> classes
    confusable: dict[str, tuple[str, ...]]  # group of classes that are easily taken for each other -> classes
    coarse: dict[str, tuple[str, ...]]  # class that datasets share -> classes


def _read_nomenclature(name: str) -> Nomenclature:
    """Read a table of this folder: one row a class; several codes or groups are separated by ``|``."""
    with open(Path(__file__).with_name(name), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def groups(column: str) -> dict[str, tuple[str, ...]]:
        members: dict[str, tuple[str, ...]] = {}
        for row in rows:
            for group in filter(None, row[column].split("|")):
                members[group] = (*members.get(group, ()), row["name"])
        return members

    codes = {row["name"]: tuple(map(int, row["codes"].split("|"))) for row in rows}
    class_of_code = np.full(1 << 16, IGNORE, np.uint8)
    for index, values in enumerate(codes.values()):
        class_of_code[list(values)] = index
    return Nomenclature(
        tuple(codes),
        tuple(row["color"] for row in rows),
        codes,
        class_of_code,
        groups("level1"),
        groups("confusable"),
        {name: groups("coarse")[name] for name in _COARSE},
    )


#: Of BigEarthNet v2: 19 classes in TorchGeo's order (published models sort by alphabet).
CORINE = _read_nomenclature("corine.csv")
#: Of SEN12MS: 10 classes.
IGBP = _read_nomenclature("igbp.csv")
