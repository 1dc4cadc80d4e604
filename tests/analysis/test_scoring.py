"""Scores are tested with the tables they end in; here, that a process which scores starts fast."""

import subprocess
import sys


def test_processes_that_score_load_neither_pytorch_nor_what_draws():
    code = "import sys, mosaic.analysis.scoring, mosaic.experiments.parallel; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mosaic.analysis.scoring" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "lightning", "matplotlib", "seaborn"}
