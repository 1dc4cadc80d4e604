import torch

from mosaic.losses.pairs import LabelledViews


def test_views_are_stacked_sensor_after_sensor_and_hidden_labels_are_zero():
    z = {"s1": torch.arange(4.0).view(2, 2, 1), "s2": torch.arange(4.0, 8).view(2, 2, 1)}
    views = LabelledViews.of(z, torch.tensor([[1, 0], [1, 1]]), torch.tensor([True, False]))
    assert views.embeddings.flatten().tolist() == list(range(8))
    assert views.scene.tolist() == [0, 1] * 4 and views.labelled.tolist() == [True, False] * 4
    assert views.labels.tolist() == [[1, 0], [0, 0]] * 4
