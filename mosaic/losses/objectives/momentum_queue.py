"""A queue of keys from a momentum encoder, with their labels: MoCo v2 for label kernels.

He et al. 2020 (arXiv:1911.05722) and Chen et al. 2020 (arXiv:2003.04297) for queue and momentum; labels
travel with the keys, so a label kernel reaches further than the batch.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import contrast
from mosaic.losses.label_kernels import pair_weights
from mosaic.losses.objectives.base import Objective, ObjectiveSettings, Step
from mosaic.losses.pairs import with_other_views
from mosaic.methods import Method
from mosaic.models.encoders import Encoder
from mosaic.models.heads import Heads


class Queue(Objective):
    """Label contrast of a batch against momentum keys of the same batch and of earlier ones.

    Queries are the projections of all views of both sensors; candidates are the keys of the same images, in
    the same order, and the queue. An image's own key is neither positive nor negative; those of other views
    of its scene weigh 1, others what the kernel says. Every one of several processes holds the same queue.

    Args:
        method: a row with a label term.
        encoder: the online encoder, of which the key encoder is a moving average.
        feature_dims: stream -> width of its features.
        settings: kernel, ``temperatures.label``, ``queue_size``, ``key_momentum``.
    """

    queue: Tensor
    queue_labels: Tensor
    place: Tensor

    def __init__(
        self, method: Method, encoder: Encoder, feature_dims: Mapping[str, int], settings: ObjectiveSettings
    ) -> None:
        super().__init__(method)
        self.settings = settings
        self.heads = Heads(method, feature_dims, settings.classes, settings.projection_dim)
        self.key_encoder, self.key_heads = copy.deepcopy(encoder), copy.deepcopy(self.heads)
        for parameter in (*self.key_encoder.parameters(), *self.key_heads.parameters()):
            parameter.requires_grad = False
        self._online: list[nn.Module] = [encoder]  # in a list: it is not ours to register
        size = settings.queue_size
        self.register_buffer("queue", torch.zeros(size, settings.projection_dim))
        self.register_buffer("queue_labels", torch.zeros(size, settings.classes))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))  # keys ever put into the queue

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``label`` and ``total``; while training, move the key encoder on and fill the queue."""
        query = _stacked(self.heads.project("label", step.features))
        keys = self._keys(step)
        views, size = len(query) // len(step.labels), len(step.labels)
        filled = min(int(self.place), len(self.queue))
        known = (step.labels.float() * step.labelled[:, None]).repeat(views, 1)
        everyone = torch.cat([known, self.queue_labels[:filled]])
        # a scene may come back: its keys in the queue count as another scene's
        scene = functional.pad(torch.arange(size, device=query.device).repeat(views), (0, filled), value=-1)
        anchor = step.labelled.repeat(views)

        def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
            weights = pair_weights(
                everyone,
                self.method.kernel or self.settings.kernel,
                class_counts=self.settings.class_counts,
                total=self.settings.total,
                threshold=self.settings.kernel_threshold,
                rows=rows,
            )
            return with_other_views(weights, scene, anchor, rows), None

        candidates = torch.cat([keys, self.queue[:filled]])
        label = contrast(query, pairs, self.settings.temperatures.label, candidates)
        if self.training:
            self._enqueue(keys, known)
        return {"label": label, "total": self.method.label * label}

    @torch.no_grad()
    def _keys(self, step: Step) -> Tensor:
        """Move the key encoder towards the online one, and return the keys of the batch (N, D)."""
        if self.training:
            self._follow(self.key_encoder, self._online[0])
            self._follow(self.key_heads, self.heads)
        features = self.key_encoder(step.images)
        split = {stream: value.unflatten(0, (2, -1)) for stream, value in features.items()}
        return _stacked(self.key_heads.project("label", split))

    def _follow(self, key: nn.Module, online: nn.Module) -> None:
        for ours, theirs in zip(key.parameters(), online.parameters(), strict=True):
            ours.lerp_(theirs.detach(), 1 - self.settings.key_momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Overwrite the oldest entries."""
        keys, labels = keys[-len(self.queue) :], labels[-len(self.queue) :]
        where = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[where] = keys.to(self.queue)
        self.queue_labels[where] = labels.to(self.queue_labels)
        self.place += len(keys)


def _stacked(projections: Mapping[str, Tensor]) -> Tensor:
    """Stack (V, B, D) of all streams to (N, D), view after view."""
    return torch.cat([views.flatten(0, 1) for views in projections.values()])
