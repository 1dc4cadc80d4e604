import numpy as np
import pytest
import torch
from lightly.loss import BarlowTwinsLoss, VICRegLoss


def slow_decur(a, b, common, weight):
    """DeCUR between sensors, entry by entry."""
    a, b = (z.double().numpy() for z in (a, b))
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b))
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            c = np.mean(a[:, i] * b[:, j])
            if i == j:
                total += (c - (1 if i < common else 0)) ** 2
            elif (i < common) == (j < common):  # both in one block
                total += weight * c**2
    return total


def test_decur_is_the_sum_over_entries_with_seven_eighths_of_the_dimensions_in_common(build):
    a, b = torch.randn(30, 16), torch.randn(30, 16)
    assert build("decur").between(a, b).item() == pytest.approx(slow_decur(a, b, 14, 0.0051), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("vicreg", VICRegLoss(nu_param=0.5)), ("barlow", BarlowTwinsLoss(lambda_param=0.02))],
)
def test_terms_are_lightlys_losses_of_the_projections(step, build, name, loss):
    objective = build(name, covariance=0.5, off_diagonal=0.02).eval()
    terms = objective(step)
    z = {
        sensor: [objective.expanders[sensor](view) for view in views]
        for sensor, views in step.features.items()
    }
    intra = (loss(*z["s1"]) + loss(*z["s2"])) / 2
    inter = (loss(z["s1"][0], z["s2"][0]) + loss(z["s1"][1], z["s2"][1])) / 2
    torch.testing.assert_close(terms, {"intra": intra, "inter": inter, "total": intra + inter})


def test_decur_is_the_mean_of_three_as_published(step, build):
    objective = build("decur").eval()
    terms, (s1, s2) = objective(step), objective.expanders.values()
    assert s1 is s2
    first, second = (views[0] for views in step.features.values())
    torch.testing.assert_close(terms["inter"], objective.between(s1(first), s2(second)))
    # intra is the mean over two sensors; inter the sum of a common and a unique part, whose mean enters
    torch.testing.assert_close(terms["total"], (2 * terms["intra"] + terms["inter"] / 2) / 3)
