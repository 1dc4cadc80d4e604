import pytest

from mosaic.settings import NOTEBOOKS, injected_names, make
from mosaic.utils.errors import SettingsError


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_defaults_are_valid_and_every_parameter_says_what_it_is(notebook):
    settings = make(notebook, {})
    assert settings.out == "demo"
    undescribed = [n for n, f in NOTEBOOKS[notebook].model_fields.items() if not f.description]
    assert not undescribed


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
        ({"label_protocols": ["some"]}, "label_protocols"),
        ({"methods": ["mosaik"]}, "did you mean 'mosaic'"),
        ({"out": "../elsewhere"}, "'out'"),
        ({"precision": "16"}, "'precision'"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(values, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make("02_pretrain", values)
    assert "02_pretrain" in str(caught.value)


def test_whole_numbers_will_do_for_real_ones():
    assert make("02_pretrain", {"learning_rate": 1}).learning_rate == 1.0


def test_only_names_that_papermill_injected_are_found():
    cells = ["steps = 5\n", "# Parameters\nstpes = 3\nseeds: int = 2\nout = 'x'\n", "other = 1"]
    assert injected_names(cells) == ["stpes", "out"]
