"""A hand-made archive in the true format of BigEarthNet v2: what TorchGeo's own fixtures are not.

Float32 SAR in dB, Sentinel-2 at native 120/60/20 pixels, uint16 reference maps with CORINE codes, corners of
real tiles, ``s1_name`` without zero padding.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mosaic.datasets.registry import simulate_archive
from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.methods import METHODS
from mosaic.models.encoders import encoder_for
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.store.record_format import BandLayout
from mosaic.store.writer import pack

_SIZES = {"B01": 20, "B02": 120, "B03": 120, "B04": 120, "B05": 60, "B06": 60}
_SIZES |= {"B07": 60, "B08": 120, "B8A": 60, "B09": 20, "B11": 60, "B12": 60}
#: CORINE code -> class: one code each of six classes, with a reflectance (DN) and a backscatter (dB).
CODES = {
    112: ("Urban fabric", 1500, -6.0),
    211: ("Arable land", 2500, -12.0),
    231: ("Pastures", 3000, -13.0),
    312: ("Coniferous forest", 800, -10.0),
    324: ("Transitional woodland, shrub", 1800, -11.0),
    512: ("Inland waters", 150, -21.0),
}
#: A code that no class covers: in the corner of every third map.
UNLABELLED = 122
#: Split -> tile, EPSG code and upper-left corner as in real files; a tile a split, so no place is in two.
TILES = {
    "train": ("33UUP", 32633, 300000, 5400000),
    "validation": ("29SND", 32629, 499980, 4400040),
    "test": ("35VPK", 32635, 600000, 7000020),
}
DATES = ("20170613", "20180204")


def write_tif(path: Path, array: np.ndarray, corner: tuple[float, float], epsg: int) -> None:
    """Write one band as the official files are: single, uncompressed, 0 declared as no data if optical."""
    from mosaic.datasets.simulation.produce import write_geotiff  # imports rasterio

    options = {"nodata": 0} if array.dtype == np.uint16 else {}
    write_geotiff(path, array[None], corner, epsg, 1200 / len(array), **options)


def write_archive(root: Path, patches: int, bands: Sequence[str], with_maps: bool) -> None:
    """Write ``patches`` pairs, half of them train, a quarter validation and a quarter test."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(patches):
        split = ("train", "validation", "train", "test")[i % 4]
        tile, epsg, left, top = TILES[split]
        column, row, date = i // 4, 3 + i % 4, DATES[i // 4 % 2]
        patch_id = f"S2A_MSIL2A_{date}T101031_N9999_R022_T{tile}_{column:02d}_{row:02d}"
        s1_name = f"S1A_IW_GRDH_1SDV_{date}T165043_{tile}_{column}_{row}"
        corner = (left + 1200 * column, top - 1200 * row)
        codes = random.choice(list(CODES), size=2, replace=False)
        upper = np.broadcast_to(np.arange(120)[:, None] < 40 + 10 * (i % 5), (120, 120))
        for band in bands:
            step = 120 // _SIZES[band]
            level = np.where(upper[::step, ::step], CODES[codes[0]][1], CODES[codes[1]][1])
            noisy = np.clip(level + random.normal(0, 50, level.shape), 1, 10000).astype(np.uint16)
            folder = root / "BigEarthNet-S2" / patch_id.rsplit("_", 2)[0] / patch_id
            write_tif(folder / f"{patch_id}_{band}.tif", noisy, corner, epsg)
        for band, shift in (("VV", 0.0), ("VH", -6.5)):
            level = np.where(upper, CODES[codes[0]][2], CODES[codes[1]][2]) + shift
            noisy = (level + random.normal(0, 1.5, level.shape)).astype(np.float32)
            folder = root / "BigEarthNet-S1" / s1_name.rsplit("_", 3)[0] / s1_name
            write_tif(folder / f"{s1_name}_{band}.tif", noisy, corner, epsg)
        if with_maps:
            codes_map = np.where(upper, codes[0], codes[1]).astype(np.uint16)
            codes_map[:5, :5] = UNLABELLED if i % 3 == 0 else codes_map[:5, :5]
            folder = root / "Reference_Maps" / patch_id.rsplit("_", 2)[0] / patch_id
            write_tif(folder / f"{patch_id}_reference_map.tif", codes_map, corner, epsg)
        labels = sorted(CODES[code][0] for code in codes)
        rows.append((patch_id, labels, split, s1_name, f"S2A_MSIL2A_{date}T101031_{column}_{row}"))
    metadata = pd.DataFrame(rows, columns=["patch_id", "labels", "split", "s1_name", "s2v1_name"])
    constant = {"country": "Austria", "contains_seasonal_snow": False, "contains_cloud_or_shadow": False}
    metadata.assign(**constant).to_parquet(root / "metadata.parquet", index=False)


@pytest.fixture(scope="session")
def official_archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that copies an archive in the official layout, written once a session, to a root."""

    @functools.cache
    def written(*options) -> Path:
        root = tmp_path_factory.mktemp("official")
        write_archive(root, *options)
        return root

    def make(root: Path, patches=12, bands=tuple(_SIZES), with_maps=True) -> Path:
        return Path(shutil.copytree(written(patches, bands, with_maps), root, dirs_exist_ok=True))

    return make


@pytest.fixture(scope="session")
def shared_archive(official_archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of 24 pairs that no test changes."""
    return official_archive(tmp_path_factory.mktemp("shared"), patches=24)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that simulates 24 patches of a layout, once a session; no test changes them."""

    @functools.cache
    def simulate(layout: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:  # a third of the pixels of SEN12MS
            patch.setattr("mosaic.datasets.simulation.sen12ms._GRID", 2)
            patch.setattr("mosaic.datasets.simulation.sen12ms._SCENE_SIDE", 384)
            return simulate_archive(layout, tmp_path_factory.mktemp("simulated") / layout, 24, seed=3)

    return simulate


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real pairs and labels beside the checkout; skip the test where there is none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.exists():
        pytest.skip("the real data are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def run_smoke(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that runs the whole sequence at the smoke profile, always in the same place.

    It takes arguments of ``mosaic run`` and returns what the terminal shows, but for what libraries print on
    standard error.
    """
    # of two threads, one waits for a core that the other tests have
    environment = {**os.environ, "MOSAIC_ROOT": str(tmp_path_factory.mktemp("study")), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str, **parameters: Any) -> str:
        values = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
        changes = [word for value in values for word in ("-p", value)]
        command = [sys.executable, "-m", "mosaic", "run", "--profile", "smoke", *arguments, *changes]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def smoke_run(run_smoke) -> Path:
    """Return the folder of a whole run at the smoke profile, made once a session."""
    return Path(run_smoke().split()[-1]).parent


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Return a function that waits until a condition holds, and fails when it never does."""

    def wait(condition: Callable[[], Any], seconds: float = 120) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit, "it never came"
            time.sleep(0.02)

    return wait


# Packed data whose classes can be learned from either sensor.

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

    @property
    def sensors(self):
        return sentinel1(self.s1_bands), sentinel2(self.s2_bands)

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


@pytest.fixture(scope="session")
def fake_archive():
    """Return the class of archives, for other bands or sizes."""
    return FakeArchive


@pytest.fixture(scope="session")
def config():
    """Return the settings of a small run of a method, with changes."""

    def make(method, **changes):
        encoder = encoder_for(METHODS[method], "light", "vit_light") if method in METHODS else "light"
        small = {"image_size": 24, "steps": 6, "batch_scenes": 16, "projection_dim": 16, "monitor_every": 3}
        return TrialSettings(**(small | {"method": method, "encoder": encoder} | changes))

    return make


@pytest.fixture(scope="session")
def untrained(packed, config, tmp_path_factory):
    """Folder of an encoder of both sensors with random weights, which no test changes."""
    from mosaic.training.pretrain import pretrain  # imports Lightning, which takes seconds

    trial = config("random", monitor_every=0)
    return pretrain(PackedStore(packed), trial, [], tmp_path_factory.mktemp("encoder") / "random")


# A layout in the true sizes of BigEarthNet, and labels with every awkward case.


@pytest.fixture
def layout():
    # every band its own statistics, so that a mix-up of bands shows
    s1 = {band: {"mean": -12.0 - 6 * i, "std": 5.0 + i} for i, band in enumerate(("VV", "VH"))}
    s2 = {band: {"mean": 300.0 + 150 * i, "std": 400.0 + 50 * i} for i, band in enumerate(_SIZES)}
    return BandLayout((sentinel1(), sentinel2(tuple(s2))), _SIZES | dict.fromkeys(s1, 120), s1 | s2)


@pytest.fixture
def labels():
    """Ten scenes, six classes: two without labels, one with nearly all, two alike, and a class nobody has."""
    sets = [{0}, {0, 1}, {0, 1}, {2}, {1, 2, 3}, set(), {0, 1, 2, 3, 4}, set(), {4}, {1, 4}]
    return torch.tensor([[float(c in chosen) for c in range(6)] for chosen in sets])
