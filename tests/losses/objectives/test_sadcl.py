from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch.nn import functional

from mosaic.losses.objectives.sadcl import dual_contrast


def test_contrast_between_samples_is_supcon_over_active_features():
    z = functional.normalize(torch.randn(6, 3, 8, dtype=torch.float64), dim=-1)
    labels = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 0]]).double()
    samples, _ = dual_contrast(z, labels)
    where = labels.nonzero()
    active, label = z[where[:, 0], where[:, 1]], where[:, 1]
    theirs = SupConLoss(temperature=0.2)(active, label)
    # ours is a divergence: less the constant log |P(i)|
    positives = torch.stack([(label == one).sum() - 1 for one in label]).double()
    torch.testing.assert_close(samples, theirs - positives.log().mean())


def test_contrast_with_prototypes_by_hand():
    z = torch.tensor([[[1.0, 0], [0, 1]], [[0.6, 0.8], [0, 1]]])
    labels = torch.tensor([[1.0, 0], [1, 1]])
    _, prototypes = dual_contrast(z, labels)
    first = functional.normalize(torch.tensor([1.6, 0.8]), dim=0)
    second = torch.tensor([0.0, 1.0])
    cases = [(z[0, 0], 0), (z[1, 0], 0), (z[1, 1], 1)]
    expected = [
        -torch.log_softmax(torch.stack([x @ first, x @ second]) / 0.07, 0)[label] for x, label in cases
    ]
    torch.testing.assert_close(prototypes, torch.stack(expected).mean())


def test_absent_labels_are_no_prototypes():
    z = functional.normalize(torch.randn(3, 4, 8), dim=-1)
    labels = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]])
    fewer = dual_contrast(z[:, :2], labels[:, :2])
    for ours, theirs in zip(dual_contrast(z, labels), fewer, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("labels", [torch.zeros(3, 4), torch.eye(3, 4)])
def test_no_active_label_and_no_pair_are_finite(labels):
    z = functional.normalize(torch.randn(3, 4, 8, requires_grad=True), dim=-1)
    assert all(torch.isfinite(term) for term in dual_contrast(z, labels))


def test_terms_are_weighted_as_published(step, build):
    objective = build("sadcl")
    terms = objective(step)
    assert objective.weights == pytest.approx((100 * 5 / 1000, 50 * 5 / 1000))
    torch.testing.assert_close(terms["total"], terms["label"] + terms["classify"])


def test_hidden_labels_change_nothing(step, build):
    objective = build("sadcl").eval()
    plain = objective(step)["total"]
    maps = {s: m.detach().clone() for s, m in step.maps.items()}
    for values in maps.values():
        values[:, 6] = 100.0  # an unlabelled scene
    torch.testing.assert_close(objective(replace(step, maps=maps))["total"], plain)


def test_a_feature_for_each_label_reads_both_sensors(step, build):
    objective = build("sadcl")
    maps = {s: m.flatten(0, 1) for s, m in step.maps.items()}
    z = objective.label_features(maps)
    assert z.shape == (16, 5, 16)
    gradients = torch.autograd.grad(objective(step)["total"], list(step.maps.values()))
    assert all(g.abs().sum() > 0 for g in gradients)
