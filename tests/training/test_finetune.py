import numpy as np
import pytest
import torch

from mosaic.evaluation.features import encode_splits, extract_features, fuse
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import fit_classifier
from mosaic.models.checkpoint import load_encoder
from mosaic.settings import TrialSettings
from mosaic.training import finetune as finetune_module
from mosaic.training.data import KnownLabels
from mosaic.training.finetune import classifier_scores, finetune, supervised_method
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import pretrain
from mosaic.utils.errors import CheckpointError

SHORT = TrialSettings(**{"steps": 3, "batch_scenes": 8, "learning_rate": 1e-4})


def test_fine_tuning_learns_and_scores_every_input(store, untrained, tmp_path):
    train, test = store.split_rows("train"), store.split_rows("test")
    settings = TrialSettings(**{"steps": 10, "batch_scenes": 16, "learning_rate": 1e-4})
    scores = finetune(store, untrained, train, {"test": test}, tmp_path / "tuned", settings)["test"]
    assert set(scores) == {"fused", "fused_without_s1", "fused_without_s2"}
    for values in scores.values():
        assert values.shape == (len(test), 5)
        assert values.min() >= 0 and values.max() <= 1
    prevalence = store.labels[test].mean()
    assert macro_ap(store.labels[test], scores["fused"]) > prevalence + 0.3


def test_tuning_starts_from_the_encoder_and_a_linear_probe_of_it(store, untrained, tmp_path, monkeypatch):
    seen = {}

    def spy(store, config, rows, folder):
        seen["module"] = Pretraining(config, store, KnownLabels(store, rows))
        raise InterruptedError

    monkeypatch.setattr(finetune_module, "pretrain", spy)
    rows = store.split_rows("train")[:40]
    with pytest.raises(InterruptedError):
        finetune(store, untrained, rows, {}, tmp_path / "tuned", SHORT)
    module = seen["module"]
    saved = load_encoder(untrained).encoder.state_dict()
    assert all(np.array_equal(saved[key], value) for key, value in module.encoder.state_dict().items())
    features = fuse(extract_features(store, untrained, rows))
    expected = fit_classifier(features, store.labels[rows])
    assert np.array_equal(module.objective.classifier.weight.detach(), expected.weight.detach())


def test_tuning_changes_the_weights_and_keeps_the_statistics_of_batch_normalisation(
    store, untrained, config, tmp_path
):
    rows = store.split_rows("train")
    tuned = pretrain(store, config("supervised_late", initial=str(untrained)), rows, tmp_path / "tuned")
    before, after = (load_encoder(folder).encoder.state_dict() for folder in (untrained, tuned))
    statistics = [key for key in before if key.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(np.array_equal(before[key], after[key]) for key in statistics)
    weights = [key for key in before if key.endswith(".weight") and before[key].ndim == 4]
    assert weights
    assert not any(np.array_equal(before[key], after[key]) for key in weights)


def test_scores_are_kept_and_weights_are_not(store, untrained, tmp_path, monkeypatch):
    train, test = store.split_rows("train"), store.split_rows("test")[:6]
    asked = {"test": test, "validation": store.split_rows("validation")[:3]}
    first = finetune(store, untrained, train[:20], asked, tmp_path / "tuned", SHORT)
    assert {path.name for path in (tmp_path / "tuned").iterdir()} == {".lock", "log.csv", "scores.npz"}
    monkeypatch.setattr(finetune_module, "pretrain", lambda *_: pytest.fail("tuned again"))
    again = finetune(store, untrained, train[:20], asked, tmp_path / "tuned", SHORT)
    assert first.keys() == again.keys() == {"test", "validation"}
    assert all(np.array_equal(first[name]["fused"], again[name]["fused"]) for name in first)


def test_keys_of_a_queue_start_from_the_encoder_as_well(store, config, untrained):
    known = KnownLabels(store, store.split_rows("train"))
    module = Pretraining(config("supcon_queue", seed=1, initial=str(untrained)), store, known)
    saved, keys = load_encoder(untrained).encoder, module.objective.key_encoder
    torch.testing.assert_close(dict(keys.state_dict()), dict(saved.state_dict()), rtol=0, atol=0)


def test_a_start_with_other_classes_gets_a_new_classifier(store, config, untrained, tmp_path):
    rows, test = store.split_rows("train"), store.split_rows("test")
    own = pretrain(store, config("supervised_late", monitor_every=0), rows, tmp_path / "own")
    store.class_names = (*store.class_names, "sea")
    del store.labels  # computed with the other classes
    trial = config("supervised_late", monitor_every=0, initial=str(own))
    assert load_encoder(pretrain(store, trial, rows, tmp_path / "again")).classifier.out_features == 6
    scores = finetune(store, own, rows, {"test": test}, tmp_path / "tuned", SHORT)["test"]
    assert scores["fused"].shape == (len(test), 6)


def test_another_architecture_to_start_from_is_refused(store, config, untrained, tmp_path):
    trial = config("supervised_s1", encoder="resnet18", initial=str(untrained))
    with pytest.raises(CheckpointError, match=r"expected .*'resnet18'.* found .*'light'"):
        pretrain(store, trial, store.split_rows("train"), tmp_path / "a")


def test_own_classifier_scores_what_it_was_trained_on(store, config, untrained, tmp_path):
    train, test = store.split_rows("train"), store.split_rows("test")
    folder = pretrain(store, config("supervised_late", monitor_every=0), train, tmp_path / "own")
    scores = classifier_scores(folder, encode_splits(store, folder, {"train": train, "test": test}))["test"]
    expected = load_encoder(folder).classify(fuse(extract_features(store, folder, test)))
    np.testing.assert_array_equal(scores["fused"], expected)
    assert set(scores) == {"fused", "fused_without_s1", "fused_without_s2"}
    with pytest.raises(CheckpointError, match="'random' trains no classifier"):
        classifier_scores(untrained, encode_splits(store, untrained, {"train": test}))


def test_method_that_tunes_each_kind_of_encoder():
    for streams, method in {("s1", "s2"): "late", ("s1",): "s1", ("s2",): "s2", ("early",): "early"}.items():
        assert supervised_method(streams) == f"supervised_{method}"
    with pytest.raises(CheckpointError, match="streams s3"):
        supervised_method(("s3",))
