"""Losses are known by name, a plain function is one as well, and all compute in float32."""

import pytest
import torch

from mosaic.losses.objectives.base import LOSSES, FunctionObjective, register_loss
from mosaic.methods import METHODS, Method
from mosaic.utils.errors import SettingsError


@pytest.fixture
def spread():
    """A plain function registered as a loss."""

    @register_loss("spread")
    def spread(views, labels, labelled):
        z = torch.stack([*views.values()])[:, :, labelled]
        return (z - z.mean((0, 1))).square().sum(-1).mean() + 0 * labels.sum()

    yield spread
    del LOSSES["spread"]


@pytest.mark.parametrize("term", ["intra", "inter", "label"])
def test_a_function_is_the_one_term_of_a_method(term, spread, step, build):
    method = Method("mine", "Mine", "mosaic", ("s1", "s2"), loss="spread", classify=1.0, **{term: 2.0})
    objective = build(method)
    terms = objective(step)
    value = spread(objective.heads.project(term, step.features), step.labels, step.labelled)
    assert terms[term] == value and set(terms) == {term, "classify", "total"}
    torch.testing.assert_close(terms["total"], 2 * value + terms["classify"])


def test_mistakes_are_named(spread, build):
    assert isinstance(build(Method("x", "X", "mosaic", ("s1",), intra=1, loss="spread")), FunctionObjective)
    with pytest.raises(SettingsError, match=r"one of intra, inter and label .* found intra, label"):
        build(Method("x", "X", "mosaic", ("s1",), intra=1, label=1, loss="spread"))
    with pytest.raises(SettingsError, match="unknown loss 'vicregg'; did you mean 'vicreg'"):
        build(Method("x", "X", "mosaic", ("s1",), intra=1, loss="vicregg"))
    with pytest.raises(SettingsError, match="unknown kernel 'jacard'; did you mean 'jaccard'"):
        build("mosaic", kernel="jacard")


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.trained])
def test_loss_and_gradient_do_not_depend_on_autocast(name, make_step, build):
    found = []
    for half in (False, True):
        step, objective = make_step(METHODS[name].streams), build(name)
        inputs = [*(step.maps if objective.uses_maps else step.features).values(), *objective.parameters()]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            terms = objective(step)
        leaves = [tensor for tensor in inputs if tensor.requires_grad]
        found.append((terms, torch.autograd.grad(terms["total"], leaves)))
    assert all(value.dtype == torch.float32 for value in found[1][0].values())
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)
