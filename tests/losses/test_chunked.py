"""The loss in blocks against the loss of the whole matrix, in double precision."""

import math

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from mosaic.losses import contrastive as module
from mosaic.losses.contrastive import contrast, summed_contrast, weighted_contrastive_loss
from mosaic.losses.label_kernels import KERNELS, msc_weights, pair_weights
from mosaic.losses.objectives.macl import pair_temperatures
from mosaic.losses.pairs import pairs_within, with_other_views
from mosaic.losses.terms import ContrastiveTerms
from mosaic.methods import METHODS

SCENES, VIEWS, CLASSES = 7, 4, 6
NUMBER = SCENES * VIEWS
# a row in a block, blocks of unequal length, two blocks
BLOCKS = [1, 5 * NUMBER, 20 * NUMBER]
EXACT = {"rtol": 1e-12, "atol": 1e-13}


def sphere(number, seed, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(number, 5, generator=random, dtype=torch.float64), dim=1).to(dtype)


def label_sets(scenes=SCENES):
    labels = (torch.rand(scenes, CLASSES, generator=torch.Generator().manual_seed(3)) < 0.4).double()
    labels[1], labels[2] = 0, labels[0]  # one without labels, two alike
    return labels


SCENE = torch.arange(SCENES).repeat(VIEWS)
LABELLED = (torch.arange(SCENES) < SCENES - 2).repeat(VIEWS)
KNOWN = label_sets().repeat(VIEWS, 1) * LABELLED[:, None]


def label_pairs(kernel, threshold=0.0, own=False, exclude=None):
    def pairs(rows):
        weights = pair_weights(KNOWN, kernel, threshold=threshold, rows=rows)
        return with_other_views(weights, SCENE, LABELLED, rows) if own else weights, exclude

    return pairs


def prototype_pairs(exclude=None):
    return lambda rows: (msc_weights(KNOWN, 0.7, rows), exclude)


def value_and_gradients(loss, *tensors):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(*leaves)
    return value, torch.autograd.grad(value, leaves)


def assert_same_in_blocks(pairs, block, prototypes=0, temperature=0.2):
    """Compare value and gradients by embeddings and prototypes with the plain form on whole matrices."""
    whole = slice(0, NUMBER)
    weights, exclude = pairs(whole)
    tau = temperature(whole) if callable(temperature) else temperature

    def plain(z, more):
        return weighted_contrastive_loss(z, weights, tau, torch.cat([z, more]), exclude)

    def chunked(z, more):
        divergence, anchors = summed_contrast(z, pairs, temperature, torch.cat([z, more]), block=block)
        return divergence / anchors

    embeddings = sphere(NUMBER, 0), sphere(prototypes, 1)
    expected, gradients = value_and_gradients(plain, *embeddings)
    found, ours = value_and_gradients(chunked, *embeddings)
    assert expected > 0.01
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(ours, gradients, **EXACT)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kernel", KERNELS)
class TestKernelsInBlocks:
    def test_unlabelled_scenes_are_negatives(self, kernel, block):
        assert_same_in_blocks(label_pairs(kernel, own=True), block)

    def test_unlabelled_scenes_are_excluded(self, kernel, block):
        assert_same_in_blocks(label_pairs(kernel, own=True, exclude=~LABELLED), block)

    def test_kernel_alone_above_a_threshold(self, kernel, block):
        assert_same_in_blocks(label_pairs(kernel, threshold=0.15), block)


@pytest.mark.parametrize("block", BLOCKS)
class TestOtherPairsInBlocks:
    @pytest.mark.parametrize(
        "exclude", [None, torch.cat([~LABELLED, torch.zeros(CLASSES, dtype=torch.bool)])]
    )
    def test_prototypes(self, block, exclude):
        assert_same_in_blocks(prototype_pairs(exclude), block, prototypes=CLASSES)

    def test_views_of_a_scene(self, block):
        assert_same_in_blocks(pairs_within(SCENE), block)

    def test_negatives_of_the_other_sensor_only(self, block):
        assert_same_in_blocks(pairs_within(SCENE, torch.arange(NUMBER) // (NUMBER // 2)), block)

    def test_a_temperature_for_each_pair(self, block):
        rarities = torch.linspace(0, 1, CLASSES, dtype=torch.float64)

        def temperature(rows):
            return pair_temperatures(KNOWN, rarities, 0.2, 0.5, 0.4, rows)

        assert_same_in_blocks(label_pairs("idf_jaccard"), block, temperature=temperature)

    def test_matrices_that_somebody_keeps_stay_as_they_are(self, block):
        weights = 1 + torch.rand(NUMBER, NUMBER, dtype=torch.float64)  # the diagonal as well
        exclude = torch.rand(NUMBER, NUMBER) < 0.2
        kept = weights.clone(), exclude.clone()
        assert_same_in_blocks(lambda rows: (weights[rows], exclude[rows]), block)
        assert torch.equal(weights, kept[0]) and torch.equal(exclude, kept[1])


@pytest.mark.parametrize("prototypes", [0, CLASSES])
@pytest.mark.parametrize("block", [*BLOCKS, 10**6])
def test_parts_of_the_anchors_add_up_to_the_whole(block, prototypes):
    """What ranks do: each has some anchors, all have all candidates."""
    pairs = prototype_pairs() if prototypes else label_pairs("mulsupcon")
    bounds = [(0, 9), (9, 10), (10, NUMBER)]

    def whole(z, more):
        return weighted_contrastive_loss(z, pairs(slice(0, NUMBER))[0], 0.2, torch.cat([z, more]))

    def parts(z, more):
        candidates = torch.cat([z, more])
        sums = [summed_contrast(z[a:b], pairs, 0.2, candidates, first=a, block=block) for a, b in bounds]
        divergences, anchors = zip(*sums, strict=True)
        return sum(divergences) / sum(anchors)

    embeddings = sphere(NUMBER, 0), sphere(prototypes, 1)
    torch.testing.assert_close(
        value_and_gradients(parts, *embeddings), value_and_gradients(whole, *embeddings), **EXACT
    )


def test_gradient_by_finite_differences():
    def pairs(rows):
        return pair_weights(KNOWN[:10], "jaccard", rows=rows), None

    def loss(z, keys):
        divergence, number = summed_contrast(z, pairs, 0.3, keys, first=3, block=20)
        return divergence / number

    z, keys = sphere(6, 2).requires_grad_(), sphere(10, 0).requires_grad_()
    assert torch.autograd.gradcheck(loss, (z, keys))
    assert torch.autograd.gradcheck(lambda z: loss(z, keys.detach()), z)


def test_two_scenes_two_views_by_hand():
    z = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]], requires_grad=True)
    divergence, anchors = summed_contrast(z, pairs_within(torch.tensor([0, 1, 0, 1])), 1.0, block=4)
    # each anchor: its positive at cosine 1, two negatives at 0, so -log(e / (e + 2))
    assert divergence.item() == pytest.approx(4 * math.log(1 + 2 / math.e)) and anchors == 4
    divergence.backward()
    # p is e / (e + 2) for the positive and 1 / (e + 2) for each negative; z_0 is once anchor, once candidate
    force = 2 * 2 / (math.e + 2)
    torch.testing.assert_close(z.grad[0], torch.tensor([-force, force]))


@pytest.mark.parametrize("method", ["mosaic", "iai", "supcon", "inter"])
@pytest.mark.parametrize("kernel", ["jaccard", "msc"])
def test_terms_of_a_large_batch_are_those_of_the_plain_form(method, kernel, monkeypatch):
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(3, 2, 2, SCENES, 5, generator=random)
    z = [dict(zip(("s1", "s2"), normalize(draw, dim=-1), strict=True)) for draw in draws]
    labelled = torch.arange(SCENES) < SCENES - 2
    objective = ContrastiveTerms(METHODS[method], kernel=kernel, classes=CLASSES, prototype_dim=5)
    logits = torch.zeros(2, SCENES, CLASSES)
    plain = objective(*z, label_sets(), labelled, logits)
    monkeypatch.setattr(module, "CPU_BLOCK", 3 * NUMBER)
    monkeypatch.setattr(module, "summed_divergence", None)  # the plain form is out of reach
    torch.testing.assert_close(objective(*z, label_sets(), labelled, logits), plain)


def test_a_batch_without_positives_is_zero_with_zero_gradient():
    alone = torch.arange(NUMBER)
    for pairs in (pairs_within(alone), pairs_within(torch.zeros_like(alone), torch.zeros_like(alone))):
        z = sphere(NUMBER, 0).requires_grad_()
        divergence, anchors = summed_contrast(z, pairs, 0.1, block=NUMBER)
        divergence.backward()
        assert divergence == 0 and anchors == 0 and (z.grad == 0).all()


def test_small_temperatures_and_collapsed_embeddings_are_finite():
    for z, temperature in ((sphere(NUMBER, 0, torch.float32), 1e-4), (torch.ones(NUMBER, 5) / 5**0.5, 0.1)):
        z.requires_grad_()
        divergence, _ = summed_contrast(z, label_pairs("any"), temperature, block=NUMBER)
        divergence.backward()
        assert divergence.isfinite() and z.grad.isfinite().all()


def test_half_precision_embeddings_are_summed_in_full():
    z = sphere(NUMBER, 0, torch.bfloat16).requires_grad_()
    pairs, block = label_pairs("idf_jaccard"), 3 * NUMBER
    with torch.autocast("cpu", dtype=torch.bfloat16):
        divergence, _ = summed_contrast(z, pairs, 0.1, block=block)
    divergence.backward()
    assert divergence.dtype == torch.float32 and z.grad.dtype == torch.bfloat16
    wide = z.detach().float().requires_grad_()
    full, _ = summed_contrast(wide, pairs, 0.1, block=block)
    full.backward()
    assert divergence == full
    torch.testing.assert_close(z.grad.float(), wide.grad, rtol=2**-7, atol=1e-3)


def test_nothing_is_kept_where_no_gradient_is_wanted():
    z = sphere(NUMBER, 0)
    divergence, _ = summed_contrast(z, label_pairs("any"), 0.1, block=NUMBER)
    with torch.no_grad():
        same, _ = summed_contrast(z.clone().requires_grad_(), label_pairs("any"), 0.1, block=NUMBER)
    assert not divergence.requires_grad and not same.requires_grad and divergence == same


class Largest(TorchDispatchMode):
    """Remembers the most elements any tensor had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return out


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_pairs_are_never_in_memory(kernel, monkeypatch):
    scenes, block = 60, 2400
    monkeypatch.setattr(module, "CPU_BLOCK", block)
    objective = ContrastiveTerms(METHODS["supcon"], kernel=kernel, classes=CLASSES, prototype_dim=5)
    views = {s: normalize(torch.randn(2, scenes, 5), dim=-1).requires_grad_() for s in ("s1", "s2")}
    with Largest() as largest:
        objective.label_term(views, label_sets(scenes), torch.ones(scenes, dtype=torch.bool)).backward()
    pairs = (4 * scenes) ** 2
    assert block / 2 < largest.elements <= max(block, 4 * scenes * CLASSES) < pairs / 10


def test_one_function_serves_batches_of_any_size(monkeypatch):
    z, pairs = sphere(NUMBER, 0), label_pairs("cosine")
    plain = contrast(z, pairs, 0.1)
    assert plain == weighted_contrastive_loss(z, pairs(slice(0, NUMBER))[0], 0.1)
    monkeypatch.setattr(module, "CPU_BLOCK", NUMBER**2 - 1)
    monkeypatch.setattr(module, "summed_divergence", None)
    torch.testing.assert_close(contrast(z, pairs, 0.1), plain, **EXACT)
