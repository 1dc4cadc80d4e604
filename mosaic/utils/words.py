"""Numbers in sentences."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``"1 seed"``, ``"0 classes"``, ``"2,000 patches"``."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"
