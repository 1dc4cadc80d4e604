import torch

from mosaic.losses.pairs import pairs_within, same_group, with_other_views

SCENE = torch.tensor([0, 1, 0, 1])


def test_other_members_of_a_group_weigh_one():
    expected = torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])
    assert torch.equal(same_group(SCENE), expected)
    assert torch.equal(same_group(SCENE, slice(1, 3)), expected[1:3])


def test_candidates_that_share_a_sensor_are_set_apart():
    weights, exclude = pairs_within(SCENE, torch.tensor([0, 0, 1, 1]))(slice(2, 4))
    assert torch.equal(weights, same_group(SCENE)[2:])
    assert exclude.tolist() == [[False, False, True, True]] * 2
    assert pairs_within(SCENE)(slice(0, 4))[1] is None


def test_other_views_weigh_one_and_unlabelled_rows_nothing():
    scene = torch.tensor([0, 1, 0, 1, -1])  # the last is of a queue, and no row
    kernel, labelled = torch.full((4, 5), 0.25), torch.tensor([True, False, True, False])
    expected = [[0, 0.25, 1, 0.25, 0.25], [0] * 5, [1, 0.25, 0, 0.25, 0.25], [0] * 5]
    for rows in (slice(0, 4), slice(2, 3)):
        assert with_other_views(kernel[rows].clone(), scene, labelled, rows).tolist() == expected[rows]
