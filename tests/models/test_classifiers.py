import itertools

import pytest
import torch

from mosaic.models.heads import ChoquetClassifier, choquet_integral


def choquet_of_any_number(h, g):
    """Discrete Choquet integral: h by source, g by frozenset of sources."""
    order = sorted(h, key=h.get, reverse=True)
    values = [h[source] for source in order] + [0.0]
    return sum((values[k] - values[k + 1]) * g[frozenset(order[: k + 1])] for k in range(len(order)))


@pytest.mark.parametrize("h", itertools.product([0.0, 0.2, 0.7, 1.0], repeat=2))
def test_two_sensors_are_the_general_integral(h):
    trust = {frozenset({"s1"}): 0.3, frozenset({"s2"}): 0.9, frozenset({"s1", "s2"}): 1.0}
    expected = choquet_of_any_number({"s1": h[0], "s2": h[1]}, trust)
    found = choquet_integral(*(torch.tensor(value) for value in (*h, 0.3, 0.9)))
    assert found.item() == pytest.approx(expected)


def test_trust_1_is_the_maximum_0_the_minimum_and_a_half_the_mean():
    a, b = torch.rand(50), torch.rand(50)
    for trust, expected in ((1.0, torch.maximum(a, b)), (0.0, torch.minimum(a, b)), (0.5, (a + b) / 2)):
        t = torch.tensor(trust)
        torch.testing.assert_close(choquet_integral(a, b, t, t), expected)


def test_untrained_classifier_is_the_mean_of_the_sensors():
    classifier = ChoquetClassifier({"s1": 4, "s2": 6}, classes=3)
    features = torch.randn(7, 10)
    parts = (
        torch.sigmoid(classifier.sensors["s1"](features[:, :4])),
        torch.sigmoid(classifier.sensors["s2"](features[:, 4:])),
    )
    torch.testing.assert_close(torch.sigmoid(classifier(features)), sum(parts) / 2)
    assert classifier.trust.shape == (2, 3)


def test_trust_is_learned_where_one_sensor_knows():
    torch.manual_seed(0)
    classifier = ChoquetClassifier({"s1": 1, "s2": 1}, classes=1)
    # each sensor's confidence is its feature; the first is right, the second says yes to everything
    for head in classifier.sensors.values():
        torch.nn.init.ones_(head.weight)
        torch.nn.init.zeros_(head.bias)
        head.requires_grad_(False)
    truth = (torch.rand(400, 1) < 0.5).float()
    features = torch.cat([8 * truth - 4, torch.full((400, 1), 4.0)], dim=1)
    optimiser = torch.optim.Adam([classifier.trust_logits], lr=0.1)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(classifier(features), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # where the second says more than the first, only the first is to be believed
    assert classifier.trust[1, 0] < 0.1
