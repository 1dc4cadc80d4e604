"""The loss against independent implementations, hand-made cases and invariants."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from pytorch_metric_learning.losses import SupConLoss
from torch.nn import functional
from torch.nn.functional import normalize

from mosaic.losses.contrastive import weighted_contrastive_loss
from mosaic.losses.label_kernels import KERNELS, msc_weights, pair_weights
from mosaic.losses.pairs import same_group


def sphere(*shape, seed=0, dtype=torch.float32):
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def gradient(loss, embeddings):
    return torch.autograd.grad(loss(embeddings), embeddings)[0]


class TestOracles:
    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    def test_two_views_without_labels_give_nt_xent(self, temperature):
        first, second = sphere(9, 16), sphere(9, 16, seed=1)
        ours = weighted_contrastive_loss(
            torch.cat([first, second]), same_group(torch.arange(9).repeat(2)), temperature
        )
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


class TestHandComputed:
    def test_two_scenes_two_views(self):
        z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        # each anchor: its positive at cosine 1, two negatives at 0, so -log(e / (e + 2))
        loss = weighted_contrastive_loss(z, same_group(torch.arange(2).repeat(2)), 1.0)
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
