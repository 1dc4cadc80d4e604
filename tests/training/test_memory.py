import pytest
import torch

from mosaic.models.encoders import Encoder
from mosaic.settings import StudySettings, TrialSettings
from mosaic.training.memory import step_size, trials_per_gpu

SIZE, SCENES = 32, 8


@pytest.mark.parametrize("name", ["light", "resnet18", "vit_light"])
def test_the_estimate_is_near_what_autograd_keeps(name):
    trial = TrialSettings(**{"encoder": name, "image_size": SIZE, "batch_scenes": SCENES})
    encoder, kept = Encoder(name, {"s1": {"s1": 2}, "s2": {"s2": 13}}, SIZE), {}
    images = {sensor: torch.randn(2 * SCENES, bands, SIZE, SIZE) for sensor, bands in (("s1", 2), ("s2", 13))}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = encoder(images)
    weights = [p.untyped_storage() for p in encoder.parameters()]
    of_weights = {storage.data_ptr() for storage in weights}
    kept = sum(size for place, size in kept.items() if place not in of_weights) + 4 * sum(map(len, weights))
    assert features and 0.8 < step_size(trial)[0] / kept < 1.5


def test_as_many_trials_as_fit_share_a_gpu(monkeypatch):
    settings = StudySettings()
    assert trials_per_gpu(settings) == 1  # no GPU
    assert trials_per_gpu(settings.replace(trials_per_gpu=3)) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free, expected in ((40, 4), (6, 2), (1, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free * 2**30, 0))
        assert trials_per_gpu(settings) == expected
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (400 * 2**30, 0))
    large = settings.replace(encoder="resnet50", image_size=120, batch_scenes=512)
    assert trials_per_gpu(large) == 1  # its steps fill the GPU
