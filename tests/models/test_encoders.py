import numpy as np
import pytest
import timm
import torch

from mosaic.methods import METHODS
from mosaic.models.encoders import (
    ENCODERS,
    ClassTokenFusion,
    Encoder,
    channels_of,
    check_architecture,
    check_encoder,
    encoder_for,
    timm_recipe,
)
from mosaic.utils.errors import SettingsError


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return {
        sensor: torch.randn(4, bands, 32, 32, generator=generator) for sensor, bands in (("s1", 2), ("s2", 5))
    }


def test_a_missing_sensor_is_left_out_and_its_features_stand_in(images):
    late = Encoder("light", {"s1": 2, "s2": 5}, 32).eval()
    features, only = late(images), late({"s2": images["s2"]})
    assert sum(p.numel() for p in late.backbones["s2"].parameters()) < 1.3e6  # it is called light
    assert set(features) == {"s1", "s2"} and set(only) == {"s2"}
    torch.testing.assert_close(only["s2"], features["s2"])
    torch.testing.assert_close(late.fused(only)[:, :256], torch.zeros(4, 256))
    torch.testing.assert_close(late.fused(features), torch.cat([features["s1"], features["s2"]], dim=1))


@pytest.mark.parametrize(("name", "missing"), [("light", "s1"), ("light", "s2"), ("sct_light", "s2")])
def test_early_fusion_sees_the_mean_of_a_missing_sensor(name, missing, images, layout):
    bands = ("VV", "VH", *layout.sensor("s2").bands[:5])
    encoder = Encoder(name, channels_of(METHODS["supervised_early"], layout.select(bands)), 32).eval()
    mean = {**images, missing: torch.zeros_like(images[missing])}
    available = {sensor: image for sensor, image in images.items() if sensor != missing}
    assert encoder.in_channels == {"early": {"s1": 2, "s2": 5}}
    torch.testing.assert_close(encoder(available), encoder(mean))
    assert not torch.allclose(encoder(available)["early"], encoder(images)["early"])


@pytest.mark.parametrize(
    ("name", "size", "bands"),
    [
        *((name, 48, 12) for name in ENCODERS),
        *(("light", 48, 1), ("resnet18", 48, 1), ("vit_light", 48, 1), ("test_vit", 32, 1)),
        *(("test_resnet", 24, 12), ("test_efficientnet", 40, 1)),
    ],
)
def test_any_architecture_takes_any_bands_pools_its_maps_and_is_that_of_plain_timm(name, size, bands):
    encoder, image = Encoder(name, {"s2": bands}, size).eval(), torch.randn(2, bands, size, size)
    features, (pooled, maps) = encoder({"s2": image})["s2"], encoder.with_maps({"s2": image})
    assert features.shape == maps["s2"].shape[:2] == (2, encoder.feature_dims["s2"])
    assert (features[0] != features[1]).any()
    torch.testing.assert_close(pooled["s2"], features, rtol=1e-4, atol=1e-5)
    if name == "light":
        torch.testing.assert_close(maps["s2"].mean((2, 3)), features, rtol=1e-4, atol=1e-5)
    plain = timm.create_model(**timm_recipe(name, bands, size)).eval()
    plain.load_state_dict(encoder.backbones["s2"].state_dict())
    torch.testing.assert_close(plain(image), features)


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


RECIPE = {
    "model_name": "vit_tiny_patch16_224", "patch_size": 8, "img_size": 32, "embed_dim": 48, "depth": 3,
    "num_heads": 3, "num_classes": 0,
}  # fmt: skip


def test_sct_with_an_identity_for_one_sensor_is_that_sensors_transformer():
    """A fusion map that passes on the first sensor's token alone leaves its transformer as it was."""
    torch.manual_seed(0)
    model = ClassTokenFusion(RECIPE, (2, 3)).eval()
    for fusion in model.fusions:
        torch.nn.init.zeros_(fusion.bias)
        fusion.weight.data = torch.eye(48, 96)
    alone = timm.create_model(pretrained=False, in_chans=2, **RECIPE).eval()
    alone.load_state_dict(model.sensors[0].state_dict())
    images = torch.randn(2, 5, 32, 32)
    token = alone.forward_features(images[:, :2])[:, 0]
    # the last block hands the first sensor's token to both; each stream's own norm follows
    before_norm = []
    alone.norm.register_forward_pre_hook(lambda _, args: before_norm.append(args[0][:, 0]))
    alone.forward_features(images[:, :2])
    expected = (token + model.sensors[1].norm(before_norm[0])) / 2
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


def test_every_block_of_sct_hands_the_fused_token_to_both_sensors():
    model = ClassTokenFusion(RECIPE, (2, 3)).eval()
    seen = []
    for vit in model.sensors:
        for depth, block in enumerate(vit.blocks):
            block.register_forward_pre_hook(
                lambda _, args, depth=depth: seen.append((depth, args[0][:, 0].clone()))
            )
    model(torch.randn(2, 5, 32, 32))
    for depth in (1, 2):
        first, second = (token for d, token in seen if d == depth)
        torch.testing.assert_close(first, second)


def test_band_statistics_are_numpys_and_belong_to_their_method_alone(images):
    encoder = Encoder("statistics", {"s1": 2, "s2": 5}, 32)
    assert encoder.feature_dims == {"s1": 10, "s2": 25} and not list(encoder.parameters())
    pixels = images["s2"].flatten(2).numpy()
    expected = [pixels.mean(-1), pixels.std(-1), *np.quantile(pixels, [0.1, 0.5, 0.9], axis=-1)]
    np.testing.assert_allclose(encoder(images)["s2"], np.concatenate(expected, axis=1), atol=1e-5)
    assert encoder_for(METHODS["band_statistics"], "light", "vit_light") == "statistics"
    with pytest.raises(SettingsError, match="needs one of the encoders statistics"):
        check_architecture(METHODS["band_statistics"], "light")
