"""A small archive in memory: what the packer needs, and nothing of TorchGeo."""

import numpy as np
import pandas as pd
import pytest

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.store.writer import pack


class FakeArchive:
    """Patches drawn from a seed; ``faults`` maps a patch number to what reading does to its sample."""

    name, version = "fake", "v1"
    class_names, class_colors = ("water", "forest", "town"), ("#0000ff", "#00ff00", "#ff0000")
    s1_bands, s2_bands = ("VV", "VH"), ("B01", "B02", "B05")

    def __init__(self, root, faults=None):
        self.root, self.faults, self.reads = root, faults or {}, []
        self.confusable = {"dry": ("forest", "town")}
        self.level1 = self.coarse = self.confusable | {"wet": ("water",)}
        self.band_sizes = {"VV": 120, "VH": 120, "B01": 20, "B02": 120, "B05": 60}
        number, names = np.arange(20), self.class_names
        self.index = pd.DataFrame(
            {
                "patch_id": [f"patch_{i:03d}" for i in number],
                "labels": [[names[i % 3]] + ([names[(i + 1) % 3]] if i % 2 else []) for i in number],
                "split": np.select([number % 5 < 3, number % 5 == 3], ["train", "validation"], "test"),
                "date": [f"2017-06-{1 + i % 3:02d}" for i in number],
                "scene": [f"T33UUP_{i % 3}" for i in number],
                "location": [f"T33UUP_{i // 2}" for i in number],
                "row": number * 7,  # of the tile's grid, as BigEarthNet has it
            }
        )

    @property
    def sensors(self):
        return sentinel1(self.s1_bands), sentinel2(self.s2_bands)

    def sample(self, i):
        rng = np.random.default_rng(i)
        sizes = {band: (self.band_sizes[band],) * 2 for band in self.s2_bands}
        sample = {band: rng.integers(1, 9000, size, dtype=np.uint16) for band, size in sizes.items()}
        return sample | {band: rng.normal(-12, 4, (120, 120)).astype(np.float32) for band in self.s1_bands}

    def read(self, i):
        self.reads.append(i)
        sample = self.sample(i)
        if i in self.faults:
            self.faults[i](sample)
        return sample

    def fingerprint(self):
        return self.version


@pytest.fixture
def archive(tmp_path):
    return FakeArchive(tmp_path / "source")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "packed"


@pytest.fixture
def store(archive, folder):
    """Twenty patches in shards of 8, 8 and 4."""
    return pack(archive, folder, shard_size=8, workers=1)
