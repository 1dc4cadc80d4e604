import re

import numpy as np
import pytest
import torch

from mosaic.common.errors import CheckpointError, RunError
from mosaic.method.encoders import build_backbone
from mosaic.packed.layout import BandLayout
from mosaic.packed.pack import pack
from mosaic.training.features import extract_features
from mosaic.training.pretrain import pretrain
from mosaic.training.published_weights import PUBLISHED, canonical, load_published

S1 = ("VV", "VH")
S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def layout_of(s2=S2):
    return BandLayout.of(S1, s2, dict.fromkeys((*S1, *s2), 32))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder of torch's hub with files in place of the published ones, under their true names."""
    from torchgeo.models import ResNet50_Weights

    torch.manual_seed(0)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    states = {}
    for sensor, member in zip(("s1", "s2"), PUBLISHED["moco"], strict=True):
        weights = getattr(ResNet50_Weights, member)
        backbone = build_backbone("resnet50", weights.meta["in_chans"], 32)
        states[sensor] = backbone.state_dict()
        torch.save(
            {**states[sensor], "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)},
            folder / weights.url.rsplit("/", 1)[-1],
        )
    return states


def test_weights_and_normalisation_are_the_published_ones(cache):
    encoder, layout = load_published("moco", layout_of(), 32)
    images = torch.rand(2, 13, 32, 32)
    plain = build_backbone("resnet50", 13, 32)
    plain.load_state_dict(cache["s2"])
    found = encoder.eval()({"s1": torch.rand(2, 2, 32, 32), "s2": images})
    torch.testing.assert_close(found["s2"], plain.eval()(images))
    assert layout.statistics["B8A"] == {"mean": 0.0, "std": 10000.0}
    assert layout.statistics["VH"] == pytest.approx({"mean": -20.26, "std": 5.91}, rel=1e-3)


def test_bands_in_another_order_go_where_they_belong(cache):
    shuffled = (*S2[5:], *S2[:5])
    encoder, _ = load_published("moco", layout_of(shuffled), 32)
    straight, _ = load_published("moco", layout_of(), 32)
    images = torch.rand(1, 13, 32, 32)
    reordered = images[:, [S2.index(band) for band in shuffled]]
    radar = torch.rand(1, 2, 32, 32)
    torch.testing.assert_close(
        encoder.eval()({"s1": radar, "s2": reordered})["s2"],
        straight.eval()({"s1": radar, "s2": images})["s2"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_wrong_band_set_is_refused(cache):
    twelve = tuple(band for band in S2 if band != "B10")
    with pytest.raises(CheckpointError, match="lack B10 and have none beside"):
        load_published("moco", layout_of(twelve), 32)


def test_they_come_out_of_a_study_as_they_went_in(cache, fake_archive, config, tmp_path):
    archive = fake_archive(tmp_path / "source", 40, s2_bands=S2, band_sizes=dict.fromkeys((*S1, *S2), 32))
    store = pack(archive, tmp_path / "packed", workers=1)
    settings = config("frozen_moco", image_size=32, encoder="resnet50")
    folder = pretrain(store, settings, np.empty(0, np.int64), tmp_path / "encoder")
    rows = store.split_rows("test")[:3]
    found = extract_features(store, folder, rows)
    plain = build_backbone("resnet50", 13, 32)
    plain.load_state_dict(cache["s2"])
    bands = store.read_bands(rows, S2)
    images = torch.from_numpy(np.stack([bands[band] for band in S2], axis=1)) / 10_000
    with torch.no_grad():
        expected = plain.eval()(images)
    np.testing.assert_allclose(found["s2"], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(RunError, match=re.escape(str(tmp_path / "checkpoints"))):
        load_published("moco", layout_of(), 32)


def test_band_names():
    assert [canonical(b) for b in ("B1", "B8a", "B8A", "B12", "VV", "B04")] == [
        "B01", "B8A", "B8A", "B12", "VV", "B04",
    ]  # fmt: skip
