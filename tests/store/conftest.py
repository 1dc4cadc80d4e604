"""A small archive in memory: what the packer needs, and nothing of TorchGeo."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.store.writer import pack

S2_SIZES = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 120),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60),
    **dict.fromkeys(("B01", "B09"), 20),
}


@dataclass
class FakeArchive:
    """Patches drawn from a seed; ``faults`` maps a patch number to what reading does to its sample."""

    root: Path
    patches: int = 20
    s2_bands: tuple[str, ...] = ("B01", "B02", "B05")
    version: str = "v1"
    faults: dict = field(default_factory=dict)
    reads: list[int] = field(default_factory=list)
    name: str = "fake"
    class_names: tuple[str, ...] = ("water", "forest", "town")
    class_colors: tuple[str, ...] = ("#0000ff", "#00ff00", "#ff0000")
    s1_bands: tuple[str, ...] = ("VV", "VH")

    def __post_init__(self):
        self.level1 = {"wet": ("water",), "dry": ("forest", "town")}
        self.confusable = {"dry": ("forest", "town")}
        self.coarse = {"wet": ("water",), "dry": ("forest", "town")}
        self.band_sizes = {"VV": 120, "VH": 120} | {band: S2_SIZES[band] for band in self.s2_bands}
        number = np.arange(self.patches)
        names = self.class_names
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
        sample = {
            band: rng.integers(1, 9000, (self.band_sizes[band],) * 2, dtype=np.uint16)
            for band in self.s2_bands
        }
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
