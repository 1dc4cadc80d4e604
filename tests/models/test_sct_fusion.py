import timm
import torch

from mosaic.models.encoders import FUSIONS, Encoder, timm_recipe
from mosaic.models.sct_fusion import ClassTokenFusion

RECIPE = {
    "model_name": "vit_tiny_patch16_224", "patch_size": 8, "img_size": 32, "embed_dim": 48, "depth": 3,
    "num_heads": 3, "num_classes": 0,
}  # fmt: skip


def test_with_an_identity_for_one_sensor_it_is_that_sensors_transformer():
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


def test_every_block_hands_the_fused_token_to_both_sensors():
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


def test_as_an_encoder_it_sees_stacked_bands():
    for name, vit in FUSIONS.items():
        assert timm_recipe(vit, 5, 16)["model_name"].startswith("vit")
        if name == "sct_small":
            continue  # 20 million parameters of the same code
        encoder = Encoder(name, {"early": {"s1": 2, "s2": 5}}, image_size=16)
        out = encoder({"s1": torch.randn(3, 2, 16, 16), "s2": torch.randn(3, 5, 16, 16)})
        assert out["early"].shape == (3, encoder.feature_dims["early"])
        assert encoder({"s1": torch.randn(3, 2, 16, 16)})["early"].shape == out["early"].shape


def test_maps_pool_to_the_features():
    for name in ("light", "vit_light"):
        encoder = Encoder(name, {"s1": 2, "s2": 3}, image_size=32).eval()
        images = {"s1": torch.randn(2, 2, 32, 32), "s2": torch.randn(2, 3, 32, 32)}
        pooled, maps = encoder.with_maps(images)
        for stream, features in encoder(images).items():
            torch.testing.assert_close(pooled[stream], features, rtol=1e-4, atol=1e-5)
            assert maps[stream].shape[:2] == features.shape
            if name == "light":
                torch.testing.assert_close(maps[stream].mean((2, 3)), features, rtol=1e-4, atol=1e-5)
