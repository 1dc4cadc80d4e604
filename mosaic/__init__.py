"""MoSAiC: multi-modal multi-label supervision-aware contrastive learning on Sentinel-1 and Sentinel-2.

A reconstruction from the abstract of arXiv:2507.08683. Importing this package is cheap.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import :func:`mosaic.experiments.trained.load` on first use: ``import mosaic`` does not load torch."""
    if name == "load":
        from mosaic.experiments.trained import load

        return load
    raise AttributeError(f"module 'mosaic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
