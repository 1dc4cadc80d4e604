import operator
import os

import pytest

from mosaic.study.jobs import run_jobs, workers


def test_results_come_in_the_order_of_the_calls():
    calls = [(i, 10) for i in range(5)]
    assert run_jobs(operator.add, calls, "adding", jobs=2) == [10, 11, 12, 13, 14]
    assert run_jobs(operator.add, calls, "adding", jobs=1) == [10, 11, 12, 13, 14]
    assert run_jobs(operator.add, [], "nothing") == []


def test_a_failure_is_the_jobs_own():
    with pytest.raises(ZeroDivisionError):
        run_jobs(operator.floordiv, [(1, 1), (1, 0), (4, 2)], "dividing", jobs=2)


def test_as_many_processes_as_cores_but_no_more_than_jobs():
    assert workers(0, 1) == 1
    assert workers(3, 10) == 3
    assert 1 <= workers(0, 1000) <= (os.cpu_count() or 1)
