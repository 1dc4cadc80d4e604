import pytest

from mosaic.settings import NOTEBOOKS, Section, StudySettings, TrialSettings, fields, injected_names, make
from mosaic.utils.errors import SettingsError


def declarations(kind):
    """List (name, declaration) of every field, those of inner sections included."""
    inner = {n: i.annotation for n, i in kind.model_fields.items() if isinstance(i.annotation, type)}
    inner = {name: section for name, section in inner.items() if issubclass(section, Section)}
    plain = [(name, info) for name, info in kind.model_fields.items() if name not in inner]
    return plain + [found for section in inner.values() for found in declarations(section)]


def test_a_parameter_is_declared_once_and_says_what_it_is():
    declared = declarations(StudySettings)
    assert len(declared) == len({name for name, _ in declared}) == len(fields(StudySettings))
    assert not [name for name, info in declared if not info.description]
    shown = {name for names in NOTEBOOKS.values() for name in names}
    assert shown <= set(fields(StudySettings))
    hidden = set(fields(StudySettings)) - shown
    assert {"method", "seed", "initial", "queue_size"} <= hidden <= set(fields(TrialSettings))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_defaults_are_valid(notebook):
    assert make(notebook, {}) == StudySettings()


def test_flat_values_go_to_their_sections():
    trial = make("02_pretrain", {"steps": 3, "temperature_label": 0.2}).trial
    assert (trial.steps, trial.loss.temperature_label, trial.loss.temperature_intra) == (3, 0.2, 0.5)
    changed = trial.replace(method="iai", queue_size=7)
    assert (changed.method, changed.loss.queue_size, changed.steps) == ("iai", 7, 3)
    assert TrialSettings(**changed.model_dump()) == TrialSettings(**changed.flat()) == changed
    with pytest.raises(SettingsError, match="no parameter 'stpes'"):
        trial.replace(stpes=1)


def test_only_beside_other_terms_the_label_term_has_a_weight_of_its_own():
    for method, weight in (("mosaic", 4.0), ("mosaic_no_intra", 4.0), ("supcon", 1.0), ("iai", 0.0)):
        assert TrialSettings(**{"method": method, "label_weight": 4.0}).weighted_method().label == weight


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stpes": 3}, "no parameter 'stpes'; did you mean 'steps'"),
        ({"steps": "many"}, "'steps' = 'many'"),
        ({"steps": 0}, "'steps' = 0"),
        ({"steps": 2.5}, "'steps' = 2.5"),
        ({"seeds": True}, "'seeds' = True"),
        ({"learning_rate": "1e-3"}, "write a number such as 1.0e-3"),
        ({"label_fractions": [20.0, 5.0]}, "ascend"),
        ({"label_fractions": []}, "label_fractions"),
        ({"label_fractions": [0.0, 5.0]}, "greater than 0"),
        ({"label_budgets": ["some"]}, "label_budgets"),
        ({"methods": ["mosaik"]}, "did you mean 'mosaic'"),
        ({"out": "../elsewhere"}, "'out'"),
        ({"precision": "16"}, "'precision'"),
        ({"queue_size": 9}, "no parameter 'queue_size'"),
        ({"umap_seeds": 2}, "no parameter 'umap_seeds'"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(values, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make("02_pretrain", values)
    assert "02_pretrain" in str(caught.value)


def test_whole_numbers_will_do_for_real_ones():
    assert make("02_pretrain", {"learning_rate": 1}).trial.optimiser.learning_rate == 1.0


def test_only_names_that_papermill_injected_are_found():
    cells = ["steps = 5\n", "# Parameters\nstpes = 3\nseeds: int = 2\nout = 'x'\n", "other = 1"]
    assert injected_names(cells) == ["stpes", "out"]
