from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss

from mosaic.losses.objectives.sadcl import prototype_contrast, sample_contrast

LABELS = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 0]]).double()


def test_contrast_between_samples_is_supcon_over_active_features(sphere):
    z, where = sphere(6, 3, 8, dtype=torch.float64), LABELS.nonzero()
    active, label = z[where[:, 0], where[:, 1]], where[:, 1]
    theirs = SupConLoss(temperature=0.2)(active, label)
    # ours is a divergence: less the constant log |P(i)|
    positives = torch.stack([(label == one).sum() - 1 for one in label]).double()
    torch.testing.assert_close(sample_contrast(z, LABELS), theirs - positives.log().mean())


def test_contrast_with_prototypes_by_hand(sphere):
    z, prototypes = sphere(6, 4, 8, dtype=torch.float64), sphere(4, 8, seed=1, dtype=torch.float64)
    labels = torch.cat([LABELS, torch.zeros(6, 1)], dim=1)  # nobody has the last
    labelled = torch.tensor([True] * 5 + [False])
    total = 0.0
    for label in range(4):
        logits = [(z[i, label] @ prototypes[label] / 0.07).exp() for i in range(5)]
        carriers = [e for e, has in zip(logits, labels[:5, label], strict=True) if has] or [max(logits)]
        total += sum(logits).log() - sum(carriers).log()
    ours = prototype_contrast(z, prototypes, labels * labelled[:, None], labelled)
    torch.testing.assert_close(ours, total / labels[:5].sum())


def test_terms_are_weighted_as_published(step, build):
    terms, objective = build("sadcl")(step), build("sadcl", contrast_weight=2.0)
    # 100 and 50 beside 1000 times the mean over labels
    assert objective.weights == pytest.approx((0.2, 0.1))
    torch.testing.assert_close(terms["total"], terms["label"] + terms["classify"])
    torch.testing.assert_close(objective(step)["label"], 2 * terms["label"])


def test_it_reads_both_sensors_and_no_unlabelled_scene(step, build):
    objective = build("sadcl").eval()
    plain = objective(step)["total"]
    gradients = torch.autograd.grad(plain, [*step.maps.values(), objective.prototypes])
    assert all(g.abs().sum() > 0 for g in gradients)
    assert objective.label_features({s: m.flatten(0, 1) for s, m in step.maps.items()}).shape == (16, 5, 16)
    maps = {s: m.detach().clone() for s, m in step.maps.items()}
    for values in maps.values():
        values[:, 6] = 100.0
    torch.testing.assert_close(objective(replace(step, maps=maps))["total"], plain)
