"""The loss against independent implementations, hand-made cases and invariants."""

import math
from dataclasses import replace

import pytest
import torch
from lightly.loss import NTXentLoss
from pytorch_metric_learning.losses import SupConLoss
from torch.nn import functional
from torch.nn.functional import normalize

from mosaic.common.errors import SettingsError
from mosaic.method.kernels import KERNELS, msc_weights, pair_weights
from mosaic.method.losses import ContrastiveTerms, Temperatures, same_scene, weighted_contrastive_loss
from mosaic.method.methods import METHODS


def sphere(*shape, seed=0, dtype=torch.float32):
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def gradient(loss, embeddings):
    return torch.autograd.grad(loss(embeddings), embeddings)[0]


class TestOracles:
    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    def test_two_views_without_labels_give_nt_xent(self, temperature):
        first, second = sphere(9, 16), sphere(9, 16, seed=1)
        ours = weighted_contrastive_loss(torch.cat([first, second]), same_scene(9, 2), temperature)
        torch.testing.assert_close(ours, NTXentLoss(temperature)(first, second))

    def test_one_label_each_gives_supcon_less_a_constant(self):
        classes = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])  # the last has no positive
        weights = pair_weights(functional.one_hot(classes).double(), "any")
        z = sphere(10, 8, dtype=torch.float64).requires_grad_()
        oracle = SupConLoss(temperature=0.1)  # normalises by itself, so we do in what is differentiated
        positives = weights.sum(1)[:-1]
        difference = oracle(z, classes) - weighted_contrastive_loss(z, weights, 0.1)
        torch.testing.assert_close(difference, positives.log().mean())
        ours = gradient(lambda z: weighted_contrastive_loss(normalize(z, dim=1), weights, 0.1), z)
        torch.testing.assert_close(ours, gradient(lambda z: oracle(z, classes), z))

    def test_mulsupcon_weights_give_the_published_double_sum(self, labels):
        z, tau = sphere(len(labels), 8), 0.2
        weights = pair_weights(labels, "mulsupcon")
        logits = (z @ z.T / tau).fill_diagonal_(-torch.inf)
        log_p = logits.log_softmax(1)
        for i in range(len(labels)):
            published = 0.0
            for label in labels[i].nonzero().flatten().tolist():
                carriers = [p for p in range(len(labels)) if p != i and labels[p, label]]
                published += sum(-log_p[i, p].item() for p in carriers) / max(1, len(carriers))
            ours = -(weights[i] * log_p[i].masked_fill(weights[i] == 0, 0)).sum().item()
            assert ours == pytest.approx(published, rel=1e-5)

    def test_negatives_of_the_other_sensor_only_give_clip(self):
        method = METHODS["inter"]
        z = {"s1": sphere(1, 7, 8), "s2": sphere(1, 7, 8, seed=1)}
        ours = ContrastiveTerms(method, Temperatures(inter=0.2), inter_style="clip").inter_term(z)
        logits, target = z["s1"][0] @ z["s2"][0].T / 0.2, torch.arange(7)
        clip = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        torch.testing.assert_close(ours, clip / 2)


class TestHandComputed:
    def test_two_scenes_two_views(self):
        z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        # each anchor: its positive at cosine 1, two negatives at 0, so -log(e / (e + 2))
        loss = weighted_contrastive_loss(z, same_scene(2, 2), 1.0)
        assert loss.item() == pytest.approx(math.log(1 + 2 / math.e))

    def test_unequal_weights_over_equal_candidates(self):
        z = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
        weights = torch.tensor([[0.0, 3, 1], [0, 0, 0], [0, 0, 0]])
        # p is (1/2, 1/2) and q (3/4, 1/4); the anchors without a positive leave the mean
        divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        assert weighted_contrastive_loss(z, weights, 0.3).item() == pytest.approx(divergence)

    def test_floor_is_zero_where_similarities_follow_the_weights(self):
        angle = torch.tensor([0.0, 0.3, 1.1])
        z = torch.stack([angle.cos(), angle.sin()], dim=1)
        matching = (z @ z.T / 0.5).exp().fill_diagonal_(0)
        assert weighted_contrastive_loss(z, matching, 0.5).item() == pytest.approx(0, abs=1e-6)
        assert weighted_contrastive_loss(z, matching.T.flip(0), 0.5).item() > 1e-3

    def test_excluded_pairs_are_as_good_as_absent(self):
        z, weights = sphere(6, 8), pair_weights(torch.eye(2)[[0, 0, 1, 1, 0, 1]], "any")
        exclude = torch.zeros(6, 6, dtype=torch.bool)
        exclude[:, 4:] = exclude[4:] = True
        without = weighted_contrastive_loss(z[:4], weights[:4, :4], 0.2)
        torch.testing.assert_close(weighted_contrastive_loss(z, weights, 0.2, exclude=exclude), without)


class TestNumbers:
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_gradient_in_double_precision(self, kernel, labels):
        weights = pair_weights(labels.double(), kernel)
        z = sphere(10, 4, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda z: weighted_contrastive_loss(z, weights, 0.3), z)

    def test_gradient_with_prototypes_and_exclusions(self, labels):
        weights = msc_weights(labels.double())
        z = sphere(10, 4, dtype=torch.float64).requires_grad_()
        prototypes = sphere(6, 4, seed=1, dtype=torch.float64).requires_grad_()
        exclude = torch.rand(10, 16, generator=torch.Generator().manual_seed(0)) < 0.2

        def loss(z, prototypes):
            return weighted_contrastive_loss(z, weights, 0.3, torch.cat([z, prototypes]), exclude)

        assert torch.autograd.gradcheck(loss, (z, prototypes))

    def test_half_precision_embeddings_stay_near_and_autocast_changes_nothing(self, labels):
        z, weights = sphere(10, 64), pair_weights(labels, "jaccard")
        full = weighted_contrastive_loss(z, weights, 0.1)
        half = weighted_contrastive_loss(z.bfloat16(), weights, 0.1)
        assert half.dtype == torch.float32
        # a bfloat16 component is off by at most 2^-9 of itself, a cosine by about that over tau
        assert abs(half - full) < 0.02
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert weighted_contrastive_loss(z, weights, 0.1) == full

    def test_small_temperatures_do_not_overflow(self, labels):
        z = sphere(10, 8).requires_grad_()
        loss = weighted_contrastive_loss(z, pair_weights(labels, "any"), 1e-4)
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all()

    def test_order_of_members_does_not_matter(self, labels):
        z, weights = sphere(10, 8), pair_weights(labels, "cosine")
        order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
        mixed = weighted_contrastive_loss(z[order], weights[order][:, order], 0.1)
        torch.testing.assert_close(mixed, weighted_contrastive_loss(z, weights, 0.1))

    def test_scale_of_a_row_of_weights_does_not_matter(self, labels):
        z, weights = sphere(10, 8), pair_weights(labels, "jaccard")
        scaled = weights * torch.linspace(0.1, 9, 10)[:, None]
        torch.testing.assert_close(
            weighted_contrastive_loss(z, scaled, 0.1), weighted_contrastive_loss(z, weights, 0.1)
        )

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_label_consistent_embeddings_beat_shuffled_ones(self, kernel):
        generator = torch.Generator().manual_seed(0)
        labels = (torch.rand(64, 8, generator=generator) < 0.3).float()
        labels = torch.cat([labels, labels])  # so that identical sets exist
        z = normalize(labels + 0.05 * torch.randn(128, 8, generator=generator), dim=1)
        weights = pair_weights(labels, kernel)
        shuffled = z[torch.randperm(128, generator=generator)]
        assert weighted_contrastive_loss(z, weights, 0.2) < 0.8 * weighted_contrastive_loss(
            shuffled, weights, 0.2
        )


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
        expected = weighted_contrastive_loss(z, same_scene(4, 4), 0.1)
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
