"""What a machine computes on, and in which precision."""

import contextlib
from typing import Any

import torch


def resolve_precision(precision: str) -> str:
    """Return ``"32"`` or ``"bf16-mixed"``; ``"auto"`` is bf16 only on a GPU that computes in it."""
    if precision != "auto":
        return precision
    capable = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8
    return "bf16-mixed" if capable else "32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which encoders are evaluated: bf16 on a GPU, unless ``precision`` is ``"32"``.

    Features differ from those of float32 by about a hundredth of their spread.
    """
    bf16 = device.type == "cuda" and resolve_precision(precision) != "32"
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
