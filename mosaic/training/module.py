"""One optimiser step of any method, as a LightningModule."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mosaic.losses.label_kernels import idf_weights
from mosaic.losses.objectives.base import Step, build_objective
from mosaic.models.checkpoint import LoadedEncoder, layout_for, load_encoder
from mosaic.models.encoders import Encoder, channels_of
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.store.record_format import BandLayout
from mosaic.training.data import Batch, KnownLabels, view_generator
from mosaic.transforms.views import Views
from mosaic.utils.distributed import gather
from mosaic.utils.errors import CheckpointError, RunError

TERMS = ("intra", "inter", "label", "classify")
_MAX_NORM = 1.0  # of the gradients


class Pretraining(LightningModule):
    """Encoder, heads and loss terms of a method, and how they are optimised.

    Args:
        trial: the run.
        store: for bands and classes only.
        known: for the label frequencies within the budget only.

    Attributes:
        values: term -> value of the last step, and ``"total"``.
    """

    def __init__(self, trial: TrialSettings, store: PackedStore, known: KnownLabels) -> None:
        super().__init__()
        self.trial, views = trial, trial.views
        self.method = trial.weighted_method()
        start = load_encoder(trial.initial) if trial.initial is not None else None
        layout = layout_for(start, store.layout) if start else store.layout
        self.views = Views(
            layout,
            views.image_size,
            views.shared_geometry,
            crop_scale=views.crop_scale,
            radiometry=views.radiometry,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.seed)
            self.encoder = Encoder(trial.encoder, channels_of(self.method, layout), views.image_size)
            idf = idf_weights(known.class_counts, known.total)
            self.objective = build_objective(self.method, self.encoder, trial.loss, idf)
        self._keep_statistics = start is not None
        if start is not None:
            self._start_from(start)
        self.values: dict[str, float] = {}
        self.train()

    def _start_from(self, start: LoadedEncoder) -> None:
        """Take the weights of a trained encoder, and its classifier where there is one."""
        bands = {stream: start.encoder.in_channels.get(stream) for stream in self.encoder.in_channels}
        expected = (self.encoder.name, self.encoder.in_channels, self.encoder.image_size)
        found = (start.encoder.name, bands, start.encoder.image_size)
        if expected != found:
            raise CheckpointError(
                f"{self.trial.initial} holds another architecture: expected encoder, bands and image size "
                f"{expected}, found {found}: choose the settings it was trained with"
            )
        for stream, backbone in self.encoder.backbones.items():
            backbone.load_state_dict(start.encoder.backbones[stream].state_dict())
        if self.objective.classifier is not None and start.classifier is not None:
            self.objective.classifier.load_state_dict(start.classifier.state_dict())

    def train(self, mode: bool = True) -> Self:
        """Set the mode. An encoder that was trained before keeps the statistics of its batch normalisation.

        Small batches would replace those that its features, and the probe it starts with, were made with.
        """
        super().train(mode)
        if self._keep_statistics:
            for layer in self.encoder.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def replace_encoder(self, encoder: Encoder, layout: BandLayout) -> None:
        """Use another encoder, and normalise images as it expects."""
        self.encoder = encoder
        self.views = Views(layout, self.trial.views.image_size, self.trial.views.shared_geometry)

    @torch.no_grad()
    def calibrate_batch_norm(self, batches: Iterable[Batch]) -> None:
        """Estimate the statistics of batch normalisation on some images; the weights stay as they were drawn.

        Without it an untrained network would be evaluated on activations of arbitrary scale.
        """
        for batch in batches:
            self.encoder(self.two_views(batch.to(self.device)))

    def two_views(self, batch: Batch) -> dict[str, Tensor]:
        """Return two random views of each scene: sensor -> (2B, bands, H, W), all first views first."""
        generator = view_generator(self.device, self.trial.seed, "views", batch.step)
        return self.views(batch.records, generator, batch.shard, second=batch.second)

    def forward(self, images: dict[str, Tensor], labels: Tensor, labelled: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss, unweighted, and ``"total"``: a function of tensors alone.

        Args:
            images: as :meth:`two_views` returns them; one forward for both views of a sensor.
            labels: (B, C) of this process.
            labelled: (B,) bool.
        """
        if self.objective.uses_maps:
            features, maps = self.encoder.with_maps(images)
        else:
            features, maps = self.encoder(images), {}

        def by_view(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.view(2, -1, *value.shape[1:]) for name, value in values.items()}

        return self.objective(
            Step(images, by_view(features), by_view(maps), gather(labels), gather(labelled))
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted sum of the method's terms, and keep their values.

        Raises:
            RunError: when the loss is not finite; names the step and its rows.
        """
        terms = self(self.two_views(batch), batch.labels, batch.labelled)
        values = torch.stack([value.detach() for value in terms.values()]).tolist()
        self.values = dict(zip(terms, values, strict=True))
        if not np.isfinite(values).all():
            raise RunError(
                f"loss became {self.values} at step {batch.step + 1}, rows {batch.rows.tolist()}: "
                "look at these patches, lower the learning rate, or use precision '32'"
            )
        return terms["total"]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: linear warm-up, then cosine to 0."""
        return self.trial.optimiser.learning_rate * self._schedule(step)

    def _schedule(self, step: int) -> float:
        warmup = round(self.trial.optimiser.warmup_fraction * self.trial.steps)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + cos(pi * (step - warmup) / max(1, self.trial.steps - warmup)))

    def configure_optimizers(self) -> Any:
        """AdamW; biases and normalisation do not decay."""
        trained = [p for p in self.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.ndim > 1]
        plain = [p for p in trained if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        rate, decay = self.trial.optimiser.learning_rate, self.trial.optimiser.weight_decay
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)  # in half the time
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip the norm of all gradients. Lightning's own clipping refuses a fused optimiser under bf16."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), _MAX_NORM)
