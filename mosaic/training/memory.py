"""How many trials one GPU trains at a time."""

from typing import Any

import torch
from torch import Tensor, nn

from mosaic.datasets.sensors import S1_BANDS, WAVELENGTH, sentinel1, sentinel2
from mosaic.models.encoders import Encoder, channels_of
from mosaic.settings import StudySettings, TrialSettings
from mosaic.store.record_format import BandLayout

#: Layout of an archive that is not packed yet.
USUAL = BandLayout((sentinel1(), sentinel2(tuple(WAVELENGTH))), dict.fromkeys((*S1_BANDS, *WAVELENGTH), 1))
_MOST = 4
_CONTEXT = 2**30  # bytes of CUDA itself and its libraries, for each process
_FULL = 1e14  # scenes x pixels of a view x parameters of a step that keeps a GPU busy alone


def trials_per_gpu(settings: StudySettings) -> int:
    """Return the setting of that name or, where it is 0, how many fit; one, if its steps fill a GPU.

    Not measured on a GPU.
    """
    if settings.trials_per_gpu or not torch.cuda.is_available():
        return settings.trials_per_gpu or 1
    kept, work = step_size(settings.trial)
    share = 1 - settings.trial.compute.gpu_records  # the rest is for records, see mosaic.training.data
    fitting = int(share * torch.cuda.mem_get_info()[0] / (kept + _CONTEXT))
    return 1 if work >= _FULL else max(1, min(fitting, _MOST))


def step_size(trial: TrialSettings) -> tuple[int, float]:
    """Return the bytes that a step keeps, estimated, and scenes x pixels of a view x parameters.

    Kept are float32 weights, gradients and moments, and for the backward pass what each layer puts out.
    """
    size, outputs = trial.views.image_size, list[int]()

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and next(layer.children(), None) is None:
            outputs.append(output.numel())

    with torch.device("meta"):
        encoder = Encoder(trial.encoder, channels_of(trial.weighted_method(), USUAL), size)
        for layer in encoder.modules():
            layer.register_forward_hook(note)
        encoder(
            {s.name: torch.empty(2 * trial.batch_scenes, len(s.bands), size, size) for s in USUAL.sensors}
        )
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return 4 * (sum(outputs) + 4 * parameters), float(trial.batch_scenes * size**2 * parameters)
