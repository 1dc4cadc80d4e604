import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from mosaic.experiments import study as study_module
from mosaic.experiments.predictions import read_arrays, save_arrays
from mosaic.experiments.study import Study, code_hash
from mosaic.settings import StudySettings
from mosaic.utils.errors import RunError, SettingsError
from mosaic.utils.files import lock


@pytest.fixture(autouse=True)
def own_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))


def opened(notebook="07_claims", **values):
    return Study.open(notebook, {"out": "x", "In": [], **values})


def test_parameters_are_taken_from_the_notebook(tmp_path):
    study = opened(companion_runs=["b"], unrelated=object())
    assert (study.settings.companion_runs, study.folder) == (["b"], tmp_path / "reports" / "x")
    injected = "# Parameters\ncompanion_run = []\n"
    with pytest.raises(SettingsError, match="did you mean 'companion_runs'"):
        opened(In=["companion_runs = []", injected], companion_run=[])


def test_a_reports_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "reports").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write to .*reports/x"):
        opened()


def test_tables_pass_from_notebook_to_notebook():
    earlier, later = opened("02_pretrain", steps=7), opened()
    for read in (lambda: later.read("encoders"), lambda: later.earlier("02_pretrain")):
        with pytest.raises(RunError, match=r"run 02_pretrain\.ipynb with out='x' first"):
            read()
    encoders = pd.DataFrame({"method": ["iai"], "seed": [0], "value": [float("nan")]})
    earlier.failed["pretraining"] = {"mosaic seed 0": "out of memory"}
    earlier.write(encoders=encoders, choices={"iai": {"steps": 3}})
    pd.testing.assert_frame_equal(later.read("encoders"), encoders)
    assert later.read("choices") == {"iai": {"steps": 3}}
    left = later.earlier("02_pretrain")
    assert left.settings == earlier.settings and left.settings.trial.steps == 7
    assert left.failed_trials().values.tolist() == [["pretraining", "mosaic seed 0", "out of memory"]]
    record = later.folder / "02_pretrain.json"
    record.write_text(record.read_text().replace('"steps": 7', '"step": 7'))  # as of another version
    with pytest.raises(RunError, match=r"x/02_pretrain\.json: .* parameter 'step'.*, run 02_pretrain again"):
        later.earlier("02_pretrain")


def test_a_run_can_be_read_where_its_project_was_moved_to(tmp_path, monkeypatch):
    first = tmp_path / "first"
    monkeypatch.setenv("MOSAIC_ROOT", str(first))
    inside, outside = str(first / "data" / "x"), str(tmp_path / "elsewhere" / "y")
    tables = {"encoders": pd.DataFrame({"folder": [inside, outside]})}
    opened("02_pretrain").write(choices={}, **tables)
    opened("01_explore_data").write(archive={"packed": inside, "title": "t", "origin": "simulated"})
    before = opened().earlier("02_pretrain")
    first.rename(tmp_path / "second")
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path / "second"))
    moved = str(tmp_path / "second" / "data" / "x")
    assert opened().read("encoders")["folder"].tolist() == [moved, outside]
    assert opened().read("archive") == {"packed": moved, "title": "t", "origin": "simulated"}
    assert opened().earlier("02_pretrain").settings == before.settings


@pytest.mark.parametrize("out", ["..", ".", "/tmp/x", "a/b", ".hidden", ""])
def test_a_run_is_a_folder_of_its_own_below_reports(tmp_path, out):
    with pytest.raises(SettingsError, match=r"'out'.*a run's name"):
        opened(out=out)
    assert not list(tmp_path.iterdir())


def handed_over(notebook, reads=(), out="x", **values):
    """Run a notebook that reads tables of the run, and writes one of its own."""
    table = {"02_pretrain": "encoders", "03_finetune_low_label": "results", "06_compare_methods": "ranks"}
    study = opened(notebook, out=out, **values)
    for name in reads:
        study.read(name)
    steps = study.read("encoders")["steps"] if reads else [values["steps"]]
    study.write(**{table[notebook]: pd.DataFrame({"steps": steps, "reused": [bool(reads)]})})


def test_results_of_what_has_changed_since_are_refused(tmp_path):
    handed_over("02_pretrain", steps=7)
    handed_over("03_finetune_low_label", ["encoders"])
    handed_over("06_compare_methods", ["encoders", "results"])
    handed_over("02_pretrain", steps=7, jobs=1)  # the same again
    opened().read("ranks")
    shutil.copytree(tmp_path / "reports" / "x", tmp_path / "reports" / "x, before")
    handed_over("02_pretrain", steps=8)
    with pytest.raises(RunError, match=r"run x/03_finetune_low_label again"):
        handed_over("06_compare_methods", ["encoders", "results"])
    with pytest.raises(RunError, match=r"run x/03_finetune_low_label, then x/06_compare_methods again"):
        opened().read("ranks")
    handed_over("03_finetune_low_label", ["encoders"])
    handed_over("06_compare_methods", ["encoders", "results"])
    assert opened().read("ranks")["steps"].tolist() == [8]
    before = Study("07_claims", StudySettings(), tmp_path / "reports" / "x, before")  # as to compare with
    assert before.read("ranks")["steps"].tolist() == [7]


def test_a_notebook_that_is_killed_while_it_writes_has_not_run(monkeypatch):
    """Its tables are new, its settings would be those of before."""
    handed_over("02_pretrain", steps=7)
    monkeypatch.setattr(study_module, "write_json", lambda path, content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        handed_over("02_pretrain", steps=8)
    with pytest.raises(RunError, match=r"run 02_pretrain\.ipynb with out='x' first"):
        opened().earlier("02_pretrain")


def test_a_companion_is_of_another_archive(monkeypatch):
    sources = {"x": "/data/a", "same": "/data/a", "other": "/data/b", "alike": "/data/c"}

    def store(study):
        return SimpleNamespace(manifest=SimpleNamespace(source=sources[study.folder.name]))

    monkeypatch.setattr(Study, "store", store)
    for name in sources:
        archive = {"title": "S" if name == "other" else "B", "packed": "p", "origin": "simulated"}
        opened("01_explore_data", out=name).write(archive=archive)
    runs = opened(companion_runs=["other"]).with_companions()
    assert [run.folder.name for run in runs] == ["x", "other"]
    assert [run.read("archive")["title"] for run in runs] == ["B", "S"]
    with pytest.raises(RunError, match="'x' and 'same' are both of the archive /data/a"):
        opened(companion_runs=["other", "same"]).with_companions()
    # two archives of one layout stay apart in every table
    runs = opened(companion_runs=["alike", "other"]).with_companions()
    assert [run.read("archive")["title"] for run in runs] == ["B, x", "B, alike", "S"]


def test_a_notebook_by_hand_stays_out_of_a_run_that_goes_on(monkeypatch):
    study = opened("02_pretrain", steps=7)
    with lock(study.folder):
        for call in (study.write, lambda: opened("02_pretrain")):
            with pytest.raises(RunError, match="in use by process"):
                call()
        monkeypatch.setenv("MOSAIC_RUN", str(study.folder))  # as the run itself hands on
        opened("02_pretrain").write()
        with lock(study.folder.with_name("y")), pytest.raises(RunError, match="in use by process"):
            opened(out="y")


def test_a_kernel_of_another_clone_is_refused(monkeypatch):
    monkeypatch.setenv("MOSAIC_PACKAGE", "/other/mosaic")
    with pytest.raises(RunError, match=r"started with /other/mosaic.*pip install -e"):
        opened()


def test_an_installed_library_works_in_a_clone_and_says_so_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("MOSAIC_ROOT")
    assert study_module.root() == study_module.PACKAGE.parent
    monkeypatch.setenv("MOSAIC_ROOT", "sub")  # of the repository, wherever a kernel starts
    monkeypatch.chdir(tmp_path)
    assert study_module.root() == study_module.PACKAGE.parent / "sub"
    monkeypatch.delenv("MOSAIC_ROOT")
    monkeypatch.setattr(study_module, "PACKAGE", tmp_path / "site-packages" / "mosaic")
    (tmp_path / "clone" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone" / "notebooks")
    with pytest.raises(RunError, match="in a clone of the repository"):
        study_module.root()
    (tmp_path / "clone" / "notebooks" / "01_explore_data.ipynb").write_text("{}")
    assert study_module.root() == tmp_path / "clone"


def test_a_table_is_computed_once_for_the_same_key_and_code(monkeypatch):
    compute, study = Mock(return_value=pd.DataFrame({"a": [1.5]})), opened()

    def computed(data):
        """Ask for a table twice; returns how often one was computed so far."""
        tables = [study.cached("t", {"data": data}, compute) for _ in range(2)]
        pd.testing.assert_frame_equal(*tables)
        return compute.call_count

    assert [computed(data) for data in "fgf"] == [1, 2, 2]
    monkeypatch.setattr(study_module, "imported_code", lambda rooms: "0" * 8)
    assert computed("g") == 3
    monkeypatch.setattr(study_module, "loaded_hashes", lambda: ["0"])  # a plugin was edited
    assert computed("g") == 4
    monkeypatch.setenv("MOSAIC_FRESH", str(time.time() + 9))  # newer than anything kept
    assert computed("g") == 6


def test_the_hash_of_code_changes_with_what_it_does(tmp_path):
    def hashed(source):
        (tmp_path / "losses" / "mine.py").write_text(source)
        return code_hash(tmp_path, ("losses",))

    (tmp_path / "losses").mkdir()
    first = hashed("def loss(x):\n    return x\n")
    assert first == hashed("def loss(x):  # a remark\n    return (x)\n")
    assert first != hashed("def loss(x):\n    return -x\n")


def test_arrays_that_were_damaged_or_removed_name_the_remedy(tmp_path, capsys):
    path = save_arrays(tmp_path / "x.npz", {"a": np.arange(5000.0)})
    content = path.read_bytes()
    path.write_bytes(content[:900] + b"x" + content[901:])
    for _ in range(2):  # damaged, then gone
        with pytest.raises(RunError, match=r"x\.npz was damaged or removed: run"):
            read_arrays(path)
    assert capsys.readouterr().err.count("kept as") == 1


def test_keys_cover_the_code_that_decides_a_result():
    assert {"store", "transforms", "models", "losses", "training"} <= {*study_module.TRAINING}
    assert "evaluation" in study_module.EVALUATION
    assert {"datasets", "evaluation", "analysis"} <= {*study_module.ANALYSIS}


EDITED = """
import sys
from pathlib import Path
from mosaic.experiments import study
from mosaic.experiments.parallel import parallel_map
package = study.PACKAGE
assert package.parent == Path(sys.argv[1]).resolve()
source, before = package / "evaluation" / "metrics.py", study.cache_path("x", {}, ".npz")
source.write_text("# a remark\\n" + source.read_text())
(source.parent / ".ipynb_checkpoints").mkdir()
(source.parent / ".ipynb_checkpoints" / "metrics-checkpoint.py").write_text("x = 2")
assert study.cache_path("x", {}, ".npz") == before and parallel_map(abs, [(-1,), (-2,)], "x", 2) == [1, 2]
for edited in ("x = 1", "half saved ("):
    source.write_text(source.read_text() + edited)
    for call in (lambda: study.cache_path("x", {}, ".npz"), lambda: parallel_map(abs, [(-1,)], "x")):
        try:
            call()
        except study.RunError as error:
            print(error)
study.cache_path("x", {})  # training is of other rooms
"""


def test_nothing_is_kept_under_code_that_did_not_make_it(tmp_path):
    """Rooms that are edited, but for remarks, after a process has imported the library compute no more."""
    shutil.copytree(study_module.PACKAGE, tmp_path / "mosaic")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", EDITED, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("was edited since it was imported: restart the kernel or command") == 4
