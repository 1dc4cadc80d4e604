"""Derive the compact label statistic that the simulator draws from, out of the official metadata table.

    python benchmarks/derive_label_statistics.py metadata.parquet

Writes mosaic/datasets/label_sets.npz: every distinct label set as a bit mask over the 19 classes
(bit i is class i of the nomenclature) and how many patches carry it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mosaic.datasets.nomenclature import CORINE

TARGET = Path(__file__).parents[1] / "mosaic" / "datasets" / "label_sets.npz"


def main(metadata: str) -> None:
    table = pd.read_parquet(metadata, columns=["labels"])
    sets = table.labels.map(tuple).value_counts()
    masks = [sum(1 << CORINE.classes.index(name) for name in names) for names in sets.index]
    np.savez_compressed(TARGET, masks=np.array(masks, np.uint32), counts=sets.to_numpy(np.int32))
    print(f"{len(sets)} label sets of {len(table)} patches in {TARGET} ({TARGET.stat().st_size} bytes)")


if __name__ == "__main__":
    main(sys.argv[1])
