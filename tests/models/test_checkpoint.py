import json
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

import mosaic
from mosaic.models.checkpoint import layout_for, load_encoder, to_timm_state_dict
from mosaic.settings import TrialSettings
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import pretrain
from mosaic.transforms.views import Views
from mosaic.utils.errors import CheckpointError


@pytest.fixture(scope="module")
def trained(packed, tmp_path_factory):
    """A supervised encoder of two steps."""
    from mosaic.store.reader import PackedStore

    store = PackedStore(packed)
    small = {"image_size": 24, "steps": 2, "batch_scenes": 8, "monitor_every": 0}
    run = TrialSettings(method="supervised_late", **small)
    return pretrain(store, run, store.split_rows("train"), tmp_path_factory.mktemp("trained"))


@pytest.fixture
def copy(trained, tmp_path):
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit_card(folder, **changes):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))


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
        logits = modules[0].objective.heads.classify(expected)
    assert found.keys() == {"s1", "s2"}
    assert all(torch.equal(found[stream], expected[stream]) for stream in found)
    fused = torch.cat([found["s1"], found["s2"]], 1).numpy()
    np.testing.assert_allclose(loaded.classify(fused), torch.sigmoid(logits).numpy(), rtol=1e-6)


def test_embed_takes_physical_units(store, trained):
    encoder = mosaic.load_encoder(trained)
    rows = store.split_rows("test")[:4]
    bands = store.layout.bands
    physical = {band: torch.from_numpy(image) for band, image in store.read_bands(rows, bands).items()}
    physical["B05"], physical["B11"] = (
        torch.nn.functional.interpolate(physical[b][None], (24, 24), mode="nearest")[0]
        for b in ("B05", "B11")
    )
    s1 = torch.stack([physical[band] for band in store.layout.sensor("s1").bands], 1)
    s2 = torch.stack([physical[band] for band in store.layout.sensor("s2").bands], 1)
    found = encoder.embed({"s1": s1, "s2": s2})
    records = {name: torch.from_numpy(record) for name, record in store.read(rows).items()}
    with torch.no_grad():
        expected = encoder(Views(store.layout, 24).evaluation(records))
    width = encoder.encoder.feature_dims["s1"]
    torch.testing.assert_close(found[:, :width], expected["s1"], rtol=1e-3, atol=1e-4)
    assert found.shape == (4, 2 * width)
    assert torch.equal(encoder.embed({"s1": s1})[:, width:], torch.zeros(4, width))
    with pytest.raises(CheckpointError, match="s2 has 4 bands, this encoder expects B02, B03, B05, B08, B11"):
        encoder.embed({"s2": s2[:, :4]})


def test_backbone_loads_into_timm(trained):
    encoder = load_encoder(trained)
    image = torch.randn(2, 5, 24, 24)
    model = timm.create_model(**encoder.card["timm"]["s2"])
    model.load_state_dict(to_timm_state_dict(encoder, "s2"))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image), encoder({"s2": image})["s2"])
    with pytest.raises(CheckpointError, match="no stream 'early', only s1, s2"):
        to_timm_state_dict(encoder, "early")


def test_folder_without_card_or_weights(tmp_path, copy):
    with pytest.raises(CheckpointError, match=r"card\.json is missing"):
        load_encoder(tmp_path / "nothing")
    (copy / "encoder.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors is missing"):
        load_encoder(copy)


def test_one_flipped_bit_is_noticed(copy):
    weights = bytearray((copy / "encoder.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "encoder.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="damaged: SHA-256"):
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
    edit_card(copy, **changes)
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
