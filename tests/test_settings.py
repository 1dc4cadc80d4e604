import pytest

from mosaic.report.sequence import load_profile
from mosaic.settings import NOTEBOOKS, StudySettings, TrialSettings, fields, injected_names, make
from mosaic.utils.errors import SettingsError


def leaves(nested):
    return sum(leaves(value) if isinstance(value, dict) else 1 for value in nested.values())


def test_a_parameter_is_declared_once_and_says_what_it_is():
    declared, shown = fields(StudySettings), {name for names in NOTEBOOKS.values() for name in names}
    assert len(declared) == leaves(StudySettings().model_dump())
    assert all(info.description for info in declared.values())
    assert shown <= set(declared)
    hidden = set(declared) - shown
    assert {"method", "seed", "initial", "queue_size"} <= hidden <= set(fields(TrialSettings))


def test_flat_values_go_to_their_sections():
    trial = make("02_pretrain", {"steps": 3, "temperature_label": 1}).trial  # a whole number will do
    assert (trial.steps, trial.loss.temperature_label, trial.loss.temperature_intra) == (3, 1.0, 0.5)
    changed = trial.replace(method="iai", queue_size=7)
    assert (changed.method, changed.loss.queue_size, changed.steps) == ("iai", 7, 3)
    assert TrialSettings(**changed.model_dump()) == TrialSettings(**changed.flat()) == changed
    with pytest.raises(SettingsError, match="no parameter 'stpes'"):
        trial.replace(stpes=1)
    shown = {name for name in dir(changed) if name[0] != "_"}
    assert shown == {*TrialSettings.model_fields, "flat", "replace", "weighted_method"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stpes": 3}, "no parameter 'stpes'; did you mean 'steps'"),
        ({"steps": "many"}, "'steps' = 'many'"),
        ({"steps": 0}, "'steps' = 0"),
        ({"steps": 2.5}, "'steps' = 2.5"),
        ({"seeds": True}, "'seeds' = True"),
        ({"weight_decay": float("inf")}, "'weight_decay' = inf"),
        ({"learning_rate": "1e-3"}, "write a number such as 1.0e-3"),
        ({"label_fractions": [20.0, 5.0]}, "ascend"),
        ({"label_fractions": []}, "label_fractions"),
        ({"label_fractions": [0.0, 5.0]}, "greater than 0"),
        ({"label_budgets": ["some"]}, "label_budgets"),
        ({"methods": ["mosaik"]}, "did you mean 'mosaic'"),
        ({"out": "../elsewhere"}, "'out'"),
        ({"precision": "16"}, "'precision'"),
        ({"queue_size": 9}, "no parameter 'queue_size'"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(values, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make("02_pretrain", values)
    assert "02_pretrain" in str(caught.value)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_one_file_of_parameters_serves_every_notebook(notebook, capsys):
    _, values = load_profile("smoke")
    settings = make(notebook, values).flat()
    assert all(settings[name] == values[name] for name in values.keys() & set(NOTEBOOKS[notebook]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 1 and all("parameters of other notebooks" in line for line in lines)


def test_only_names_that_papermill_injected_are_found():
    cells = ["steps = 5\n", "# Parameters\nstpes = 3\nseeds: int = 2\nout = 'x'\n", "other = 1"]
    assert injected_names(cells) == ["stpes", "out"]
