from types import SimpleNamespace

import pandas as pd
import pytest

from mosaic.experiments import predict, transfer
from mosaic.settings import StudySettings


def prediction_tasks(store, settings, encoder):
    study = SimpleNamespace(settings=settings, earlier=lambda name: SimpleNamespace(settings=settings))
    predict.predict_all(study, store, pd.DataFrame([encoder]))


def transfer_tasks(store, settings, encoder):
    side = SimpleNamespace(title="a", store=store, settings=settings, training=lambda methods: {})
    transfer.transfer_all(SimpleNamespace(settings=settings), [side])


@pytest.mark.parametrize(
    ("module", "tasks"), [(predict, prediction_tasks), (transfer, transfer_tasks)], ids=["03", "05"]
)
def test_other_patches_of_a_budget_are_other_work(module, tasks, store, tmp_path, monkeypatch):
    """Also for an encoder that uses no labels, whose own key says nothing of them."""
    paths, encoder = [], {"trial": "iai", "method": "iai", "seed": 0, "budget": 0.0, "folder": "iai"}

    def run(study, stage, function, todo):
        paths.extend(task.path for task in todo.values())
        return pd.DataFrame([encoder] if "pretraining" in stage else [])

    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    monkeypatch.setattr(module, "run_trials", run)
    monkeypatch.setattr(predict, "require_trained_on", lambda *_: None)
    train = store.split_rows("train")
    for number in (60, 60, 80):
        listed = tmp_path / "list.csv"
        listed.write_text("\n".join(store.index["patch_id"].iloc[train[:number]]))
        settings = StudySettings(label_fractions=[50.0, 100.0], label_budget_files=[str(listed)])
        tasks(store, settings, encoder)
    assert paths[0] == paths[1] != paths[2]
