import pytest
import timm
import torch

from mosaic.methods import METHODS
from mosaic.models.encoders import ENCODERS, Encoder, build_backbone, channels_of, check_encoder, timm_recipe
from mosaic.models.heads import Heads
from mosaic.utils.errors import SettingsError


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return {
        sensor: torch.randn(4, bands, 32, 32, generator=generator) for sensor, bands in (("s1", 2), ("s2", 5))
    }


@pytest.fixture(scope="module")
def late():
    torch.manual_seed(0)
    return Encoder("light", {"s1": 2, "s2": 5}, 32).eval()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("bands", [1, 12])
def test_every_encoder_takes_any_number_of_bands_and_says_its_width(name, bands):
    encoder = Encoder(name, {"s2": bands}, 48).eval()
    with torch.no_grad():
        features = encoder({"s2": torch.randn(2, bands, 48, 48)})["s2"]
    assert features.shape == (2, encoder.feature_dims["s2"])
    assert (features[0] != features[1]).any()


def test_light_encoder_is_light(late):
    parameters = sum(p.numel() for p in late.backbones["s2"].parameters())
    assert parameters < 1.3e6 and late.feature_dims == {"s1": 256, "s2": 256}


def test_weights_follow_from_the_seed(images):
    encoders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        encoders.append(Encoder("light", {"s1": 2}, 32).eval()(images)["s1"])
    assert torch.equal(encoders[0], encoders[1]) and not torch.equal(encoders[0], encoders[2])


def test_a_missing_sensor_is_left_out_and_its_features_stand_in(late, images):
    features = late(images)
    only = late({"s2": images["s2"]})
    assert set(features) == {"s1", "s2"} and set(only) == {"s2"}
    torch.testing.assert_close(only["s2"], features["s2"])
    torch.testing.assert_close(late.fused(only)[:, :256], torch.zeros(4, 256))
    torch.testing.assert_close(late.fused(features), torch.cat([features["s1"], features["s2"]], dim=1))


@pytest.mark.parametrize("missing", ["s1", "s2"])
def test_early_fusion_sees_the_mean_of_a_missing_sensor(missing, images, layout):
    encoder = Encoder(
        "light",
        channels_of(METHODS["supervised_early"], layout.select(("VV", "VH", *layout.sensor("s2").bands[:5]))),
        32,
    ).eval()
    mean = {**images, missing: torch.zeros_like(images[missing])}
    there = {sensor: image for sensor, image in images.items() if sensor != missing}
    assert encoder.in_channels == {"early": {"s1": 2, "s2": 5}}
    torch.testing.assert_close(encoder(there), encoder(mean))
    assert not torch.allclose(encoder(there)["early"], encoder(images)["early"])


def test_recipe_builds_the_same_architecture_with_plain_timm():
    for name in ("light", "vit_small"):
        ours = build_backbone(name, [3], 32)
        theirs = timm.create_model(**timm_recipe(name, 3, 32))
        theirs.load_state_dict(ours.state_dict())
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(theirs.eval()(images), ours.eval()(images))


@pytest.mark.parametrize(("name", "size"), [("test_vit", 32), ("test_resnet", 24), ("test_efficientnet", 40)])
def test_any_architecture_of_timm_will_do(name, size):
    encoder = Encoder(name, {"s2": 7}, size).eval()
    image = {"s2": torch.randn(2, 7, size, size)}
    pooled, _ = encoder.with_maps(image)
    assert encoder(image)["s2"].shape == pooled["s2"].shape == (2, encoder.feature_dims["s2"])
    theirs = timm.create_model(**timm_recipe(name, 7, size)).eval()
    theirs.load_state_dict(encoder.backbones["s2"].state_dict())
    torch.testing.assert_close(theirs(image["s2"]), encoder(image)["s2"])


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet-18", 32, "unknown encoder 'resnet-18': did you mean 'resnet18'"),
        ("nothing alike", 32, "take light, resnet18, resnet50, vit_light, vit_small, or a name timm knows"),
        ("vit_light", 50, "image_size is 50; encoder 'vit_light' cuts images into patches of 8 pixels"),
        ("vit_tiny_patch16_224", 40, "patches of 16 pixels: choose a multiple of 16"),
        ("coatnet_nano_rw_224", 48, "'coatnet_nano_rw_224' does not take 2 bands of 48 pixels .*: choose"),
    ],
)
def test_unfit_encoders_are_refused_before_anything_is_computed(layout, name, size, message):
    before = torch.get_rng_state()
    with pytest.raises(SettingsError, match=message):
        check_encoder(METHODS["simclr_s1"], name, layout, size)
    check_encoder(METHODS["mosaic"], "vit_light", layout, 48)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("method", "projections"),
    [
        ("random", set()),
        ("supervised_late", set()),
        ("simclr_s1", {"intra_s1"}),
        ("inter", {"inter_s1", "inter_s2"}),
        ("iai", {"intra_s1", "intra_s2", "inter_s1", "inter_s2"}),
        ("supcon", {"label"}),
        ("mosaic", {"intra_s1", "intra_s2", "inter_s1", "inter_s2", "label"}),
    ],
)
def test_heads_are_those_that_the_terms_need(method, projections):
    method = METHODS[method]
    heads = Heads(method, dict.fromkeys(method.streams, 8), classes=3)
    assert set(heads.projections) == projections
    assert (heads.classifier is not None) == (method.classify > 0)
    features = {stream: torch.randn(2, 4, 8) for stream in method.streams}
    logits = heads.classify(features)
    assert logits is None if heads.classifier is None else logits.shape == (2, 4, 3)


def test_batch_statistics_of_a_head_see_one_sensor():
    heads = Heads(METHODS["mosaic"], {"s1": 8, "s2": 8}, classes=3, projection_dim=4)
    s1, s2 = torch.randn(2, 6, 8), 5 + 3 * torch.randn(2, 6, 8)
    for term in ("intra", "inter", "label"):
        together = heads.project(term, {"s1": s1, "s2": s2})
        torch.testing.assert_close(heads.project(term, {"s1": s1})["s1"], together["s1"])
        torch.testing.assert_close(heads.project(term, {"s2": s2})["s2"], together["s2"])
        torch.testing.assert_close(together["s2"].norm(dim=-1), torch.ones(2, 6))
        assert together["s1"].shape == (2, 6, 4)


def test_sensors_share_the_label_head_only():
    heads = Heads(METHODS["mosaic"], {"s1": 8, "s2": 8}, classes=3)
    same = torch.randn(2, 6, 8)
    label, intra = (heads.project(term, {"s1": same, "s2": same}) for term in ("label", "intra"))
    torch.testing.assert_close(label["s1"], label["s2"])
    assert not torch.allclose(intra["s1"], intra["s2"])
