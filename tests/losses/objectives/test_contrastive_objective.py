"""The terms of methods against other implementations, hand-made cases and invariants."""

from dataclasses import replace

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.nn import functional
from torch.nn.functional import normalize

from mosaic.losses.label_kernels import KERNELS, msc_weights, pair_weights
from mosaic.losses.objectives.base import Step
from mosaic.losses.objectives.contrastive import inter_term, intra_term, pair_temperatures, rarity
from mosaic.losses.pairs import LabelledViews
from mosaic.methods import METHODS

OTHER_VIEWS = torch.eye(8).repeat(4, 4) > 0  # of the scene of an anchor
EVERYTHING = replace(METHODS["mosaic"], intra=0.5, inter=2.0, label=3.0, classify=0.25)


class TestTerms:
    def test_negatives_of_the_other_sensor_only_give_clip(self, sphere):
        z = {"s1": sphere(1, 7, 8), "s2": sphere(1, 7, 8, seed=1)}
        logits, target = z["s1"][0] @ z["s2"][0].T / 0.2, torch.arange(7)
        clip = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        torch.testing.assert_close(inter_term(z, 0.2, "clip"), clip / 2)

    @pytest.mark.parametrize("sensors", [2, 3])
    def test_nt_xent_within_each_sensor_and_between_any_two(self, sensors, sphere):
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

    def test_total_is_the_weighted_sum_of_the_terms(self, step, build):
        terms = build(EVERYTHING)(step)
        names = ("intra", "inter", "label", "classify")
        torch.testing.assert_close(
            terms["total"], sum(getattr(EVERYTHING, name) * terms[name] for name in names)
        )
        assert set(build("iai")(step)) == {"intra", "inter", "total"}

    def test_each_term_has_its_own_temperature(self, step, build):
        plain = build("mosaic")(step)
        for term in ("intra", "inter", "label"):
            other = build("mosaic", **{f"temperature_{term}": 0.3})(step)
            assert {name for name in other if other[name] != plain[name]} == {term, "total"}

    @pytest.mark.parametrize("method", ["supervised_late", "mimrf"])
    def test_classification_counts_labelled_scenes_only(self, method, step, build):
        objective = build(method)
        logits = objective.classifier(torch.cat(list(step.features.values()), dim=-1))
        oracle = functional.binary_cross_entropy_with_logits(logits[:, :6], step.labels[:6].expand(2, -1, -1))
        torch.testing.assert_close(objective(step)["classify"], oracle)


class TestLabelTerm:
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_order_of_scenes_does_not_matter(self, kernel, step, build):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
        mixed = replace(
            step,
            features={s: f[:, order] for s, f in step.features.items()},
            labels=step.labels[order],
            labelled=step.labelled[order],
        )
        objective = build("mosaic", kernel=kernel)
        torch.testing.assert_close(objective(mixed), objective(step))

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_labels_outside_the_budget_are_never_seen(self, kernel, step, build):
        objective = build("mosaic", kernel=kernel)
        hidden = torch.where(step.labelled[:, None], step.labels, 1 - step.labels)
        assert objective(replace(step, labels=hidden))["label"] == objective(step)["label"]

    def test_unlabelled_scenes_are_negatives_or_absent(self, step, build, projected):
        objective, absent = build("supcon"), build("supcon", unlabelled_negatives=False)
        views = projected(objective, step)
        alone = LabelledViews(**{name: value[views.labelled] for name, value in vars(views).items()})
        torch.testing.assert_close(absent.label_term(views), objective.label_term(alone))
        assert objective.label_term(views) > objective.label_term(alone)

    @pytest.mark.parametrize("kernel", ["jaccard", "mulsupcon", "msc"])
    def test_other_views_of_a_scene_weigh_one_or_as_published(
        self, kernel, step, build, projected, dense_loss
    ):
        objective = build("supcon", kernel=kernel)
        views = projected(objective, step)
        candidates, weights = views.embeddings, pair_weights(views.labels, kernel)
        if kernel == "jaccard":
            weights[OTHER_VIEWS] = 1.0
            weights *= views.labelled[:, None]
        if kernel == "msc":
            candidates = torch.cat([candidates, normalize(objective.prototypes, dim=1)])
            weights = msc_weights(views.labels, views.labels)
        expected = dense_loss(views.embeddings, weights, 0.1, candidates)
        torch.testing.assert_close(objective(step)["label"], expected)

    def test_prototypes_belong_to_msc_and_learn(self, step, build):
        objective = build("mosaic", kernel="msc")
        objective(step)["total"].backward()
        assert objective.prototypes.shape == (5, 16) and objective.prototypes.grad.abs().sum() > 0
        assert build("mosaic").prototypes is None and build("iai", kernel="msc").prototypes is None


CASES = ["all unlabelled", "empty labels", "one scene", "one labelled", "collapsed"]


@pytest.mark.parametrize("unlabelled_negatives", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_degenerate_batches_are_finite(case, kernel, unlabelled_negatives, step, build):
    objective = build(EVERYTHING, kernel=kernel, unlabelled_negatives=unlabelled_negatives).eval()
    scenes = 1 if case == "one scene" else 8
    labels, labelled = step.labels[:scenes].clone(), step.labelled[:scenes].clone()
    features = {s: f.detach()[:, :scenes].clone().requires_grad_() for s, f in step.features.items()}
    labels *= case != "empty labels"
    labelled &= case != "all unlabelled"
    labelled[1:] &= case != "one labelled"
    if case == "collapsed":
        features = {s: torch.ones_like(f).requires_grad_() for s, f in features.items()}
    values = objective(Step({}, features, {}, labels, labelled))
    values["total"].backward()
    assert all(value.isfinite() and value >= -1e-6 for value in values.values())
    assert all(f.grad.isfinite().all() for f in features.values())
    if case == "all unlabelled":
        assert values["label"] == 0


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
    weights = torch.where(OTHER_VIEWS, 1.0, pair_weights(views.labels, "idf_jaccard", idf=objective.idf))
    weights *= views.labelled[:, None]
    tau = pair_temperatures(views.labels, rarity(objective.idf), 0.3, spread, pull)
    assert spread or (tau == 0.3).all()
    torch.testing.assert_close(objective(step)["label"], dense_loss(views.embeddings, weights, tau))
