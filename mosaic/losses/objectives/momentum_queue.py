"""A queue of keys from a momentum encoder, with their labels: MoCo v2 for label kernels.

He et al. 2020 (arXiv:1911.05722) and Chen et al. 2020 (arXiv:2003.04297) for queue and momentum; labels
travel with the keys, so a label kernel reaches further than the batch.
"""

import copy
from typing import ClassVar

import torch
from torch import Tensor, nn

from mosaic.losses.objectives.base import Step, register_loss
from mosaic.losses.objectives.contrastive import LABEL_SETTINGS, LabelContrast
from mosaic.losses.pairs import LabelledViews
from mosaic.models.encoders import Encoder


@register_loss("queue")
class MomentumQueue(LabelContrast):
    """Label contrast of a batch against momentum keys of the same batch and of earlier ones.

    Candidates are the keys of the same images, in the same order, and the queue. An image's own key takes no
    part; a scene that comes back counts as another. All processes hold the same queue.
    """

    reads: ClassVar = {"label": LABEL_SETTINGS | {"queue_size", "key_momentum"}}
    queue: Tensor
    queue_labels: Tensor
    queue_labelled: Tensor
    enqueued: Tensor

    def build(self, encoder: Encoder) -> None:
        """Make the heads, the key encoder with its heads, and the queue."""
        super().build(encoder)
        self.key_encoder, self.key_heads = copy.deepcopy(encoder), copy.deepcopy(self.heads)
        for parameter in (*self.key_encoder.parameters(), *self.key_heads.parameters()):
            parameter.requires_grad = False
        self._online = [encoder]  # in a list, so that it is not registered twice
        size, width = self.settings.queue_size, self.settings.projection_dim
        self.register_buffer("queue", torch.zeros(size, width))
        self.register_buffer("queue_labels", torch.zeros(size, len(self.idf)))
        self.register_buffer("queue_labelled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.long))  # keys ever put into the queue

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Return ``label`` and ``classify``; while training, move the key encoder on and fill the queue."""
        queries, keys = self.label_views(step), self._keys(step)
        candidates = LabelledViews(
            torch.cat([keys, self.queue]),
            torch.cat([queries.labels, self.queue_labels]),
            torch.cat([queries.labelled, self.queue_labelled]),
            torch.cat([queries.scene, torch.full_like(self.queue_labelled, -1, dtype=torch.long)]),
        )
        # a mask, for the number of keys is known to the device alone
        place = torch.arange(len(candidates.scene), device=keys.device)
        label = self.label_term(queries.embeddings, candidates, absent=place >= len(keys) + self.enqueued)
        if self.training:
            self._enqueue(keys, queries)
        return {"label": label, **self.classification(step)}

    @torch.no_grad()
    def _keys(self, step: Step) -> Tensor:
        """Move the key encoder towards the online one, and return the keys of the batch (N, D)."""
        if self.training:
            self._follow(self.key_encoder, self._online[0])
            self._follow(self.key_heads, self.heads)
        device = step.labels.device.type
        with torch.autocast(device, torch.get_autocast_dtype(device), self.autocast):  # as the encoder
            features = self.key_encoder(step.images)
        split = {s: value.unflatten(0, (2, -1)).to(step.features[s]) for s, value in features.items()}
        keys = self.key_heads.project("label", split)
        return torch.cat([views.flatten(0, 1) for views in keys.values()])

    def _follow(self, key: nn.Module, online: nn.Module) -> None:
        for average, current in zip(key.parameters(), online.parameters(), strict=True):
            average.lerp_(current.detach(), 1 - self.settings.key_momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, views: LabelledViews) -> None:
        """Overwrite the oldest entries."""
        latest = slice(-len(self.queue), None)
        entries = (self.enqueued + torch.arange(len(keys[latest]), device=keys.device)) % len(self.queue)
        self.queue[entries] = keys[latest].to(self.queue)
        self.queue_labels[entries] = views.labels[latest].to(self.queue_labels)
        self.queue_labelled[entries] = views.labelled[latest]
        self.enqueued += len(keys[latest])
