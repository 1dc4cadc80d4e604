import itertools

import pytest
import torch

from mosaic.methods import METHODS
from mosaic.models.heads import ChoquetClassifier, Heads


def choquet_of_any_number(h, g):
    """Discrete Choquet integral: h by source, g by frozenset of sources."""
    order = sorted(h, key=h.get, reverse=True)
    values = [h[source] for source in order] + [0.0]
    return sum((values[k] - values[k + 1]) * g[frozenset(order[: k + 1])] for k in range(len(order)))


def of_logits():
    """A classifier of one class whose features are the logits of its sensors."""
    classifier = ChoquetClassifier({"s1": 1, "s2": 1}, classes=1)
    for head in classifier.sensors.values():
        torch.nn.init.ones_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return classifier


def fused(h, trust):
    """Fuse confidences (N, 2)."""
    classifier = of_logits().double()
    classifier.trust_logits.data = torch.logit(torch.tensor(trust, dtype=torch.float64))[:, None]
    return torch.sigmoid(classifier(torch.logit(h))).squeeze(1)


def test_two_sensors_are_the_general_integral():
    trust = {frozenset({"s1"}): 0.3, frozenset({"s2"}): 0.9, frozenset({"s1", "s2"}): 1.0}
    h = torch.tensor([*itertools.product([0.01, 0.2, 0.7, 0.99], repeat=2)], dtype=torch.float64)
    expected = [choquet_of_any_number({"s1": a, "s2": b}, trust) for a, b in h.tolist()]
    assert fused(h, (0.3, 0.9)).tolist() == pytest.approx(expected)
    assert ChoquetClassifier({"s1": 4, "s2": 6}, classes=3).trust.eq(0.5).all()
    for one, limit in ((1.0, h.amax(1)), (0.0, h.amin(1)), (0.5, h.mean(1))):
        torch.testing.assert_close(fused(h, (one, one)), limit)


def test_sure_sensors_keep_their_logit_and_gradient():
    features = torch.tensor([[30.0, 30.0], [-30.0, -30.0]], requires_grad=True)
    logits = of_logits()(features)
    logits.sum().backward()
    torch.testing.assert_close(logits, torch.tensor([[30.0], [-30.0]]))
    torch.testing.assert_close(features.grad.sum(1), torch.ones(2))


PROJECTIONS = {
    "random": set(),
    "supervised_late": set(),
    "simclr_s1": {"intra_s1"},
    "mosaic": {"intra_s1", "intra_s2", "inter_s1", "inter_s2", "label"},
}


@pytest.mark.parametrize("method", PROJECTIONS)
def test_heads_are_those_that_the_terms_need(method):
    heads = Heads(METHODS[method], dict.fromkeys(METHODS[method].streams, 8))
    assert set(heads.projections) == PROJECTIONS[method]


def test_a_head_sees_one_sensor_and_only_the_label_head_is_shared():
    heads = Heads(METHODS["mosaic"], {"s1": 8, "s2": 8}, projection_dim=4)
    s1, s2 = torch.randn(2, 6, 8), 5 + 3 * torch.randn(2, 6, 8)
    for term in ("intra", "inter", "label"):
        together = heads.project(term, {"s1": s1, "s2": s2})
        torch.testing.assert_close(heads.project(term, {"s1": s1})["s1"], together["s1"])
        torch.testing.assert_close(heads.project(term, {"s2": s2})["s2"], together["s2"])
        torch.testing.assert_close(together["s2"].norm(dim=-1), torch.ones(2, 6))
        assert together["s1"].shape == (2, 6, 4)
        same = heads.project(term, {"s1": s1, "s2": s1})
        assert torch.allclose(same["s1"], same["s2"]) == (term == "label")
