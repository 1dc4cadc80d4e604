import numpy as np
import pytest
import torch

from mosaic.evaluation import features as features_module
from mosaic.evaluation.features import encode_splits, extract_features
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import knn_scores
from mosaic.models.checkpoint import load_encoder
from mosaic.models.encoders import Encoder
from mosaic.training.pretrain import pretrain
from mosaic.transforms.views import Views


def images(store, rows):
    records = {name: torch.from_numpy(record) for name, record in store.read(rows).items()}
    return Views(store.layout, 24).evaluation(records)


def test_features_are_those_of_the_plain_patch_in_the_order_of_the_rows(store, untrained, monkeypatch):
    monkeypatch.setattr(features_module, "_BATCH", 4)
    rows = np.array([70, 3, 3, 149, 20, 8])
    found = extract_features(store, untrained, rows)
    encoder = load_encoder(untrained).encoder
    with torch.no_grad():
        expected = encoder(images(store, rows))
    assert found.keys() == expected.keys() == {"s1", "s2"}
    for stream, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[stream].numpy(), rtol=1e-4, atol=1e-5)


def test_a_missing_sensor_is_filled_with_its_training_mean(store, untrained):
    rows = {"train": np.arange(6), "test": np.arange(6, 10)}
    streams = {split: extract_features(store, untrained, chosen) for split, chosen in rows.items()}
    inputs = encode_splits(store, untrained, rows)["test"]
    assert set(inputs) == {"s1", "s2", "fused", "fused_without_s1", "fused_without_s2"}
    s1, s2 = streams["test"]["s1"], streams["test"]["s2"]
    np.testing.assert_array_equal(inputs["fused"], np.concatenate([s1, s2], 1))
    filled = np.tile(streams["train"]["s1"].mean(0), (4, 1))
    np.testing.assert_allclose(inputs["fused_without_s1"], np.concatenate([filled, s2], 1), rtol=1e-5)


def test_inputs_follow_the_sensors_there_are(store, untrained, monkeypatch):
    streams = {sensor: np.ones((4, 2), np.float32) for sensor in ("s1", "s2", "thermal")}
    monkeypatch.setattr(features_module, "extract_features", lambda *_: streams)
    inputs = encode_splits(store, untrained, {"train": np.arange(4)})["train"]
    assert set(inputs) == {*streams, "fused", *(f"fused_without_{sensor}" for sensor in streams)}
    del streams["s1"], streams["thermal"]
    assert set(encode_splits(store, untrained, {"train": np.arange(4)})["train"]) == {"s2"}


def test_early_fusion_is_encoded_again_without_each_sensor(store, config, tmp_path):
    train = store.split_rows("train")
    early = pretrain(store, config("supervised_early", steps=2, monitor_every=0), train, tmp_path)
    inputs = encode_splits(store, early, {"train": train[:6]})["train"]
    assert set(inputs) == {"fused", "fused_without_s1", "fused_without_s2"}
    without = images(store, train[:6])
    without["s1"].zero_()
    with torch.no_grad():
        expected = load_encoder(early).encoder(without)["early"].numpy()
    np.testing.assert_allclose(inputs["fused_without_s1"], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(inputs["fused_without_s1"], inputs["fused"], atol=1e-3)


def test_features_have_the_precision_of_training(store, config, tmp_path, monkeypatch):
    used, exact = [], features_module.autocast
    monkeypatch.setattr(features_module, "autocast", lambda *asked: used.append(asked[1]) or exact(*asked))
    for precision in ("32", "bf16-mixed"):
        trial = config("iai", steps=1, monitor_every=0).replace(precision=precision)
        extract_features(store, pretrain(store, trial, [], tmp_path / precision), np.arange(4))
    assert used == ["32", "bf16-mixed"]


@pytest.mark.parametrize("name", ["light", "resnet18", "vit_light"])
def test_features_in_bf16_are_within_two_hundredths_of_their_spread(store, name):
    torch.manual_seed(0)
    encoder = Encoder(name, {"s1": {"s1": 2}, "s2": {"s2": 5}}, 24)
    shown = images(store, np.arange(90))
    for layer in encoder.modules():
        layer.momentum = 1.0  # of batch normalisation, which sees the images once
    with torch.no_grad():
        encoder.train()(shown)
        exact = encoder.eval().fused(encoder(shown))
        with torch.autocast("cpu", torch.bfloat16):  # as on a GPU
            rounded = encoder.fused(encoder(shown)).float()
    spread = exact.std(0).mean()
    assert (rounded - exact).abs().mean() < 0.02 * spread
    votes = [knn_scores(f[:60].numpy(), store.labels[:60], f[60:].numpy()) for f in (exact, rounded)]
    assert np.ptp([macro_ap(store.labels[60:90], each) for each in votes]) < 0.02
