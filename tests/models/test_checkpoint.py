import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import mosaic
from mosaic.models.checkpoint import layout_for, load_encoder, to_timm_state_dict
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import pretrain
from mosaic.transforms.views import Views
from mosaic.utils.errors import CheckpointError


@pytest.fixture(scope="module")
def trained(packed, tmp_path_factory):
    """A supervised encoder of two steps."""
    store = PackedStore(packed)
    small = {"image_size": 24, "steps": 2, "batch_scenes": 8, "monitor_every": 0}
    run = TrialSettings(method="supervised_late", **small)
    return pretrain(store, run, store.split_rows("train"), tmp_path_factory.mktemp("trained"))


@pytest.fixture
def copy(trained, tmp_path):
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_loaded_encoder_gives_the_features_of_the_one_that_was_saved(store, config, tmp_path, monkeypatch):
    modules = []
    original = Pretraining.__init__
    monkeypatch.setattr(Pretraining, "__init__", lambda self, *a: modules.append(self) or original(self, *a))
    pretrain(store, config("supervised_late", steps=2), store.split_rows("train"), tmp_path)
    images = {"s1": torch.randn(3, 2, 24, 24), "s2": torch.randn(3, 5, 24, 24)}
    loaded = load_encoder(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        expected, found = modules[0].encoder.eval()(images), loaded(images)
        logits = modules[0].objective.classifier(torch.cat([*expected.values()], 1))
    assert found.keys() == {"s1", "s2"}
    assert all(torch.equal(found[stream], expected[stream]) for stream in found)
    fused = torch.cat([found["s1"], found["s2"]], 1).numpy()
    np.testing.assert_allclose(loaded.classify(fused), torch.sigmoid(logits).numpy(), rtol=1e-6)


def test_embed_takes_physical_units(store, trained):
    encoder = mosaic.load_encoder(trained)
    rows, s1_bands = store.split_rows("test")[:4], store.layout.sensor("s1").bands
    values = store.read_bands(rows, s1_bands)
    s1 = torch.from_numpy(np.stack([values[band] for band in s1_bands], 1))
    records = {name: torch.from_numpy(record) for name, record in store.read(rows).items()}
    with torch.no_grad():
        expected = encoder(Views(store.layout, 24).evaluation(records))["s1"]
    embedded = encoder.embed({"s1": s1})
    width = encoder.encoder.feature_dims["s1"]
    torch.testing.assert_close(embedded[:, :width], expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(embedded[:, width:], torch.zeros(4, width))
    with pytest.raises(CheckpointError, match="s2 has 4 bands, this encoder expects B02, B03, B05, B08, B11"):
        encoder.embed({"s2": torch.zeros(1, 4, 24, 24)})


def test_backbone_loads_into_timm(trained):
    encoder = load_encoder(trained)
    image = torch.randn(2, 5, 24, 24)
    model = timm.create_model(**encoder.card["timm"]["s2"])
    model.load_state_dict(to_timm_state_dict(encoder, "s2"))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image), encoder({"s2": image})["s2"])
    with pytest.raises(CheckpointError, match="no stream 'early', only s1, s2"):
        to_timm_state_dict(encoder, "early")


def flip_a_bit(path):
    weights = bytearray(path.read_bytes())
    weights[-5] ^= 1
    path.write_bytes(weights)


@pytest.mark.parametrize(
    "file, damage, message",
    [
        ("card.json", Path.unlink, r"card\.json is missing"),
        ("encoder.safetensors", Path.unlink, r"encoder\.safetensors is missing"),
        ("encoder.safetensors", flip_a_bit, "damaged: SHA-256"),
    ],
)
def test_missing_and_damaged_files_are_named(copy, file, damage, message):
    damage(copy / file)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(copy)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"encoder": "resnet18"}, "another architecture than 'resnet18': (Missing key|size mismatch)"),
        ({"in_channels": {"s1": 2, "s2": 12}}, r"size mismatch for encoder.* 5, 3, 3\]\).*12, 3, 3\]\)"),
        ({"class_names": ["one"]}, r"size mismatch for classifier.weight: .*\[5, 512\].*\[1, 512\]"),
        ({"encoder": "resnet99"}, "cannot be loaded: unknown encoder 'resnet99': did you mean 'resnet50'"),
        ({"format": 99}, "has format 99, this code reads 2"),
    ],
)
def test_another_architecture_says_what_was_found_and_expected(copy, changes, message):
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | changes))
    with pytest.raises(CheckpointError, match=message):
        load_encoder(copy)


def test_other_bands_are_refused(store, trained):
    encoder = load_encoder(trained)
    assert layout_for(encoder, store.layout).statistics == store.layout.statistics
    edited = store.layout.select(set(store.layout.bands) - {"VH"})
    with pytest.raises(CheckpointError, match=r"trained on VV, VH, B02.* the data hold VV, B02"):
        layout_for(encoder, edited)


def test_training_needs_neither_torchgeo_nor_rasterio():
    script = """
import pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torchgeo", "rasterio"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import importlib, mosaic.training as package
names = [module.name for module in pkgutil.iter_modules(package.__path__)]
for name in names:
    importlib.import_module("mosaic.training." + name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7
