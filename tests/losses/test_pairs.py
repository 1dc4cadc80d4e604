import torch

from mosaic.losses.pairs import LabelledViews, label_pairs


def test_views_are_stacked_sensor_after_sensor_and_hidden_labels_are_zero():
    z = {"s1": torch.arange(4.0).view(2, 2, 1), "s2": torch.arange(4.0, 8).view(2, 2, 1)}
    views = LabelledViews.of(z, torch.tensor([[1, 0], [1, 1]]), torch.tensor([True, False]))
    assert views.embeddings.flatten().tolist() == list(range(8))
    assert views.scene.tolist() == [0, 1] * 4 and views.labelled.tolist() == [True, False] * 4
    assert views.labels.tolist() == [[1, 0], [0, 0]] * 4


def test_other_views_weigh_one_and_unlabelled_rows_nothing():
    known = torch.tensor([[1.0, 1], [0, 0], [1, 1], [0, 0]])
    views = LabelledViews(
        torch.empty(4, 0), known, torch.tensor([True, False, True, False]), torch.tensor([0, 1, 0, 1])
    )
    # of the queue, whose first entry shows a scene that shares one of two labels
    pairs = label_pairs(views, "jaccard", queue_labels=torch.tensor([[1.0, 0], [0, 0]]))
    expected = torch.tensor([[0, 0, 1, 0, 0.5, 0], [0.0] * 6, [1, 0, 0, 0, 0.5, 0], [0.0] * 6])
    for rows in (slice(0, 4), slice(2, 3)):
        weights, exclude = pairs(rows)
        weights.diagonal(rows.start).zero_()  # an anchor with itself does not count
        assert torch.equal(weights, expected[rows]) and exclude is None
    _, exclude = label_pairs(views, "msc", prototype_alpha=1.0, unlabelled_negatives=False)(slice(0, 4))
    assert exclude.tolist() == [False, True, False, True, False, False]
