from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from mosaic.experiments import predict, transfer
from mosaic.settings import StudySettings

UNLABELLED = {"method": "iai", "budget": 0.0}
ENCODERS = [{**UNLABELLED, "trial": f"iai seed {s}", "seed": s, "folder": f"{s}"} for s in range(3)]


def evaluated(store, settings):
    study = SimpleNamespace(settings=settings, earlier=lambda name: study)
    predict.predict_all(study, store, pd.DataFrame(ENCODERS))


def transferred(store, settings):
    side = SimpleNamespace(title="a", store=store, settings=settings, training=lambda methods: {})
    transfer.transfer_all(SimpleNamespace(settings=settings), [side])


@pytest.fixture
def paths(store, tmp_path, monkeypatch):
    """Return the files, trial by trial, of the work on encoders that settings ask for."""

    def planned(work, **settings):
        found = []

        def run(study, stage, function, tasks):
            found.extend(task.path for task in tasks.values())
            return pd.DataFrame(ENCODERS if "pretraining" in stage else [])

        for module in (predict, transfer):
            monkeypatch.setattr(module, "run_trials", run)
        work(store, StudySettings(**settings))
        return found

    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    monkeypatch.setattr(predict, "require_trained_on", lambda *_: None)
    return planned


@pytest.mark.parametrize("work", [evaluated, transferred])
def test_other_patches_of_a_budget_are_other_work(work, store, paths, tmp_path):
    """Also for an encoder that uses no labels, whose own key says nothing of them."""
    listed, found = tmp_path / "list.csv", []
    for number in (60, 60, 80):
        listed.write_text("\n".join(store.index["patch_id"].iloc[store.split_rows("train")[:number]]))
        found.append(paths(work, label_fractions=[50.0, 100.0], label_budget_files=[str(listed)]))
    first, again, more = found
    assert first == again and not set(first) & set(more)


def test_other_members_of_a_coarse_class_are_other_work(store, paths, monkeypatch):
    first, coarse = paths(transferred, label_fractions=[100.0]), store.manifest.coarse
    swapped = dict(zip(coarse, reversed(coarse.values()), strict=True))
    monkeypatch.setattr(store, "manifest", replace(store.manifest, coarse=swapped))
    assert not set(first) & set(paths(transferred, label_fractions=[100.0]))


def test_how_many_seeds_are_fine_tuned_is_the_work_of_the_seeds_concerned(paths):
    first, two, longer = (
        paths(evaluated, label_fractions=[100.0], **changes)
        for changes in ({}, {"finetune_seeds": 2}, {"finetune_steps": 3})
    )
    assert [a == b for a, b in zip(first, two, strict=True)] == [True, False, True]
    assert [a == b for a, b in zip(first, longer, strict=True)] == [False, True, True]
