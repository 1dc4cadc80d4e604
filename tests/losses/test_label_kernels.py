"""Each kernel against its definition, written as loops over Python sets."""

import math

import pytest
import torch

from mosaic.losses.label_kernels import KERNELS, idf_weights, pair_weights


def sets_of(labels):
    return [set(row.nonzero().flatten().tolist()) for row in labels]


def idf_jaccard(i, j, sets):
    def omega(label):
        return math.log((1 + len(sets)) / (1 + sum(label in s for s in sets))) + 1

    shared, union = sets[i] & sets[j], sets[i] | sets[j]
    return sum(map(omega, shared)) / sum(map(omega, union)) if union else 0.0


def mulsupcon(i, j, sets):
    total = 0.0
    for label in sets[i]:
        carriers = [p for p in range(len(sets)) if p != i and label in sets[p]]
        total += (1 / len(carriers)) if j in carriers else 0.0
    return total


def msc(i, j, sets):
    union = len(sets[i] | sets[j])
    total = 0.0
    for label in sets[i] & sets[j]:
        others = [len(sets[i] | sets[k]) for k in range(len(sets)) if k != i and label in sets[k]]
        total += 1 / union / (1 + sum(1 / u for u in others))
    return total


DEFINITIONS = {
    "any": lambda i, j, sets: float(bool(sets[i] & sets[j])),
    "all": lambda i, j, sets: float(bool(sets[i]) and sets[i] == sets[j]),
    "jaccard": lambda i, j, sets: len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j])),
    "idf_jaccard": idf_jaccard,
    "cosine": lambda i, j, sets: len(sets[i] & sets[j]) / math.sqrt(max(1, len(sets[i]) * len(sets[j]))),
    "mulsupcon": mulsupcon,
    "msc": msc,
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_equals_its_definition_for_any_type_of_labels(kernel, labels):
    sets, weigh = sets_of(labels), DEFINITIONS[kernel]
    expected = torch.tensor([[i != j and weigh(i, j, sets) for j in range(10)] for i in range(10)]).float()
    torch.testing.assert_close(pair_weights(labels, kernel), expected)
    torch.testing.assert_close(pair_weights(labels.to(torch.uint8), kernel), expected)
    empty = labels.sum(1) == 0
    assert empty.any() and (expected[empty] == 0).all() and (expected[:, empty] == 0).all()


def test_idf_counts_of_the_training_set_replace_those_of_the_batch():
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 1], [0, 1, 1]])  # in the batch all labels are equally frequent
    weights = pair_weights(labels, "idf_jaccard", idf=idf_weights(torch.tensor([1000, 10, 10]), 1000))
    torch.testing.assert_close(pair_weights(labels, "idf_jaccard")[0, 1], torch.tensor(1 / 3))
    assert weights[1, 2] > 1 / 3 > weights[0, 1]  # sharing a rare label counts more


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_weights_of_msc_and_its_prototypes_are_the_published_ones(alpha, labels):
    weights, sets = pair_weights(labels, "msc", alpha=alpha, prototypes=True), sets_of(labels)
    torch.testing.assert_close(weights.sum(1), labels.sum(1))
    torch.testing.assert_close(weights[:, :10], pair_weights(labels, "msc", alpha=alpha))
    for i, own in enumerate(sets):
        for label in range(6):
            others = [len(own | sets[k]) for k in range(len(sets)) if k != i and label in sets[k]]
            expected = 1 / (1 + alpha * sum(1 / u for u in others)) if label in own else 0.0
            assert weights[i, 10 + label].item() == pytest.approx(expected)
