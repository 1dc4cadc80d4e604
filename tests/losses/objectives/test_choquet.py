import torch

from mosaic.losses.objectives.base import ObjectiveSettings
from mosaic.losses.objectives.choquet import Choquet
from mosaic.methods import get_method


def test_objective_is_the_cross_entropy_of_labelled_scenes(batch):
    objective = Choquet(get_method("mimrf"), batch.dims, ObjectiveSettings(classes=5))
    terms = objective(batch.step)
    joined = torch.cat(list(batch.step.features.values()), dim=-1)
    probability = torch.sigmoid(objective.classifier(joined))[:, :5]
    target = batch.step.labels[:5].expand(2, -1, -1)
    expected = torch.nn.functional.binary_cross_entropy(probability, target)
    torch.testing.assert_close(terms["classify"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["total"], terms["classify"])
