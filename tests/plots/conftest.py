"""One theme for all figures; every figure is closed after its test."""

from collections.abc import Iterator

import pytest
from matplotlib import pyplot as plt

from mosaic.plots import palette


@pytest.fixture(autouse=True)
def clean_figures() -> Iterator[None]:
    plt.switch_backend("agg")
    palette.use_theme()
    yield
    plt.close("all")
