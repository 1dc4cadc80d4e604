"""Derive the label sets that the simulation draws from, out of the official metadata table.

Usage: python benchmarks/derive_label_statistics.py metadata.parquet

Every distinct set is a bit mask over the 19 classes, bit i class i of the nomenclature, with its patches.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mosaic.datasets.nomenclature import CORINE

TARGET = Path(__file__).parents[1] / "mosaic" / "datasets" / "label_sets.npz"


if __name__ == "__main__":
    table = pd.read_parquet(sys.argv[1], columns=["labels"])
    sets = table.labels.map(tuple).value_counts()
    masks = [sum(1 << CORINE.classes.index(name) for name in names) for names in sets.index]
    np.savez_compressed(TARGET, masks=np.array(masks, np.uint32), counts=sets.to_numpy(np.int32))
    print(f"{len(sets)} label sets of {len(table)} patches in {TARGET} ({TARGET.stat().st_size} bytes)")
