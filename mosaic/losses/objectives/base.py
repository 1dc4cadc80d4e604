"""The shape of an objective, and the registry that methods choose theirs from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.methods import Method
from mosaic.models.encoders import Encoder
from mosaic.models.heads import Heads
from mosaic.settings import LossSettings
from mosaic.utils.distributed import gather
from mosaic.utils.errors import SettingsError
from mosaic.utils.plugins import Registry


@dataclass(frozen=True)
class Step:
    """Two views of a batch as the encoder sees them, and the labels of the batch.

    The batch has B scenes, and this process b of them; where one process works alone, b = B. An objective
    gathers what it makes of the images, so its terms are those of the whole batch.
    """

    #: sensor -> (2 b, bands, H, W), the first view of all scenes, then the second
    images: Mapping[str, Tensor]
    features: Mapping[str, Tensor]  # stream -> (2, b, F) from the encoder
    #: stream -> (2, b, F, h, w) before pooling; empty unless the objective uses them
    maps: Mapping[str, Tensor]
    labels: Tensor  # (B, C), 0 or 1; zero for scenes whose labels may not be used
    labelled: Tensor  # (B,) bool


class Objective(nn.Module):
    """Heads and loss of a method: from features of a batch to the terms that are minimised.

    The encoder is what is trained; it is not registered as a submodule. A class may declare ``reads``, term
    of the method -> fields of LossSettings: a change of others leaves its trained encoders valid.
    """

    uses_maps = False  # whether feature maps before pooling are needed
    autocast = False  # whether the encoder of this step worked in half precision
    idf: Tensor  # (C,) weights of labels: idf_weights of the scenes whose labels may be used

    def __init__(self, method: Method, encoder: Encoder, settings: LossSettings, idf: Tensor) -> None:
        super().__init__()
        self.method, self.settings = method, settings
        self.classifier: nn.Module | None = None  # joined features (..., sum of F) -> logits (..., C)
        self.register_buffer("idf", idf, persistent=False)
        self.build(encoder)

    def build(self, encoder: Encoder) -> None:
        """Make the heads and whatever else is trained with the encoder."""

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return scalars ``intra``, ``inter``, ``label``, ``classify``, as far as the method weighs them."""
        raise NotImplementedError

    def classification(self, step: Step) -> dict[str, Tensor]:
        """Return the ``classify`` term; nothing without a classifier."""
        if self.classifier is None:
            return {}
        logits = gather(self.classifier(torch.cat(list(step.features.values()), dim=-1)), dim=1)
        return {"classify": classification_term(logits, step.labels, step.labelled)}

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the terms, unweighted, and ``"total"``, their sum weighted as the method says.

        Heads and losses compute in float32 at least, whatever autocast says: half precision handicaps none.
        """
        device = step.labels.device.type
        self.autocast = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False):
            terms = self.terms(replace(step, features=_wide(step.features), maps=_wide(step.maps)))
            weighted = [getattr(self.method, name) * term for name, term in terms.items()]
            return {**terms, "total": torch.stack(weighted).sum()}


def _wide(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in values.items()}


class HeadsObjective(Objective):
    """An objective on the projection heads and the linear classifier that its method needs."""

    def build(self, encoder: Encoder) -> None:
        """Make the heads."""
        widths = encoder.feature_dims
        self.heads = Heads(self.method, widths, self.settings.projection_dim)
        if self.method.classify > 0:
            self.classifier = nn.Linear(sum(widths.values()), len(self.idf))


LossFunction = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]
LOSSES: Registry[type[Objective] | LossFunction] = Registry("loss")


#: ``@register_loss("name")`` registers an :class:`Objective`, or a function of projections (stream ->
#: (2, B, D), L2-normalised), labels (B, C), zero where they may not be used, and labelled (B,) bool, that
#: returns a scalar. A method weighs the function as its one term of ``intra``, ``inter`` and ``label``; the
#: heads of that term project. ``docs/extend.md`` has an example.
register_loss = LOSSES.register


class FunctionObjective(HeadsObjective):
    """A plain function of projections as the one contrastive term of a method, and its classification."""

    def build(self, encoder: Encoder) -> None:
        """Make the heads."""
        super().build(encoder)
        weighed = [term for term in ("intra", "inter", "label") if getattr(self.method, term) > 0]
        if len(weighed) != 1:
            raise SettingsError(
                f"method {self.method.name!r}: its loss {self.method.loss!r} is a function, so one of intra, "
                f"inter and label must weigh more than 0, found {', '.join(weighed) or 'none'}"
            )
        (self.term,) = weighed

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return the function's term, and ``classify`` where the method weighs it."""
        loss: Any = LOSSES[self.method.loss]
        projections = self.heads.project(self.term, step.features)
        return {self.term: loss(projections, step.labels, step.labelled), **self.classification(step)}


def build_objective(method: Method, encoder: Encoder, settings: LossSettings, idf: Tensor) -> Objective:
    """Return the objective of a method, its parameters drawn from torch's global generator.

    SettingsError for an unknown loss or kernel.
    """
    loss = LOSSES[method.loss]
    kind = loss if isinstance(loss, type) else FunctionObjective
    return kind(method, encoder, settings, idf)


def classification_term(logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
    """Return the binary cross-entropy of labelled scenes from logits (..., B, C), for instance of two views.

    It is the mean over labels, labelled scenes and leading dimensions; 0 when no scene is labelled.
    """
    targets = labels.to(logits).expand(logits.shape)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)
    use = labelled.expand(losses.shape)
    return (losses * use).sum() / use.sum().clamp_min(1)
