"""What ``docs/extend.md`` shows is what runs."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mosaic.losses.label_kernels import KERNELS
from mosaic.losses.objectives.base import LOSSES
from mosaic.methods import METHODS
from mosaic.settings import TrialSettings
from mosaic.training.pretrain import pretrain
from mosaic.utils import plugins
from mosaic.utils.plugins import load_plugins, plugin_hashes

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Load the Python blocks of the page as a file, and forget them afterwards."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    registries = (LOSSES, KERNELS, METHODS)
    before = [dict(registry) for registry in registries]
    file = tmp_path / "my_losses.py"
    file.write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    )
    load_plugins([file])
    yield file
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_methods_of_the_page_learn(plugin, store, tmp_path):
    small = {"image_size": 16, "steps": 12, "batch_scenes": 12, "projection_dim": 8, "monitor_every": 0}
    for method, kernel in (("attraction", "jaccard"), ("one_layer", "dice"), ("mosaic_dice", "jaccard")):
        trial = TrialSettings(**small, method=method, kernel=kernel, learning_rate=3e-3)
        pretrain(store, trial, store.split_rows("train"), tmp_path / method)
        total = pd.read_csv(tmp_path / method / "log.csv")["total"].dropna()
        assert len(total) == 12 and total[-3:].mean() < total[:3].mean()


def test_results_of_a_plugin_are_cached_under_its_content(plugin):
    (content,) = plugin_hashes(LOSSES["attraction"], KERNELS["dice"], LOSSES["vicreg"])
    assert content and not plugin_hashes(LOSSES["vicreg"], KERNELS["jaccard"])
