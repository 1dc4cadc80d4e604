import subprocess
import sys

import pytest

from mosaic.datasets.registry import DATASETS, open_archive, register_dataset, simulate_archive
from mosaic.utils.errors import ArchiveError


def test_a_registered_class_is_opened_under_its_name(tmp_path):
    @register_dataset("my_patches")
    class MyPatches:
        def __init__(self, root, bands, include_snow_cloud, problems):
            self.arguments = root, bands, include_snow_cloud, problems

    assert open_archive("my_patches", tmp_path, "10m").arguments == (tmp_path, "10m", False, None)
    with pytest.raises(ArchiveError, match="no simulation"):
        simulate_archive("my_patches", tmp_path, 12, 0)
    del DATASETS["my_patches"]


def test_the_registry_is_imported_without_torchgeo_or_rasterio():
    code = "import sys, mosaic.datasets.registry; print({'torchgeo', 'rasterio', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
