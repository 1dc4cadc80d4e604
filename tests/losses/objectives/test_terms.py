"""The terms of methods against other implementations, hand-made cases and invariants."""

from dataclasses import replace

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.nn import functional

from mosaic.losses.label_kernels import KERNELS
from mosaic.losses.objectives.base import Step
from mosaic.losses.objectives.contrastive import inter_term, intra_term, pair_temperatures, rarity
from mosaic.methods import METHODS

EVERYTHING = replace(METHODS["mosaic"], intra=0.5, inter=2.0, label=3.0, classify=0.25)


def test_negatives_of_the_other_sensor_only_give_clip(sphere):
    z = {"s1": sphere(1, 7, 8), "s2": sphere(1, 7, 8, seed=1)}
    logits, target = z["s1"][0] @ z["s2"][0].T / 0.2, torch.arange(7)
    clip = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    torch.testing.assert_close(inter_term(z, 0.2, "clip"), clip / 2)


@pytest.mark.parametrize("sensors", [2, 3])
def test_nt_xent_within_each_sensor_and_between_any_two(sensors, sphere):
    z = {f"s{i}": sphere(2, 7, 8, seed=i) for i in range(sensors)}
    oracle = NTXentLoss(0.5)
    torch.testing.assert_close(intra_term(z, 0.5), sum(oracle(*views) for views in z.values()))
    views = list(z.values())
    between = [
        (oracle(views[i][0], views[j][0]) + oracle(views[i][1], views[j][1])) / 2
        for i in range(sensors)
        for j in range(i)
    ]
    torch.testing.assert_close(inter_term(z, 0.5), sum(between))


def test_total_is_the_weighted_sum_and_each_term_has_its_own_temperature(step, build):
    plain = build(EVERYTHING)(step)
    expected = sum(
        getattr(EVERYTHING, name) * plain[name] for name in ("intra", "inter", "label", "classify")
    )
    torch.testing.assert_close(plain["total"], expected)
    assert set(build("iai")(step)) == {"intra", "inter", "total"}
    for term in ("intra", "inter", "label"):
        other = build(EVERYTHING, **{f"temperature_{term}": 0.3})(step)
        assert {name for name in other if other[name] != plain[name]} == {term, "total"}


@pytest.mark.parametrize("method", ["supervised_late", "mimrf"])
def test_classification_counts_labelled_scenes_only(method, step, build):
    objective = build(method)
    logits = objective.classifier(torch.cat(list(step.features.values()), dim=-1))
    oracle = functional.binary_cross_entropy_with_logits(logits[:, :6], step.labels[:6].expand(2, -1, -1))
    torch.testing.assert_close(objective(step)["classify"], oracle)


def test_prototypes_belong_to_msc_and_learn(step, build):
    objective = build("mosaic", kernel="msc")
    objective(step)["total"].backward()
    assert objective.prototypes.shape == (5, 16) and objective.prototypes.grad.abs().sum() > 0
    assert build("mosaic").prototypes is None and build("iai", kernel="msc").prototypes is None


CASES = ["all unlabelled", "empty labels", "one scene", "one labelled", "collapsed"]
METHODS_OF = [(EVERYTHING, {"kernel": kernel}) for kernel in KERNELS] + [("sadcl", {}), ("supcon_queue", {})]


@pytest.mark.parametrize("unlabelled_negatives", [True, False])
@pytest.mark.parametrize(("method", "settings"), METHODS_OF)
@pytest.mark.parametrize("case", CASES)
def test_degenerate_batches_are_finite(case, method, settings, unlabelled_negatives, step, build):
    objective = build(method, unlabelled_negatives=unlabelled_negatives, **settings).eval()
    scenes = 1 if case == "one scene" else 8
    labels, labelled = step.labels[:scenes].clone(), step.labelled[:scenes].clone()
    labels *= case != "empty labels"
    labelled &= case != "all unlabelled"
    labelled[1:] &= case != "one labelled"
    used = step.maps if objective.uses_maps else step.features
    like = torch.ones_like if case == "collapsed" else torch.clone
    inputs = {s: like(value.detach()[:, :scenes]).requires_grad_() for s, value in used.items()}
    images = {s: image.unflatten(0, (2, 8))[:, :scenes].flatten(0, 1) for s, image in step.images.items()}
    values = objective(Step(images, inputs, inputs, labels * labelled[:, None], labelled))
    values["total"].backward()
    assert all(value.isfinite() and value >= -1e-6 for value in values.values())
    assert all(value.grad.isfinite().all() for value in inputs.values() if value.grad is not None)
    if case == "all unlabelled":
        assert values["label"] == 0


def test_temperatures_of_macl_by_hand():
    assert rarity(torch.tensor([1.0, 1.5, 2.0])).tolist() == [0, 0.5, 1]
    assert rarity(torch.ones(3)).tolist() == [0, 0, 0]
    tau = pair_temperatures(torch.tensor([[1.0, 0], [1, 1], [0, 0]]), torch.tensor([0.0, 1.0]), 0.1, 0.5, 0.4)
    # J_01 = 1/2; rho = 0, 1/2, 0
    found = [tau[0, 1].item(), tau[1, 0].item(), tau[0, 2].item()]
    assert found == pytest.approx([0.1 * 1.25, 0.1 * 1.25 * 0.8, 0.1 * 1.5])
