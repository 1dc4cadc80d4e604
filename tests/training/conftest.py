"""A small packed store whose classes can be learned from either sensor."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mosaic.methods import METHODS
from mosaic.models.encoders import encoder_for
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack

torch.set_num_threads(1)

NAMES = ("water", "forest", "town", "field", "heath")
SIZES = {"VV": 24, "VH": 24, "B02": 24, "B03": 24, "B08": 24, "B05": 12, "B11": 12}


@dataclass
class FakeArchive:
    """Patches drawn from a seed; each class shifts every band by an amount of its own."""

    root: Path
    patches: int = 150
    name: str = "fake"
    class_names: tuple[str, ...] = NAMES
    class_colors: tuple[str, ...] = ("#0000ff", "#00ff00", "#ff0000", "#ffff00", "#ff00ff")
    s1_bands: tuple[str, ...] = ("VV", "VH")
    s2_bands: tuple[str, ...] = ("B02", "B03", "B05", "B08", "B11")
    band_sizes: dict[str, int] = field(default_factory=lambda: SIZES)

    def __post_init__(self):
        self.level1, self.confusable = {"all": NAMES}, {"dry": NAMES[1:3]}
        self.coarse = {"wet": NAMES[:1], "dry": NAMES[1:]}
        rng = np.random.default_rng(0)
        self._signature = {band: rng.normal(size=len(NAMES)) for band in self.band_sizes}
        number = np.arange(self.patches)
        # both dates of a place (patches 2k and 2k + 1) share their labels
        sets = (rng.random((self.patches // 2 + 1, len(NAMES))) < 0.35).repeat(2, 0)[: self.patches]
        sets[~sets.any(1), 0] = True
        self._labels = sets
        split = np.select([number // 2 % 5 < 3, number // 2 % 5 == 3], ["train", "validation"], "test")
        self.index = pd.DataFrame(
            {
                "patch_id": [f"patch_{i:03d}" for i in number],
                "labels": [[name for name, on in zip(NAMES, row, strict=True) if on] for row in sets],
                "split": split,
                "date": [f"2017-06-{1 + i % 2:02d}" for i in number],
                "scene": [f"T33UUP_{i // 10}" for i in number],
                "location": [f"T33UUP_{i // 2}" for i in number],
            }
        )

    def read(self, i):
        rng = np.random.default_rng(i)
        sample = {}
        for band, size in self.band_sizes.items():
            level = self._labels[i] @ self._signature[band]
            noise = rng.normal(0, 0.5, (size, size)) + rng.normal(0, 0.2)
            if band in self.s1_bands:
                sample[band] = (-12 + 2 * (level + noise)).astype(np.float32)
            else:
                sample[band] = np.clip(2000 + 300 * (level + noise), 1, 9000).astype(np.uint16)
        return sample

    def fingerprint(self):
        return "v1"


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """Folder of the packed data."""
    folder = tmp_path_factory.mktemp("training") / "packed"
    pack(FakeArchive(folder / "source"), folder, workers=1)
    return folder


@pytest.fixture
def store(packed):
    """90 training, 30 validation and 30 test patches of 24 pixels."""
    return PackedStore(packed)


@pytest.fixture
def fake_archive():
    """Return the class of archives, for other bands or sizes."""
    return FakeArchive


@pytest.fixture
def config():
    """Make the configuration of a small run."""
    from mosaic.training.pretrain import PretrainConfig

    def make(method, **changes):
        encoder = encoder_for(METHODS[method], "light", "vit_light") if method in METHODS else "light"
        small = {"image_size": 24, "steps": 6, "batch_scenes": 16, "projection_dim": 16, "monitor_every": 3}
        small["encoder"] = encoder
        return PretrainConfig(method, **(small | changes))

    return make
