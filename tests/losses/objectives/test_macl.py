import pytest
import torch

from mosaic.losses.label_kernels import pair_weights
from mosaic.losses.objectives.macl import pair_temperatures, rarity


def test_rarity_is_0_for_the_most_common_label_and_1_for_the_rarest():
    assert rarity(torch.tensor([1.0, 1.5, 2.0])).tolist() == [0, 0.5, 1]
    assert rarity(torch.ones(3)).tolist() == [0, 0, 0]


def test_temperatures_by_hand():
    labels = torch.tensor([[1.0, 0], [1, 1], [0, 0]])
    tau = pair_temperatures(labels, torch.tensor([0.0, 1.0]), 0.1, 0.5, 0.4)
    # J_01 = 1/2; rho = 0, 1/2, 0
    assert tau[0, 1].item() == pytest.approx(0.1 * 1.25)
    assert tau[1, 0].item() == pytest.approx(0.1 * 1.25 * 0.8)
    assert tau[0, 2].item() == pytest.approx(0.1 * 1.5)


@pytest.mark.parametrize("spread, pull", [(0.0, 0.0), (0.5, 0.4)])
def test_it_is_the_idf_jaccard_term_with_a_temperature_for_each_pair(
    spread, pull, step, build, projected, dense_loss, small_blocks
):
    objective = build("macl", temperature_label=0.3, temperature_spread=spread, rarity_pull=pull)
    views = projected(objective, step)
    other_views = torch.eye(8).repeat(4, 4) > 0
    weights = torch.where(other_views, 1.0, pair_weights(views.labels, "idf_jaccard", idf=objective.idf))
    weights *= views.labelled[:, None]
    tau = pair_temperatures(views.labels, rarity(objective.idf), 0.3, spread, pull)
    assert spread or (tau == 0.3).all()
    torch.testing.assert_close(objective(step)["label"], dense_loss(views.embeddings, weights, tau))
