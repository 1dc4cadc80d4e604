"""One theme for all figures; every figure is closed after its test."""

import pytest
from matplotlib import pyplot as plt

from mosaic.plots import palette


@pytest.fixture(autouse=True)
def clean_figures():
    plt.switch_backend("agg")
    palette.use_theme()
    yield
    plt.close("all")


@pytest.fixture
def words():
    """Return a function that reads the labels or texts of a figure."""
    return lambda texts: [text.get_text() for text in texts]


@pytest.fixture
def spans():
    """Return a function that lists the intervals which axes show, as two points each."""

    def spans(ax):
        lines = [lines for lines in ax.collections if hasattr(lines, "get_segments")]
        return [span for part in lines for span in part.get_segments() if len(span) == 2]

    return spans
