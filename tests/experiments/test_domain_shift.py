from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.experiments.domain_shift import domain_rows, domains


def store(rows, column="country"):
    table = pd.DataFrame(rows, columns=["split", column, "scene"])
    return SimpleNamespace(index=table, split_rows=lambda split: np.flatnonzero(table["split"] == split))


def everywhere(country, test, scenes):
    rows = [("train", country, "a"), ("validation", country, "b")]
    return rows + [("test", country, f"{country}{i % scenes}") for i in range(test)]


@pytest.mark.parametrize(("most", "held_out"), [(5, ["Finland", "Austria"]), (1, ["Finland"]), (0, [])])
def test_the_largest_domains_of_two_scenes_or_more_are_held_out(most, held_out):
    rows = [*everywhere("Austria", 4, 2), *everywhere("Finland", 9, 3), *everywhere("Serbia", 20, 1)]
    assert domains(store(rows), most) == ("country", held_out)
    assert domain_rows(store(rows), "Austria").tolist() == [2, 3, 4, 5]


def test_a_domain_that_is_all_of_training_cannot_be_held_out():
    rows = [*everywhere("Finland", 9, 3), ("test", "Austria", "x"), ("test", "Austria", "y")]
    assert domains(store(rows), 5) == ("country", ["Austria"])


def test_seasons_stand_in_where_no_country_is_known_and_nothing_where_neither_is():
    rows = [*everywhere("spring", 4, 2), *everywhere("fall", 6, 2)]
    assert domains(store(rows, "season"), 1) == ("season", ["fall"])
    assert domains(store(rows, "place"), 1) == ("", [])
