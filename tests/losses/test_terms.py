"""The terms of methods against other implementations, hand-made cases and invariants."""

from dataclasses import replace

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.nn import functional
from torch.nn.functional import normalize

from mosaic.losses.contrastive import weighted_contrastive_loss
from mosaic.losses.label_kernels import KERNELS, msc_weights, pair_weights
from mosaic.losses.pairs import same_group
from mosaic.losses.terms import ContrastiveTerms, Temperatures
from mosaic.methods import METHODS
from mosaic.utils.errors import SettingsError


def sphere(*shape, seed=0, dtype=torch.float32):
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def batch(scenes=8, width=16, classes=6, seed=0):
    """Embeddings of every term, labels, and who is labelled (all but the last two)."""
    generator = torch.Generator().manual_seed(seed)
    terms = [
        {s: sphere(2, scenes, width, seed=seed + 10 * t + i) for i, s in enumerate(("s1", "s2"))}
        for t in range(3)
    ]
    labels = (torch.rand(scenes, classes, generator=generator) < 0.4).float()
    return *terms, labels, torch.arange(scenes) < max(1, scenes - 2)


class TestTerms:
    def test_negatives_of_the_other_sensor_only_give_clip(self):
        method = METHODS["inter"]
        z = {"s1": sphere(1, 7, 8), "s2": sphere(1, 7, 8, seed=1)}
        ours = ContrastiveTerms(method, Temperatures(inter=0.2), inter_style="clip").inter_term(z)
        logits, target = z["s1"][0] @ z["s2"][0].T / 0.2, torch.arange(7)
        clip = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        torch.testing.assert_close(ours, clip / 2)

    def test_mosaic_is_the_sum_of_its_terms(self):
        intra, inter, label, labels, labelled = batch()
        method = replace(METHODS["mosaic"], intra=0.5, inter=2.0, label=3.0, classify=0.25)
        logits = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(3))
        terms = ContrastiveTerms(method)(intra, inter, label, labels, labelled, logits)
        weighted = sum(
            getattr(method, name) * terms[name] for name in ("intra", "inter", "label", "classify")
        )
        torch.testing.assert_close(terms["total"], weighted)

    def test_iai_is_three_nt_xents(self):
        intra, inter, _, labels, labelled = batch()
        terms = ContrastiveTerms(METHODS["iai"])(intra, inter, {}, labels, labelled)
        oracle = NTXentLoss(0.5)
        torch.testing.assert_close(terms["intra"], oracle(*intra["s1"]) + oracle(*intra["s2"]))
        both_views = [oracle(inter["s1"][view], inter["s2"][view]) for view in (0, 1)]
        torch.testing.assert_close(terms["inter"], sum(both_views) / 2)
        assert set(terms) == {"intra", "inter", "total"}

    def test_each_term_has_its_own_temperature(self):
        data = batch()
        plain = ContrastiveTerms(METHODS["mosaic"], Temperatures(0.5, 0.5, 0.1))(*data)
        for term in ("intra", "inter", "label"):
            other = ContrastiveTerms(METHODS["mosaic"], replace(Temperatures(), **{term: 0.3}))(*data)
            assert {name for name in other if other[name] != plain[name]} == {term, "total"}

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_order_of_scenes_does_not_matter(self, kernel):
        *terms, labels, labelled = batch()
        order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
        mixed = [{s: z[:, order] for s, z in term.items()} for term in terms]
        objective = ContrastiveTerms(METHODS["mosaic"], kernel=kernel, classes=6, prototype_dim=16)
        expected = objective(*terms, labels, labelled)
        torch.testing.assert_close(objective(*mixed, labels[order], labelled[order]), expected)

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_labels_outside_the_budget_are_never_seen(self, kernel):
        *terms, labels, labelled = batch()
        objective = ContrastiveTerms(METHODS["mosaic"], kernel=kernel, classes=6, prototype_dim=16)
        expected = objective(*terms, labels, labelled)["label"]
        hidden = labels.clone()
        hidden[~labelled] = 1 - hidden[~labelled]
        assert objective(*terms, hidden, labelled)["label"] == expected

    def test_unlabelled_scenes_are_negatives_or_absent(self):
        _, _, label, labels, labelled = batch()
        labelled_only = {s: z[:, labelled] for s, z in label.items()}
        alone = ContrastiveTerms(METHODS["supcon"]).label_term(
            labelled_only, labels[labelled], torch.ones(6, dtype=torch.bool)
        )
        absent = ContrastiveTerms(METHODS["supcon"], unlabelled_negatives=False)
        torch.testing.assert_close(absent.label_term(label, labels, labelled), alone)
        assert ContrastiveTerms(METHODS["supcon"]).label_term(label, labels, labelled) > alone

    def test_other_views_of_a_scene_weigh_one_and_other_scenes_the_kernel(self):
        _, _, label, labels, labelled = batch(scenes=4)
        labels[:] = torch.tensor(
            [[1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
        )
        labelled[:] = torch.tensor([True, True, True, False])
        scene = torch.arange(4).repeat(4)
        jaccard = torch.zeros(4, 4)
        jaccard[0, 1] = jaccard[1, 0] = 0.5
        jaccard[:3, :3] += torch.eye(3)
        weights = jaccard[scene][:, scene].fill_diagonal_(0)
        z = torch.cat([label["s1"].flatten(0, 1), label["s2"].flatten(0, 1)])
        expected = weighted_contrastive_loss(z, weights, 0.1)
        ours = ContrastiveTerms(METHODS["supcon"], kernel="jaccard").label_term(label, labels, labelled)
        torch.testing.assert_close(ours, expected)

    def test_a_scene_known_to_have_no_label_is_the_positive_of_its_own_views_alone(self):
        _, _, label, labels, labelled = batch(scenes=4)
        labels[:], labelled[:] = 0, True
        z = torch.cat([label["s1"].flatten(0, 1), label["s2"].flatten(0, 1)])
        expected = weighted_contrastive_loss(z, same_group(torch.arange(4).repeat(4)), 0.1)
        ours = ContrastiveTerms(METHODS["supcon"], kernel="jaccard").label_term(label, labels, labelled)
        torch.testing.assert_close(ours, expected)

    @pytest.mark.parametrize("kernel", ["mulsupcon", "msc"])
    def test_published_sums_over_the_batch_count_every_view(self, kernel):
        _, _, label, labels, labelled = batch()
        z = torch.cat([label["s1"].flatten(0, 1), label["s2"].flatten(0, 1)])
        objective = ContrastiveTerms(METHODS["supcon"], kernel=kernel, classes=6, prototype_dim=16)
        known = (labels * labelled[:, None]).repeat(4, 1)
        if kernel == "msc":
            candidates = torch.cat([z, normalize(objective.prototypes, dim=1)])
            expected = weighted_contrastive_loss(z, msc_weights(known), 0.1, candidates)
        else:
            expected = weighted_contrastive_loss(z, pair_weights(known, kernel), 0.1)
        torch.testing.assert_close(objective.label_term(label, labels, labelled), expected)

    def test_prototypes_belong_to_msc_and_learn(self):
        data = batch()
        objective = ContrastiveTerms(METHODS["mosaic"], kernel="msc", classes=6, prototype_dim=16)
        objective(*data)["total"].backward()
        assert objective.prototypes.shape == (6, 16) and objective.prototypes.grad.abs().sum() > 0
        assert not list(ContrastiveTerms(METHODS["mosaic"]).parameters())
        assert not list(ContrastiveTerms(METHODS["iai"], kernel="msc").parameters())

    def test_classification_counts_labelled_scenes_only(self):
        *_, labels, labelled = batch()
        logits = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(3))
        terms = ContrastiveTerms(METHODS["supervised_late"])({}, {}, {}, labels, labelled, logits)
        oracle = functional.binary_cross_entropy_with_logits(logits[:, :6], labels[:6].expand(2, -1, -1))
        torch.testing.assert_close(terms["classify"], oracle)
        with pytest.raises(ValueError, match="logits are needed"):
            ContrastiveTerms(METHODS["supervised_late"])({}, {}, {}, labels, labelled)

    @pytest.mark.parametrize("unlabelled_negatives", [True, False])
    @pytest.mark.parametrize("kernel", KERNELS)
    @pytest.mark.parametrize(
        "case", ["all unlabelled", "empty labels", "one scene", "one labelled", "collapsed"]
    )
    def test_degenerate_batches_are_finite(self, case, kernel, unlabelled_negatives):
        *terms, labels, labelled = batch(scenes=1 if case == "one scene" else 6)
        if case == "all unlabelled":
            labelled[:] = False
        if case == "empty labels":
            labels[:] = 0
        if case == "one labelled":
            labelled[1:] = False
        if case == "collapsed":
            terms = [{s: torch.ones_like(z) / 4 for s, z in term.items()} for term in terms]
        terms = [{s: z.clone().requires_grad_() for s, z in term.items()} for term in terms]
        objective = ContrastiveTerms(
            replace(METHODS["mosaic"], classify=1.0),
            kernel=kernel,
            unlabelled_negatives=unlabelled_negatives,
            classes=6,
            prototype_dim=16,
        )
        logits = torch.zeros(2, len(labels), 6, requires_grad=True)
        values = objective(*terms, labels, labelled, logits)
        values["total"].backward()
        assert all(value.isfinite() and value >= -1e-6 for value in values.values())
        grads = [logits.grad, *(z.grad for term in terms for z in term.values())]
        assert all(grad.isfinite().all() for grad in grads)
        if case == "all unlabelled":
            assert values["label"] == 0 and all((z.grad == 0).all() for z in terms[2].values())

    def test_wrong_settings_are_refused(self):
        with pytest.raises(SettingsError, match="label term is 0"):
            Temperatures(label=0)
        with pytest.raises(SettingsError, match="unknown kernel 'jacard'; did you mean 'jaccard'"):
            ContrastiveTerms(METHODS["mosaic"], kernel="jacard")
        with pytest.raises(SettingsError, match="unknown inter_style 'siglip'"):
            ContrastiveTerms(METHODS["mosaic"], inter_style="siglip")
