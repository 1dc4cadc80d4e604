"""Numbers in sentences."""

import math


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``"1 seed"``, ``"0 classes"``, ``"2,000 patches"``."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def effect(value: float, low: float, high: float) -> str:
    """Return a difference with its interval, or alone where there is none: ``"+0.012 [-0.003, +0.027]"``."""
    return f"{value:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if math.isfinite(low) else "")
