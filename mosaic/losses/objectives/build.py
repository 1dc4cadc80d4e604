"""From a row of the table of methods to its objective."""

from mosaic.losses.objectives.base import Objective, ObjectiveSettings
from mosaic.losses.objectives.choquet import Choquet
from mosaic.losses.objectives.macl import AdaptiveTemperature
from mosaic.losses.objectives.momentum_queue import Queue
from mosaic.losses.objectives.mosaic import Contrastive
from mosaic.losses.objectives.redundancy_reduction import RedundancyReduction
from mosaic.losses.objectives.sadcl import LabelFeatures
from mosaic.methods import Method
from mosaic.models.encoders import Encoder


def build_objective(method: Method, encoder: Encoder, settings: ObjectiveSettings) -> Objective:
    """Return the objective of a method, its parameters drawn from torch's global generator."""
    widths = encoder.feature_dims
    if method.objective == "queue":
        return Queue(method, encoder, widths, settings)
    if method.objective in ("vicreg", "barlow", "decur"):
        return RedundancyReduction(method, widths, settings)
    kinds = {"macl": AdaptiveTemperature, "sadcl": LabelFeatures, "choquet": Choquet}
    return kinds.get(method.objective, Contrastive)(method, widths, settings)
