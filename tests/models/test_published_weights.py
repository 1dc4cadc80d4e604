import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.hub import HASH_REGEX
from torchgeo import models

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.evaluation.features import extract_features
from mosaic.models import published_weights
from mosaic.models.checkpoint import load_encoder, save_encoder
from mosaic.models.encoders import build_backbone
from mosaic.models.foundation import FOUNDATION
from mosaic.models.published_weights import PUBLISHED, check_published, load_published
from mosaic.store.prefetch import read_tensors
from mosaic.store.record_format import BandLayout
from mosaic.training.pretrain import pretrain
from mosaic.transforms.views import Views
from mosaic.utils.errors import CheckpointError, RunError, SettingsError

S1 = ("VV", "VH")
S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def layout_of(s2=S2):
    return BandLayout((sentinel1(S1), sentinel2(s2)), dict.fromkeys((*S1, *s2), 32))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of torch's hub for published files, empty."""
    torch.manual_seed(0)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder.parent))
    # files in place of the published ones have the checksums that their names promise
    monkeypatch.setattr(published_weights, "sha256_file", lambda path: HASH_REGEX.search(path.name)[1])
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_resnets_see_what_torchgeo_would_show_them(name, hub):
    """Whatever the order of bands."""
    published = {}
    for sensor, member in zip(("s1", "s2"), PUBLISHED[name], strict=True):
        weights = getattr(models.ResNet50_Weights, member)
        published[sensor] = weights, build_backbone("resnet50", [weights.meta["in_chans"]], 32).eval()
        head = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
        file = hub / weights.url.rsplit("/", 1)[-1]
        torch.save(published[sensor][1].state_dict() | head, file)
    encoder, layout = load_published(name, layout_of((*S2[5:], *S2[:5])), 224)
    for sensor in layout.sensors:
        weights, backbone = published[sensor.name]
        theirs = [b if b in S1 else f"B{b[1:].upper().zfill(2)}" for b in weights.meta["bands"]]
        image = 10 + 3000 * torch.rand(1, len(theirs), 256, 256)
        mean, std = (
            torch.tensor([layout.statistics[band][key] for band in sensor.bands]).view(-1, 1, 1)
            for key in ("mean", "std")
        )
        ours = image[:, [theirs.index(band) for band in sensor.bands], 16:240, 16:240]
        with torch.no_grad():
            expected = backbone(weights.transforms(image))
            found = encoder.eval()({sensor.name: (ours - mean) / std})[sensor.name]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def transformers(hub, monkeypatch):
    """Small CROMA and DOFA in place of the base ones, and files of their weights under the true names."""
    croma = {"encoder_dim": 32, "encoder_depth": 2, "num_heads": 16}
    dofa = {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
    monkeypatch.setattr(models, "croma_base", lambda **options: models.CROMA(**croma, **options))
    monkeypatch.setattr(models, "dofa_base_patch16_224", lambda **options: models.DOFA(**dofa, **options))
    whole = {"croma": models.CROMA(**croma, image_size=32), "dofa": models.DOFA(**dofa, num_classes=0)}
    parts = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    nested = {part: getattr(whole["croma"], part).state_dict() for part in parts}
    mae = {name: value for name, value in whole["dofa"].state_dict().items() if "fc_norm" not in name}
    published = (models.CROMABase_Weights.CROMA_VIT, models.DOFABase16_Weights.DOFA_MAE)
    for weights, state in zip(published, (nested, mae), strict=True):
        torch.save(state, hub / weights.url.rsplit("/", 1)[-1])
    return {name: model.eval() for name, model in whole.items()}


@pytest.mark.parametrize("bands", [S2, tuple(b for b in S2 if b != "B10"), (*S2[5:], *S2[:5])])
def test_croma_sees_twelve_bands_scaled_as_its_authors_do(transformers, bands, tmp_path):
    encoder, layout = load_published("croma", layout_of(bands), 32)
    card = {"layout": asdict(layout), "method": "frozen_croma", "class_names": []}
    save_encoder(tmp_path, encoder, card)
    images = {"s1": 2 * torch.randn(3, 2, 32, 32), "s2": 2 * torch.randn(3, len(bands), 32, 32)}
    twelve = images["s2"][:, [bands.index(band) for band in S2 if band != "B10"]]
    # from mean - 2 deviations to mean + 2 deviations
    radar, optical = (torch.clip((image + 2) / 4, 0, 1) for image in (images["s1"], twelve))
    with torch.no_grad():
        found, expected = load_encoder(tmp_path).encoder(images), transformers["croma"](radar, optical)
    for sensor, name in (("s1", "sar_GAP"), ("s2", "optical_GAP")):
        torch.testing.assert_close(found[sensor], expected[name], rtol=1e-3, atol=1e-4)


def test_a_run_with_dofa_tells_it_the_wavelengths(transformers, store, config, tmp_path):
    folder, rows = pretrain(store, config("frozen_dofa", monitor_every=0), [], tmp_path), np.arange(3)
    found = extract_features(store, folder, rows)
    images = Views(store.layout, 24).evaluation(read_tensors(store, rows))
    wavelengths = {"s1": [3.75, 3.75], "s2": [0.49, 0.56, 0.705, 0.842, 1.61]}
    for sensor, image in images.items():
        large = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear")
        with torch.no_grad():
            expected = transformers["dofa"].forward_features(large, wavelengths[sensor])
        np.testing.assert_allclose(found[sensor], expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "bands", "size", "message"),
    [
        ("softcon", tuple(b for b in S2 if b != "B10"), 32, "lack B10 and have none in addition"),
        ("croma", S2[:4], 32, r"CROMA expects B01, .*pack those bands"),
        ("croma", S2, 36, "image_size is 36; CROMA takes multiples of 8"),
    ],
)
def test_what_they_cannot_see_is_refused_before_anything_is_read(
    hub, monkeypatch, name, bands, size, message
):
    monkeypatch.setattr(published_weights, "_state", lambda *_: pytest.fail("weights were read"))
    for refuse in (check_published, load_published):
        with pytest.raises((CheckpointError, SettingsError), match=message):
            refuse(name, layout_of(bands), size)
    for sound in ("moco", "decur", "softcon", "croma", "dofa"):
        check_published(sound, layout_of(), 32)


def test_missing_files_are_named(hub, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(RunError, match=re.escape(str(hub))):
        load_published("moco", layout_of(), 32)


class Hostile(str):
    """Leaves a file of this name when it is unpickled."""

    def __reduce__(self):
        return open, (str(self), "w")


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", [*PUBLISHED, *FOUNDATION])
def test_code_in_a_file_of_weights_is_not_run(name, checked, hub, tmp_path, monkeypatch):
    """It is no tensor, whatever its checksum; where the name has one, it is not even opened."""
    if checked:
        monkeypatch.undo()
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub.parent))
    if name in PUBLISHED:
        weights = getattr(models.ResNet50_Weights, PUBLISHED[name][0])
    else:
        enum, member = FOUNDATION[name].weights
        weights = getattr(getattr(models, enum), member)
    file = hub / weights.url.rsplit("/", 1)[-1]
    torch.save({"conv1.weight": Hostile(tmp_path / "executed")}, file)
    message = "is damaged, its SHA-256" if checked and name != "softcon" else "cannot be downloaded or read"
    with pytest.raises(RunError, match=f"{re.escape(file.name)} {message}|{message}") as caught:
        load_published(name, layout_of(), 32)
    assert not (tmp_path / "executed").exists() and "False" not in str(caught.value)
