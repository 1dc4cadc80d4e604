"""What ``docs/extend.md`` shows is what runs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mosaic.datasets.archive import Archive
from mosaic.datasets.registry import DATASETS, open_archive, simulate_archive
from mosaic.losses.label_kernels import KERNELS
from mosaic.losses.objectives.base import LOSSES
from mosaic.methods import METHODS
from mosaic.models.checkpoint import load_encoder
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.training.pretrain import pretrain
from mosaic.utils import plugins
from mosaic.utils.errors import ArchiveError
from mosaic.utils.plugins import load_plugins, plugin_hashes

SMALL = {"image_size": 16, "steps": 8, "batch_scenes": 12, "projection_dim": 8, "monitor_every": 0}
PAGE = Path(__file__).parents[1] / "docs" / "extend.md"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Load the Python blocks of the page as a file, and forget them afterwards."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    registries = (LOSSES, KERNELS, METHODS, DATASETS)
    before = [dict(registry) for registry in registries]
    file = tmp_path / "my_losses.py"
    file.write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    )
    load_plugins([file])
    yield file
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_methods_of_the_page_learn(plugin, store, tmp_path):
    store.index.loc[store.split_rows("train")[12:], "split"] = "unused"  # so that steps see the same scenes
    for method, kernel in (("attraction", "jaccard"), ("one_layer", "dice"), ("mosaic_dice", "jaccard")):
        trial = TrialSettings(**SMALL, method=method, kernel=kernel, learning_rate=5e-3)
        pretrain(store, trial, store.split_rows("train"), tmp_path / method)
        total = pd.read_csv(tmp_path / method / "log.csv")["total"].dropna()
        assert len(total) == 8 and total[-3:].mean() < 0.94 * total[:3].mean()


def test_dataset_of_the_page_is_packed_and_three_sensors_are_trained_on(plugin, tmp_path):
    random, folder = np.random.default_rng(0), tmp_path / "archive"
    folder.mkdir()
    sizes, offset = DATASETS["my_patches"].band_sizes, {"T": 280, "VV": -10, "VH": -15}
    rows = []
    for i in range(12):
        drawn = {band: offset.get(band, 1000) + random.normal(0, 5, (n, n)) for band, n in sizes.items()}
        images = {b: v.astype(np.uint16 if b in ("B02", "B08") else np.float32) for b, v in drawn.items()}
        np.savez(folder / f"p{i}.npz", **images)
        split = ("train", "train", "validation", "test")[i % 4]
        labels = [["forest"], ["water"], ["forest", "water"]][i % 3]
        rows.append({"patch_id": f"p{i}", "labels": labels, "split": split, "date": "2020-06-01"})
        rows[-1] |= {"tile": f"t{i}", "scene": f"s{i}", "location": f"l{i}"}
    pd.DataFrame(rows).to_parquet(folder / "index.parquet")
    archive = open_archive("my_patches", folder)
    declared = {*vars(Archive), *Archive.__annotations__} - set(dir(archive))
    assert {name for name in declared if not name.startswith("_")} == {"check", "notes"}  # of verify alone
    pack(archive, tmp_path / "packed", workers=1)
    with pytest.raises(ArchiveError, match="no simulation"):
        simulate_archive("my_patches", tmp_path / "another", 12, 0)
    store = PackedStore(tmp_path / "packed")
    trial = TrialSettings(**SMALL | {"batch_scenes": 6, "steps": 1}, method="three")
    pretrain(store, trial, store.split_rows("train"), tmp_path / "three")
    encoder = load_encoder(tmp_path / "three")
    assert tuple(encoder.encoder.feature_dims) == ("s1", "s2", "thermal")


def test_results_of_a_plugin_are_cached_under_its_content(plugin):
    (content,) = plugin_hashes(LOSSES["attraction"], KERNELS["dice"], LOSSES["vicreg"])
    assert content and not plugin_hashes(LOSSES["vicreg"], KERNELS["jaccard"])
