"""The loss against independent implementations and its dense form.

tests/training/test_two_processes.py shares the anchors among processes.
"""

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch.nn.functional import normalize, one_hot
from torch.utils._python_dispatch import TorchDispatchMode

from mosaic.losses import contrastive as module
from mosaic.losses.contrastive import contrastive_loss
from mosaic.losses.label_kernels import KERNELS, pair_weights
from mosaic.losses.objectives.contrastive import pair_temperatures
from mosaic.losses.pairs import LabelledViews, instance_pairs, label_pairs

SCENES, VIEWS, CLASSES = 7, 4, 6
NUMBER = SCENES * VIEWS
ALL = slice(0, NUMBER)


def label_sets(scenes=SCENES):
    labels = (torch.rand(scenes, CLASSES, generator=torch.Generator().manual_seed(3)) < 0.4).double()
    labels[1], labels[2] = 0, labels[0]  # one without labels, two alike
    return labels


SCENE = torch.arange(SCENES).repeat(VIEWS)
LABELLED = (torch.arange(SCENES) < SCENES - 2).repeat(VIEWS)
KNOWN = label_sets().repeat(VIEWS, 1) * LABELLED[:, None]
LABELS = LabelledViews(torch.empty(NUMBER, 0), KNOWN, LABELLED, SCENE)


def dense_loss(embeddings, weights, temperature, candidates, exclude, by_mass):
    """Return the loss as its formula stands, of whole matrices (N, M)."""
    logits = embeddings @ candidates.T / temperature
    excluded = torch.eye(*logits.shape, dtype=torch.bool)
    excluded = excluded if exclude is None else excluded | exclude
    weights = weights.to(logits).masked_fill(excluded, 0.0)
    total = weights.sum(1, keepdim=True)
    q = weights / torch.where(total > 0, total, 1.0)
    log_p = torch.log_softmax(logits.masked_fill(excluded, -torch.inf), dim=1)
    mass = total if by_mass else (total > 0).to(total)
    divergence = torch.special.xlogy(q, q) - q * log_p.masked_fill(q == 0, 0.0)
    return (mass * divergence).sum() / mass.sum()


def value_and_gradients(loss, *tensors):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(*leaves)
    return value, torch.autograd.grad(value, leaves)


def test_one_label_each_gives_supcon_less_a_constant(sphere):
    classes = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])  # the last has no positive
    weights = pair_weights(one_hot(classes).double(), "any")
    z, oracle = sphere(10, 8, dtype=torch.float64), SupConLoss(temperature=0.1)
    published, gradient = value_and_gradients(lambda z: oracle(z, classes), z)
    # the oracle normalises by itself, so we do in what is differentiated
    loss, same = value_and_gradients(lambda z: contrastive_loss(normalize(z, dim=1), weights, 0.1), z)
    torch.testing.assert_close(published - loss, weights.sum(1)[:-1].log().mean())
    torch.testing.assert_close(same, gradient)


def test_mulsupcon_weights_give_the_published_double_sum(labels, sphere):
    z, weights = sphere(len(labels), 8, dtype=torch.float64), pair_weights(labels.double(), "mulsupcon")

    def published(z):
        log_p, total = (z @ z.T / 0.2).fill_diagonal_(-torch.inf).log_softmax(1), 0.0
        for i, label in labels.nonzero().tolist():
            carriers = [p for p in range(len(labels)) if p != i and labels[p, label]]
            total -= sum(log_p[i, p] for p in carriers) / max(1, len(carriers))
        return total / sum(labels[:, c].sum() for c in range(6) if labels[:, c].sum() > 1)

    theirs, expected = value_and_gradients(published, z)
    ours, gradient = value_and_gradients(lambda z: contrastive_loss(z, weights, 0.2, by_mass=True), z)
    mass, q = weights.sum(1), weights / weights.sum(1, keepdim=True).clamp_min(1e-9)
    constant = (mass * torch.special.xlogy(q, q).sum(1)).sum() / mass.sum()
    torch.testing.assert_close((ours, gradient), (theirs + constant, expected))


PAIRS = {
    **{kernel: label_pairs(LABELS, kernel) for kernel in KERNELS},
    "labelled only, above a threshold": label_pairs(
        LABELS, "jaccard", unlabelled_negatives=False, threshold=0.15
    ),
    "prototypes": label_pairs(LABELS, "msc", prototypes=True, alpha=0.7),
    "views of a scene": instance_pairs(SCENE),
    "negatives of the other sensor": instance_pairs(SCENE, torch.arange(NUMBER) // (NUMBER // 2)),
}


def by_pair(rows):
    """Return a temperature for each pair, as MACL has."""
    return pair_temperatures(KNOWN, torch.linspace(0, 1, CLASSES, dtype=torch.float64), 0.2, 0.5, 0.4, rows)


# a row in a block, blocks of unequal length, two blocks, one
@pytest.mark.parametrize("block", [1, 5 * NUMBER, 20 * NUMBER, 10**6])
@pytest.mark.parametrize(("case", "tau"), [*((case, 0.2) for case in PAIRS), ("idf_jaccard", by_pair)])
def test_value_and_gradients_are_those_of_the_dense_form(case, tau, block, sphere, monkeypatch):
    monkeypatch.setattr(module, "CPU_BLOCK", block)
    pairs, by_mass = PAIRS[case], case == "mulsupcon"
    weights, exclude = pairs(ALL)
    whole_tau = by_pair(ALL) if tau is by_pair else tau
    z = sphere(NUMBER, 5, dtype=torch.float64)
    prototypes = sphere(weights.shape[1] - NUMBER, 5, seed=1, dtype=torch.float64)

    def dense(z, more):
        return dense_loss(z, weights, whole_tau, torch.cat([z, more]), exclude, by_mass)

    def blocked(z, more):
        return contrastive_loss(z, pairs, tau, torch.cat([z, more]), by_mass)

    expected = value_and_gradients(dense, z, prototypes)
    assert expected[0] > 0.01
    found = value_and_gradients(blocked, z, prototypes)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_half_precision_embeddings_stay_near_and_are_summed_in_full(labels, sphere, small_blocks):
    z, weights = sphere(10, 64), pair_weights(labels, "jaccard")
    full = contrastive_loss(z, weights, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert contrastive_loss(z, weights, 0.1) == full
    half = z.bfloat16()
    (value, (grad,)), (wide, (wide_grad,)) = (
        value_and_gradients(lambda z: contrastive_loss(z, weights, 0.1), given)
        for given in (half, half.float())
    )
    # a bfloat16 component is off by at most 2^-9 of itself, a cosine by about that over tau
    assert value.dtype == torch.float32 and abs(value - full) < 0.02
    assert value == wide and grad.dtype == torch.bfloat16
    torch.testing.assert_close(grad.float(), wide_grad, rtol=2**-7, atol=5e-4)


def test_small_temperatures_are_finite(sphere):
    pairs = label_pairs(LABELS, "any")
    loss, (grad,) = value_and_gradients(lambda z: contrastive_loss(z, pairs, 1e-4), sphere(NUMBER, 5))
    assert loss.isfinite() and grad.isfinite().all()


ALONE, TOGETHER = torch.arange(NUMBER), torch.zeros(NUMBER)


@pytest.mark.parametrize("group, apart", [(ALONE, None), (TOGETHER, TOGETHER)])
def test_a_batch_without_positives_is_zero_with_zero_gradient(group, apart, sphere):
    pairs = instance_pairs(group, apart)
    loss, (grad,) = value_and_gradients(lambda z: contrastive_loss(z, pairs, 0.1), sphere(NUMBER, 5))
    assert loss == 0 and (grad == 0).all()


class Largest(TorchDispatchMode):
    """Remembers the most elements any tensor had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_pairs_are_never_in_memory(kernel, sphere, monkeypatch):
    scenes, block = 60, 2400
    monkeypatch.setattr(module, "CPU_BLOCK", block)
    embeddings = {s: sphere(2, scenes, 5).requires_grad_() for s in ("s1", "s2")}
    with Largest() as largest:
        views = LabelledViews.of(embeddings, label_sets(scenes), torch.ones(scenes, dtype=torch.bool))
        contrastive_loss(views.embeddings, label_pairs(views, kernel), 0.1).backward()
    pairs = (4 * scenes) ** 2
    assert block / 2 < largest.elements <= 1.1 * block < pairs / 10
