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


def test_how_many_seeds_are_fine_tuned_is_the_work_of_the_seeds_concerned(store, tmp_path, monkeypatch):
    def run(study, stage, function, todo):
        paths.append({name: task.path for name, task in todo.items()})
        return pd.DataFrame(encoders)

    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    monkeypatch.setattr(predict, "run_trials", run)
    monkeypatch.setattr(predict, "require_trained_on", lambda *_: None)
    monkeypatch.setattr(predict, "read_arrays", lambda path: {})
    encoder, paths = {"method": "iai", "budget": 0.0, "path": ""}, []
    encoders = [{**encoder, "trial": f"iai {s}", "seed": s, "folder": f"iai {s}"} for s in range(3)]
    settings = StudySettings(label_fractions=[100.0])
    for changes in ({}, {"finetune_seeds": 2}, {"finetune_steps": 3}):
        chosen = settings.replace(**changes)
        study = SimpleNamespace(
            settings=chosen, earlier=lambda name, chosen=chosen: SimpleNamespace(settings=chosen)
        )
        predict.predict_all(study, store, pd.DataFrame(encoders))
    first, two, longer = paths
    assert [first[name] == two[name] for name in first] == [True, False, True]
    assert [first[name] == longer[name] for name in first] == [False, True, True]
