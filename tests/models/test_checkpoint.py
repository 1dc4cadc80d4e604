import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from mosaic.models.checkpoint import layout_for, load_encoder, to_timm_state_dict
from mosaic.store.reader import PackedStore
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import pretrain
from mosaic.transforms.views import Views
from mosaic.utils.errors import CheckpointError
from mosaic.utils.files import sealed, sha256_file, unsealed, write_json


@pytest.fixture(scope="module")
def trained(packed, config, tmp_path_factory):
    """A supervised encoder of two steps."""
    store, trial = PackedStore(packed), config("supervised_late", steps=2, monitor_every=0)
    return pretrain(store, trial, store.split_rows("train"), tmp_path_factory.mktemp("trained"))


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def test_loaded_encoder_gives_the_features_of_the_one_that_was_saved(store, config, tmp_path, monkeypatch):
    modules = []
    original = Pretraining.__init__
    monkeypatch.setattr(Pretraining, "__init__", lambda self, *a: modules.append(self) or original(self, *a))
    pretrain(store, config("supervised_late", steps=2), store.split_rows("train"), tmp_path)
    images = {"s1": torch.randn(3, 2, 24, 24), "s2": torch.randn(3, 5, 24, 24)}
    loaded = load_encoder(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        expected, found = modules[0].encoder.eval()(images), loaded.encoder(images)
        logits = modules[0].objective.classifier(torch.cat([*expected.values()], 1))
    assert found.keys() == {"s1", "s2"}
    assert all(torch.equal(found[stream], expected[stream]) for stream in found)
    fused = torch.cat([found["s1"], found["s2"]], 1).numpy()
    np.testing.assert_allclose(loaded.classify(fused), torch.sigmoid(logits).numpy(), rtol=1e-6)


@pytest.fixture
def images(store, trained):
    """Sensor -> images of four test patches in physical units, up-sampled to 24 pixels."""
    rows, images = store.split_rows("test")[:4], {}
    for sensor in store.layout.sensors:
        values = store.read_bands(rows, sensor.bands)
        grown = [values[band].repeat(24 // values[band].shape[-1], -1) for band in sensor.bands]
        images[sensor.name] = np.stack([g.repeat(24 // g.shape[-2], -2) for g in grown], 1)
    return images


def test_embed_takes_physical_units(store, trained, images):
    encoder = load_encoder(trained)
    records = {n: torch.from_numpy(r) for n, r in store.read(store.split_rows("test")[:4]).items()}
    with torch.no_grad():
        expected = encoder.encoder(Views(store.layout, 24).evaluation(records))["s1"]
    embedded = torch.from_numpy(encoder.embed(s1=images["s1"].astype(">f8")))  # as rasterio may give them
    width = encoder.encoder.feature_dims["s1"]
    torch.testing.assert_close(embedded[:, :width], expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(embedded[:, width:], torch.zeros(4, width))
    assert torch.equal(embedded, encoder.embed(s1=torch.from_numpy(images["s1"])))
    flat = {"s1": np.full((1, 2, 9, 9), -25.0), "s2": np.full((1, 5, 9, 9), 80)}  # open water
    empty = {name: np.zeros_like(image) for name, image in images.items()}
    for sound in (images, flat, empty):
        assert np.isfinite(encoder.embed(**sound)).all()


def test_a_band_that_never_varied_is_centred_as_in_training(store, trained, images):
    encoder = load_encoder(trained)
    statistics = {**store.layout.statistics, "VH": {"mean": -18.0, "std": 0.0}}
    encoder.layout = replace(store.layout, statistics=statistics)
    records = {n: torch.from_numpy(r) for n, r in store.read(store.split_rows("test")[:4]).items()}
    expected = Views(encoder.layout, 24).evaluation(records)["s1"]
    torch.testing.assert_close(encoder.normalise(s1=images["s1"])["s1"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("sensor", "change", "message"),
    [
        ("s1", lambda x: 10 ** (x / 10), "s1 looks like linear power: this encoder expects dB"),
        ("s1", lambda x: np.round(100 * x), "s1 looks like multiples of 0.01 dB: this encoder expects dB"),
        ("s1", lambda x: (x - x.mean()) / x.std(), "s1 looks like standard deviations from the mean"),
        ("s1", lambda x: abs(x), "s1 looks like dB without their sign: this encoder expects dB"),
        ("s2", lambda x: np.rint(x * 0.0255), "s2 looks like 8 bits: this encoder expects DN"),
        ("s2", lambda x: x / 10_000, r"s2 looks like reflectance in \[0, 1\]: this encoder expects DN"),
        ("s2", lambda x: x / 100, "s2 looks like reflectance in percent: this encoder expects DN"),
        ("s2", lambda x: x[:0], r"s2 has shape \(0, 5, 24, 24\), expected \(\[images,\] bands"),
        ("s2", lambda x: (x - 2000) / 300, "s2 looks like standard deviations from the mean"),
        ("s2", lambda x: np.where(x > 2300, np.nan, x), "s2 holds NaN or infinite values"),
        ("s2", lambda x: x[:, :4], r"shape \(4, 4, 24, 24\), expected .* 5 bands: B02, B03, B05, B08, B11"),
        ("S2", lambda x: x, "one or more of s1, s2, found S2"),
        ("s2", lambda x: x[0, 0], r"s2 has shape \(24, 24\), expected \(\[images,\] bands, height, width\)"),
    ],
)
def test_images_of_another_unit_or_shape_are_recognised(trained, images, sensor, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_encoder(trained).embed(**{sensor: change(images[sensor.lower()].astype(float))})
    with pytest.raises(CheckpointError, match="found nothing"):
        load_encoder(trained).embed()
    with pytest.raises(CheckpointError, match=r"different numbers of images, \{'s1': 3, 's2': 4\}"):
        load_encoder(trained).embed(**{**images, "s1": images["s1"][:3]})


def test_backbone_loads_into_timm(trained, images):
    encoder = load_encoder(trained)
    model = timm.create_model(**encoder.card["timm"]["s2"])
    model.load_state_dict(to_timm_state_dict(encoder, "s2"))
    with torch.no_grad():
        found = model.eval()(encoder.normalise(s2=images["s2"])["s2"])
    np.testing.assert_allclose(found, encoder.embed(**images)[:, -found.shape[1] :], atol=1e-5)
    with pytest.raises(CheckpointError, match="no stream 'early', only s1, s2"):
        to_timm_state_dict(encoder, "early")


def edit(folder, **changes):
    """Change a card and seal it anew."""
    card = json.loads((folder / "card.json").read_text())
    write_json(folder / "card.json", sealed({**unsealed(card), **changes}))


def plant(folder):
    """Put a pickle that would leave a file in place of the weights, with its checksum in the card."""
    weights = folder / "encoder.safetensors"
    weights.write_bytes(f"cbuiltins\nopen\n(V{folder / 'executed'}\nVw\ntR.".encode())
    edit(folder, weights={"sha256": sha256_file(weights)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: edit(folder, format=99), r"card.json .* \(format 99, this code reads 3\): train"),
        (lambda folder: edit(folder, encoder="resnet18"), "safetensors .* encoder 'resnet18' .*Missing key"),
        (lambda folder: edit(folder, class_names=["one"]), r"mismatch for classifier.weight: .*\[5, 512\]"),
        (lambda folder: edit(folder, encoder="resnet99"), "unknown encoder 'resnet99': did you mean"),
        (plant, "encoder.safetensors cannot be read"),
    ],
)
def test_edited_and_hostile_files_are_named_and_not_run(copy, change, message):
    """tests/faults has damaged ones."""
    change(copy)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(copy)
    assert not (copy / "executed").exists()


def test_other_bands_are_refused(store, trained):
    encoder = load_encoder(trained)
    assert layout_for(encoder, store.layout).statistics == store.layout.statistics
    edited = store.layout.select(set(store.layout.bands) - {"VH"})
    with pytest.raises(CheckpointError, match=r"trained on VV, VH, B02.* the data hold VV, B02"):
        layout_for(encoder, edited)
