"""A whole training step as one CUDA graph: a small network leaves a GPU waiting for thousands of launches."""

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch

from mosaic.settings import TrialSettings
from mosaic.utils.progress import log

# steps x scenes x pixels of a view x parameters from which on compiling pays, as measured on an H200
_WORK = 5e17
_EAGER = 3  # steps before the graph is recorded: they allocate, compile and choose algorithms
_side_stream = cache(torch.cuda.Stream)


class CapturedAdamW(torch.optim.AdamW):
    """AdamW whose ``step`` is recorded as one CUDA graph, with all that its closure does, and then replayed.

    The closure must do the same to the same tensors at every step, and must not wait for the device. Where
    recording fails, steps go on as they are, and the log says why.
    """

    capture = False  # without it this is plain AdamW
    _taken = 0
    _replay: Callable[[], Any] | None = None

    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        work = partial(super().step, closure)
        if not self.capture:
            return work()
        self._taken += 1
        if self._taken <= _EAGER:
            return aside(work)
        if self._replay is None:
            try:
                self._replay = record(work)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                reason = str(error).partition("\n")[0]
                log(f"training steps are launched kernel by kernel: no CUDA graph ({reason})")
                self.capture = False
                return work()
        return self._replay()


def record(work: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that replays what ``work`` launches on a GPU; now it only records."""
    graph = torch.cuda.CUDAGraph()
    # the thread that reads ahead may pin memory meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def aside(work: Callable[[], Any]) -> Any:
    """Do ``work`` on another stream, as CUDA wants it before a graph is recorded."""
    stream, current = _side_stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        result = work()
    current.wait_stream(stream)
    return result


def captures(wanted: bool, device: torch.device, processes: int, rank: int) -> bool:
    """Return whether steps can be recorded; the log says once why those of a GPU cannot."""
    if wanted and device.type == "cuda" and processes > 1 and rank == 0:
        log("training steps are launched kernel by kernel: a CUDA graph holds one process")
    return wanted and device.type == "cuda" and processes == 1


def compiles(trial: TrialSettings, parameters: int, device: torch.device, processes: int) -> bool:
    """Return whether training compiles an encoder of so many parameters, which takes a minute or so."""
    if trial.compute.compile_encoder != "auto":
        return trial.compute.compile_encoder == "yes"
    work = trial.steps * trial.batch_scenes * trial.views.image_size**2 * parameters
    return device.type == "cuda" and processes == 1 and find_spec("triton") is not None and work >= _WORK
