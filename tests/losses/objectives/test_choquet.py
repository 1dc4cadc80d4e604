import torch


def test_objective_is_the_cross_entropy_of_labelled_scenes(step, build):
    objective = build("mimrf")
    terms = objective(step)
    probability = torch.sigmoid(objective.classifier(torch.cat(list(step.features.values()), dim=-1)))[:, :6]
    target = step.labels[:6].expand(2, -1, -1)
    expected = torch.nn.functional.binary_cross_entropy(probability, target)
    torch.testing.assert_close(terms["classify"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["total"], terms["classify"])
