from dataclasses import replace
from pathlib import Path

import pytest

from mosaic.losses.label_kernels import KERNELS
from mosaic.methods import ABLATIONS, METHODS, SAME_UNTUNED, Method, get_method, method_sources
from mosaic.utils.errors import SettingsError


def what_is_trained(method):
    return replace(
        method, name="", title="", family="random", like=None, labelled_only=False, rare_first=False
    )


def test_table_is_keyed_by_name_and_no_two_rows_are_the_same_training():
    assert all(name == method.name for name, method in METHODS.items())
    assert all(what_is_trained(METHODS[a]) == what_is_trained(METHODS[b]) for a, b in SAME_UNTUNED.items())
    trainings = [what_is_trained(method) for name, method in METHODS.items() if name not in SAME_UNTUNED]
    assert len(set(trainings)) == len(trainings)
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_families_say_what_reaches_training(method):
    if method.family in ("random", "statistics", "self-supervised", "pretrained"):
        assert not method.uses_labels
    if method.family in ("supervised", "label-contrastive", "mosaic"):
        assert method.uses_labels
    assert method.only_classifies == (method.family == "supervised")
    assert method.kernel is None or method.kernel in KERNELS
    assert method.trained or method.weights or method.family in ("random", "statistics")
    assert method.tunable == (method.family != "statistics")


@pytest.mark.parametrize("term", ["intra", "inter", "label"])
def test_each_ablation_is_mosaic_less_one_term(term):
    less = replace(METHODS["mosaic"], **{term: 0.0})
    assert what_is_trained(METHODS[ABLATIONS[term]]) == what_is_trained(less)
    assert METHODS[ABLATIONS[term]].like == "mosaic"  # and its hyperparameters


def test_inputs_follow_from_the_streams():
    assert METHODS["simclr_s1"].inputs == ("s1",)
    assert METHODS["supervised_early"].inputs == ("fused", "fused_without_s1", "fused_without_s2")
    assert METHODS["mosaic"].inputs == ("s1", "s2", "fused", "fused_without_s1", "fused_without_s2")
    three = Method("x", "X", "mosaic", ("a", "b", "c")).inputs
    assert three == ("a", "b", "c", "fused", *(f"fused_without_{name}" for name in "abc"))


def test_impossible_rows_and_unknown_names_are_refused():
    with pytest.raises(SettingsError, match="did you mean 'mosaic'"):
        get_method("mosiac")
    with pytest.raises(SettingsError, match="inter needs two streams"):
        Method("x", "X", "ablation", ("s1",), inter=1.0)
    with pytest.raises(SettingsError, match="below 0"):
        Method("x", "X", "ablation", ("s1",), intra=-1.0)


def test_every_method_stands_beside_its_source_in_the_docs_as_well():
    rows, page = method_sources(), Path(__file__).parents[1].joinpath("docs", "methods.md").read_text()
    named = [name for row in rows for name in row["methods"].split()]
    assert set(METHODS) <= set(named) and len(named) == len(set(named))
    variants = {m.name for m in METHODS.values() if "(our variant)" in m.title}
    assert variants == {row["methods"] for row in rows if "(our variant)" in row["title"]}
    for row in rows:
        assert row["source"] and row["equals"] and (row["deviates"] or "variant" not in row["title"])
        names = ", ".join(f"`{name}`" for name in row["methods"].split())
        cells = names, row["title"], row["source"], row["equals"], row["deviates"] or "—"
        assert f"| {' | '.join(cells)} |\n" in page
