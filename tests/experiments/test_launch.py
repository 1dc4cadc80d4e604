import os
import sys

import pytest

from mosaic.experiments.launch import LAUNCH, Launch, read_options
from mosaic.utils.errors import RunError, SettingsError


def test_settings_are_handed_on_and_taken_back(monkeypatch):
    monkeypatch.delenv(LAUNCH, raising=False)
    assert Launch.current() == Launch("pool", {}, False)
    launch = Launch("slurm", {"partition": "gpu", "gpus_per_node": 1}, keep_going=True)
    with launch.handed_on():
        assert Launch.current() == launch
        with Launch("local").handed_on():
            assert Launch.current().cluster == "local"
        assert Launch.current() == launch
    assert LAUNCH not in os.environ


def test_options_are_words_or_a_file(tmp_path):
    assert read_options("partition=gpu,gpus_per_node=1,mem_gb=7.5,gres=gpu:a100:1") == {
        "partition": "gpu",
        "gpus_per_node": 1,
        "mem_gb": 7.5,
        "gres": "gpu:a100:1",
    }
    path = tmp_path / "cluster.yaml"
    path.write_text("partition: gpu\nsetup: [module load cuda]\n")
    assert read_options(str(path)) == {"partition": "gpu", "setup": ["module load cuda"]}
    path.write_text("gpu\n")
    for wrong in ("gpu", str(path), str(tmp_path / "nowhere.yml")):
        with pytest.raises(SettingsError, match=r"name=value|name: value"):
            read_options(wrong)


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        (lambda: Launch("slrum"), "no cluster 'slrum'; did you mean 'slurm'"),
        (lambda: Launch("local", {"partition": "gpu"}), "Unknown argument 'partition'"),
        (lambda: Launch("local", {"timeout_min": "long"}), "timeout_min"),
        (lambda: Launch("local", {"nodes": 2}), "one task on one machine: leave out nodes"),
        (lambda: Launch("pool", {"partition": "gpu"}), "without --cluster"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(launch, message):
    with pytest.raises(SettingsError, match=message):
        launch().check()


def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RunError, match=r"srun.*--cluster local or pool"):
        Launch("slurm").check()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match=r"pip install 'mosaic-eo\[cluster\]'"):
        Launch("local").check()
    Launch().check()
