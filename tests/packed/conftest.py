"""A small archive in memory: what the packer needs, and nothing of TorchGeo."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mosaic.archives.patches import PatchError

S2_SIZES = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 120),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60),
    **dict.fromkeys(("B01", "B09"), 20),
}
S2_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@dataclass
class FakeArchive:
    """Patches drawn from a seed; ``faults`` maps a patch number to what reading it does to the sample."""

    root: Path
    patches: int = 20
    seed: int = 0
    s2_bands: tuple[str, ...] = ("B02", "B05", "B01")
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
        self.band_sizes = {"VV": 120, "VH": 120} | {band: S2_SIZES[band] for band in self.s2_bands}
        number = np.arange(self.patches)
        names = np.array(self.class_names)
        self.index = pd.DataFrame(
            {
                "patch_id": [f"patch_{i:03d}" for i in number],
                "labels": [[str(names[i % 3])] + ([str(names[(i + 1) % 3])] if i % 2 else []) for i in number],
                "split": np.where(number % 5 < 3, "train", np.where(number % 5 == 3, "validation", "test")),
                "date": [f"2017-06-{1 + i % 3:02d}" for i in number],
                "scene": [f"T33UUP_{i % 3}" for i in number],
                "location": [f"T33UUP_{i // 2}" for i in number],
                "row": number * 7,
            }
        )

    def read(self, i):
        self.reads.append(i)
        rng = np.random.default_rng([self.seed, i])
        sample = {
            band: rng.integers(1, 9000, (self.band_sizes[band],) * 2, dtype=np.uint16) for band in self.s2_bands
        }
        sample |= {band: rng.normal(-12, 4, (120, 120)).astype(np.float32) for band in self.s1_bands}
        if i in self.faults:
            self.faults[i](sample)
        return sample

    def fingerprint(self):
        return self.version


def refuse(reason="broken"):
    """A fault that the archive itself finds."""

    def fault(_sample):
        raise PatchError("patch", Path("band.tif"), reason)

    return fault


@pytest.fixture
def archive(tmp_path):
    return FakeArchive(tmp_path / "source")


@pytest.fixture
def store(archive, tmp_path):
    from mosaic.packed.pack import pack

    return pack(archive, tmp_path / "packed", shard_size=8, workers=1)
