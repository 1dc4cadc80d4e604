import numpy as np
import pytest
import torch

from mosaic.evaluation import features as features_module
from mosaic.evaluation.features import extract_features, fuse, mean_features, representations
from mosaic.models.checkpoint import load_encoder
from mosaic.training.pretrain import pretrain
from mosaic.transforms.views import Views


@pytest.fixture
def late(store, config, tmp_path):
    return pretrain(store, config("random", monitor_every=0), [], tmp_path / "late")


def test_features_are_those_of_the_plain_patch_in_the_order_of_the_rows(store, late, monkeypatch):
    monkeypatch.setattr(features_module, "_BATCH", 4)
    rows = np.array([70, 3, 3, 149, 20, 8])
    found = extract_features(store, late, rows)
    encoder = load_encoder(late)
    records = {name: torch.from_numpy(record) for name, record in store.read(rows).items()}
    with torch.no_grad():
        expected = encoder(Views(store.layout, 24).evaluation(records))
    assert found.keys() == expected.keys() == {"s1", "s2"}
    for stream, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[stream].numpy(), rtol=1e-4, atol=1e-5)


def some(n=4):
    rng = np.random.default_rng(0)
    return {"s1": rng.random((n, 2), np.float32), "s2": rng.random((n, 3), np.float32)}


def test_fused_features_lie_side_by_side_and_a_missing_sensor_is_filled():
    features = some()
    inputs = representations(features, mean_features(features))
    assert set(inputs) == {"s1", "s2", "fused", "fused_without_s1", "fused_without_s2"}
    np.testing.assert_array_equal(inputs["fused"], np.concatenate([features["s1"], features["s2"]], 1))
    np.testing.assert_array_equal(inputs["fused"], fuse(features))
    without = inputs["fused_without_s1"]
    np.testing.assert_allclose(without[:, :2], np.tile(features["s1"].mean(0), (4, 1)))
    np.testing.assert_array_equal(without[:, 2:], features["s2"])


def test_inputs_follow_the_sensors_there_are():
    features = {**some(), "thermal": np.ones((4, 2), np.float32)}
    inputs = representations(features, mean_features(features))
    assert set(inputs) == {*features, "fused", *(f"fused_without_{sensor}" for sensor in features)}
    assert set(representations({"s2": features["s2"]}, {})) == {"s2"}


def test_early_fusion_is_encoded_again_without_each_sensor(store, config, tmp_path):
    train = store.split_rows("train")
    early = pretrain(store, config("supervised_early", steps=2, monitor_every=0), train, tmp_path)
    features = extract_features(store, early, train[:6])
    inputs = representations(features, mean_features(features))
    assert set(inputs) == {"fused", "fused_without_s1", "fused_without_s2"}
    images = Views(store.layout, 24).evaluation(
        {name: torch.from_numpy(record) for name, record in store.read(train[:6]).items()}
    )
    images["s1"].zero_()
    with torch.no_grad():
        expected = load_encoder(early)(images)["early"].numpy()
    np.testing.assert_allclose(inputs["fused_without_s1"], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(inputs["fused_without_s1"], inputs["fused"], atol=1e-3)
