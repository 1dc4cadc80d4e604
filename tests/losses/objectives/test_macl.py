import math

import pytest
import torch
from torch.nn import functional

from mosaic.losses.contrastive import weighted_contrastive_loss
from mosaic.losses.label_kernels import idf_jaccard, idf_weights
from mosaic.losses.objectives.base import ObjectiveSettings
from mosaic.losses.objectives.macl import AdaptiveTemperature, pair_temperatures, rarity
from mosaic.losses.terms import Temperatures
from mosaic.methods import get_method


def test_rarity_is_0_for_the_most_common_label_and_1_for_the_rarest():
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0]])
    omega = idf_weights(labels)
    torch.testing.assert_close(omega[2], torch.tensor(math.log(5 / 2) + 1))
    found = rarity(omega)
    assert found.tolist()[::2] == [0, 1]
    assert 0 < found[1] < 1
    assert rarity(torch.ones(3)).tolist() == [0, 0, 0]


def test_temperatures_by_hand():
    labels = torch.tensor([[1.0, 0], [1, 1], [0, 0]])
    found = pair_temperatures(labels, torch.tensor([0.0, 1.0]), 0.1, 0.5, 0.4)
    # J_01 = 1/2; rho = 0, 1/2, 0
    assert found[0, 1].item() == pytest.approx(0.1 * 1.25)
    assert found[1, 0].item() == pytest.approx(0.1 * 1.25 * 0.8)
    assert found[0, 2].item() == pytest.approx(0.1 * 1.5)


def test_without_spread_and_pull_it_is_the_plain_label_term(batch):
    settings = ObjectiveSettings(
        classes=5, projection_dim=8, temperatures=Temperatures(label=0.3), temperature_spread=0, rarity_pull=0
    )
    objective = AdaptiveTemperature(get_method("macl"), batch.dims, settings)
    found = objective(batch.step)["label"]
    z = torch.cat([v.flatten(0, 1) for v in objective.heads.project("label", batch.step.features).values()])
    labels = batch.step.labels.repeat(4, 1)
    own = torch.eye(6).repeat(4, 4).fill_diagonal_(0)
    weights = torch.where(own > 0, own, idf_jaccard(labels)) * batch.step.labelled.repeat(4)[:, None]
    torch.testing.assert_close(found, weighted_contrastive_loss(z, weights, 0.3))


def test_a_temperature_for_each_pair_is_that_pairs():
    z = functional.normalize(torch.randn(4, 3), dim=1)
    weights, tau = torch.rand(4, 4), torch.rand(4, 4) + 0.1
    total = 0.0
    for i in range(4):
        others = [j for j in range(4) if j != i]
        q = torch.stack([weights[i, j] for j in others])
        q = q / q.sum()
        log_p = torch.log_softmax(torch.stack([z[i] @ z[j] / tau[i, j] for j in others]), 0)
        total += (q * (q.log() - log_p)).sum().item() / 4
    assert weighted_contrastive_loss(z, weights, tau).item() == pytest.approx(total, rel=1e-5)


def test_a_large_batch_is_the_same_in_blocks(batch, monkeypatch):
    objective = AdaptiveTemperature(get_method("macl"), batch.dims, ObjectiveSettings(classes=5))
    plain = objective(batch.step)["label"]
    monkeypatch.setattr("mosaic.losses.contrastive.CPU_BLOCK", 100)
    monkeypatch.setattr("mosaic.losses.contrastive.summed_divergence", None)  # the plain form is out of reach
    torch.testing.assert_close(objective(batch.step)["label"], plain)
