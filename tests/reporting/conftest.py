"""Tiny notebooks, executed once for all tests of the wing."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

Writer = Callable[..., Path]

PARAMETERS = "seed: int = 0  # of everything random\nrate: float = 1.0e-3  # step size, unitless\nname: str = 'a'"
SHOW = """\
import sys, numpy as np, pandas as pd
from matplotlib import pyplot as plt
from mosaic.common.progress import say
from mosaic.reporting import display
say("drawing: 1/1")
print("warning on stderr", file=sys.stderr)
print(f"rate is {rate!r}")
display.stamp(seed=seed, device="cpu, 2 threads", data="0123abcd")"""
FIGURE = """\
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for k in range(3):
    ax.plot(np.linspace(0, 1, 20) ** (k + 1), label=f"method {k}")
ax.set(xlabel="labels, %", ylabel="macro AP"); ax.legend(frameon=False)
display.figure(fig, "More labels help every method; $\\\\tau = 0.1$.", "Three rising curves.", headline=True)"""
TABLE = """\
frame = pd.DataFrame({"random": [(0.41, 0.39, 0.43), 12], "mosaic": [(0.62, 0.60, 0.64), 1234]}, index=["AP", "n"])
display.table(frame.T.reset_index(names="method"), "The proposed method is best.", best={"AP": "max"})
display.answer("Label-aware contrast **helps**, most where labels are few.")
display.key_result("macro AP gained over random at 5 %", 0.21, low=0.19, high=0.23, n_seeds=3)"""


def notebook(title: str, *cells: str, parameters: str = PARAMETERS) -> nbformat.NotebookNode:
    """Make a notebook: cells that start with ``#`` and a space, or with ``$``, are Markdown."""
    content = [new_markdown_cell(f"# {title}\n\nDoes it *work*?")]
    content.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    for cell in cells:
        is_prose = cell.startswith(("## ", "### ", "$"))
        content.append(new_markdown_cell(cell) if is_prose else new_code_cell(cell))
    return new_notebook(cells=content, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


@pytest.fixture(scope="session")
def write_notebooks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """Return a function that writes notebooks by name to a fresh folder."""

    def write(**notebooks: nbformat.NotebookNode) -> list[Path]:
        folder = tmp_path_factory.mktemp("notebooks")
        paths = [folder / f"{name}.ipynb" for name in notebooks]
        for path, content in zip(paths, notebooks.values(), strict=True):
            nbformat.write(content, path)
        return paths

    return write
