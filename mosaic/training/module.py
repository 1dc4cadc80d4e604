"""One optimiser step of any method, as a LightningModule."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import cos, pi
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mosaic.losses.label_kernels import idf_weights
from mosaic.losses.objectives.base import Step, build_objective
from mosaic.models.checkpoint import layout_for, load_encoder
from mosaic.models.encoders import Encoder, channels_of
from mosaic.models.loaded import LoadedEncoder
from mosaic.settings import TrialSettings
from mosaic.store.prefetch import RecordTable
from mosaic.store.reader import PackedStore, Rows
from mosaic.store.record_format import BandLayout
from mosaic.training.captured import CapturedAdamW, captures, compiles
from mosaic.training.data import Batch, KnownLabels, groups_of, records_of_views
from mosaic.transforms.views import Views
from mosaic.utils.devices import resolve_precision
from mosaic.utils.distributed import gather
from mosaic.utils.errors import CheckpointError, RunError
from mosaic.utils.progress import log

TERMS = ("intra", "inter", "label", "classify")
_MAX_NORM = 1.0  # of the gradients
_LOG_EVERY = 50  # steps between two readings of the loss from a GPU


class Pretraining(LightningModule):
    """Encoder, heads and loss terms of a method, and how they are optimised.

    Of the store it knows bands and classes, of labels their frequencies within the budget, and of the records
    those of the table, where batches have positions in it.
    """

    def __init__(
        self, trial: TrialSettings, store: PackedStore, known: KnownLabels, table: RecordTable | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.trial, self.method = trial, trial.weighted_method()
        start = load_encoder(trial.initial) if trial.initial else None
        layout = layout_for(start, store.layout) if start else store.layout
        self.views = Views(layout, **dict(trial.views))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.seed)
            self.encoder = Encoder(trial.encoder, channels_of(self.method, layout), trial.views.image_size)
            if start is not None:
                self._start_from(start)  # before an objective copies the encoder
            idf = idf_weights(known.class_counts, known.total)
            self.objective = build_objective(self.method, self.encoder, trial.loss, idf)
        self._keep_statistics = start is not None
        if start is not None and start.card["class_names"] == list(store.class_names):
            own, given = self.objective.classifier, start.classifier
            if own is not None and type(given) is type(own):
                own.load_state_dict(given.state_dict())
        elif start is not None and start.classifier is not None:
            log(f"{trial.initial} was trained for other classes: its classifier starts anew")
        self._groups, self._table = groups_of(self.method, layout), table
        self._compiled = False
        self._inputs: dict[str, Tensor] = {}
        self._unread = list[tuple[int, Rows, Tensor]]()
        self._log_every = trial.compute.log_every or (_LOG_EVERY if torch.cuda.is_available() else 1)
        self.train()

    def _start_from(self, start: LoadedEncoder) -> None:
        """Take the weights of a trained encoder."""
        expected, found = ((e.name, e.in_channels, e.image_size) for e in (self.encoder, start.encoder))
        if expected != found:
            raise CheckpointError(
                f"{self.trial.initial} holds another architecture: expected encoder, bands and image size "
                f"{expected}, found {found}: choose the settings it was trained with"
            )
        self.encoder.load_state_dict(start.encoder.state_dict())

    def train(self, mode: bool = True) -> Self:
        """Set the mode; an encoder to start from keeps the statistics that its probe was fitted with."""
        super().train(mode)
        if self._keep_statistics:
            for layer in self.encoder.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def replace_encoder(self, encoder: Encoder, layout: BandLayout) -> None:
        """Use another encoder, and normalise images as it expects."""
        self.encoder = encoder
        self.views = Views(layout, **dict(self.trial.views))

    @torch.no_grad()
    def calibrate_batch_norm(self, batches: Iterable[Batch]) -> None:
        """Estimate the statistics of batch normalisation, or untrained weights give features of any scale."""
        for batch in batches:
            self.encoder(self.two_views(self._in_place(batch.tensors)))

    def two_views(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return two random views of each scene: sensor -> (2B, bands, H, W), all first views first."""
        return self.views.apply(records_of_views(tensors, self._groups, self._table), tensors)

    def forward(self, images: dict[str, Tensor], labels: Tensor, labelled: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss, unweighted, and ``"total"``, from what :meth:`two_views` returns.

        Labels (B, C) and whether a scene has any that may be used (B,) are those of this process.
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

    def on_fit_start(self) -> None:
        """Compile the encoder where it pays; evaluation turns that off, see :meth:`uncompiled`."""
        parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        self._compiled = compiles(self.trial, parameters, self.device, self.trainer.world_size)
        if self._compiled:
            # where nobody asked for it, what does not compile is trained as it is, and torch says why
            torch._dynamo.config.suppress_errors = self.trial.compute.compile_encoder == "auto"
            for backbone in self.encoder.backbones.values():
                backbone.compile(dynamic=False)  # another size would compile anew, and run slower ever after

    def uncompiled(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the encoder takes images of any number."""
        return torch.compiler.set_stance("force_eager") if self._compiled else contextlib.nullcontext()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Take a step: forward, loss, backward, clipping and AdamW, on a GPU as one CUDA graph."""
        counted: Any = self.optimizers()  # Lightning counts its steps
        optimizer: CapturedAdamW = counted.optimizer
        tensors = self._in_place(batch.tensors)
        self._rate.fill_(self.learning_rate(batch.step))
        for group in optimizer.param_groups:  # loading a checkpoint replaces them
            group["lr"], group["capturable"] = self._rate, self._rate.is_cuda
        counted.step(closure=partial(self._gradients, tensors))
        self._unread.append((batch.step + 1, batch.rows[0], self._losses.clone()))

    def _gradients(self, tensors: Mapping[str, Tensor]) -> None:
        """Compute the gradients and keep the values of the terms; nothing waits for the device."""
        self.zero_grad(set_to_none=True)
        bf16 = resolve_precision(self.trial.precision) != "32"
        images = self.two_views(tensors)
        # without a cache of casted weights, which would outlive the recording of a graph
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            terms = self(images, tensors["labels"], tensors["labelled"])
        self._names, self._losses = tuple(terms), torch.stack([term.detach() for term in terms.values()])
        self.manual_backward(terms["total"])

    def _in_place(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return tensors on the device, the same ones at every step, filled anew."""
        for name, tensor in tensors.items():
            if name not in self._inputs:
                self._inputs[name] = torch.empty_like(tensor, device=self.device)
            self._inputs[name].copy_(tensor, non_blocking=True)
        return self._inputs

    @property
    def losses_due(self) -> bool:
        """Whether the losses must be read before the next step."""
        return len(self._unread) >= self._log_every

    def read_losses(self, log: Sequence[dict[str, float]]) -> None:
        """Add the terms of steps not yet read to the end of ``log``; RunError for one that is not finite."""
        steps, self._unread = self._unread, []
        read = torch.stack([losses for _, _, losses in steps]).tolist() if steps else []
        for (step, rows, _), values, row in zip(steps, read, log[len(log) - len(steps) :], strict=True):
            terms = dict(zip(self._names, values, strict=True))
            if not np.isfinite(values).all():
                raise RunError(
                    f"loss became {terms} at step {step}, rows {rows.tolist()} (of steps {steps[0][0]} to "
                    f"{steps[-1][0]}, read together): look at these patches, lower the learning rate, or use "
                    "precision '32'"
                )
            row |= terms

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: linear warm-up, then cosine to 0."""
        peak, steps = self.trial.optimiser.learning_rate, self.trial.steps
        warmup = round(self.trial.optimiser.warmup_fraction * steps)
        if step < warmup:
            return peak * ((step + 1) / warmup)
        return peak * (0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup))))

    def configure_optimizers(self) -> CapturedAdamW:
        """Return AdamW; biases and normalisation do not decay."""
        trained = [p for p in self.parameters() if p.requires_grad]
        decayed, plain = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        decay = self.trial.optimiser.weight_decay
        optimizer = CapturedAdamW(groups, weight_decay=decay, fused=True)  # in half the time
        processes = self.trainer.world_size, self.trainer.global_rank
        optimizer.capture = captures(self.trial.compute.capture, self.device, *processes)
        cuda = self.device.type == "cuda"
        # AdamW on a GPU reads float32; on a CPU float64, as if it were given a number
        self._rate = torch.zeros((), device=self.device, dtype=torch.float32 if cuda else torch.float64)
        return optimizer

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip the norm of all gradients; Lightning does not where a module takes its steps itself."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), _MAX_NORM)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Leave a batch where it is; the step moves it."""
        return batch
