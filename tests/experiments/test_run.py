import pandas as pd
import pytest

from mosaic.experiments import run
from mosaic.utils.errors import RunError, SettingsError


@pytest.fixture(autouse=True)
def own_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))


def start(**values):
    return run.start("07_claims", {"out": "x", "claim_resamples": 100, "In": [], **values})


def test_parameters_are_taken_from_the_notebook(tmp_path):
    here = start(claim_resamples=200, unrelated=object())
    assert here.settings.claim_resamples == 200
    assert here.folder == tmp_path / "reports" / "x"


def test_a_name_that_papermill_injected_but_nobody_declared_is_refused():
    injected = "# Parameters\nclaim_resample = 500\n"
    with pytest.raises(SettingsError, match="did you mean 'claim_resamples'"):
        start(In=["claim_resamples = 100", injected], claim_resample=500)


def test_a_reports_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "reports").write_text("in the way")
    with pytest.raises(RunError, match="cannot write to"):
        start()


def test_hand_over_and_what_is_missing():
    here = start()
    with pytest.raises(RunError, match=r"run 01_explore_data\.ipynb with out='x' first"):
        here.earlier("01_explore_data")
    here.finish(claims="claims.json")
    assert here.earlier("07_claims")["claims"] == "claims.json"
    assert here.earlier_settings("07_claims") == here.settings


def test_a_table_is_computed_once_for_the_same_key():
    calls = []

    def compute():
        calls.append(1)
        return pd.DataFrame({"a": [1.5]})

    here = start()
    first = here.table("t", {"data": "f"}, compute)
    pd.testing.assert_frame_equal(here.table("t", {"data": "f"}, compute), first)
    assert len(calls) == 1
    here.table("t", {"data": "g"}, compute)
    assert len(calls) == 2


def test_a_raised_version_asks_for_new_work(monkeypatch):
    before = run.cache_path("t", {"data": "f"})
    monkeypatch.setattr(run, "RESULTS_VERSION", run.RESULTS_VERSION + 1)
    assert run.cache_path("t", {"data": "f"}) != before


def test_the_device_is_the_gpu_or_the_cores(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for cores, name in ((1, "CPU, 1 core"), (16, "CPU, 16 cores")):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert run.device_name() == name
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H200")
    assert run.device_name() == "NVIDIA H200"
