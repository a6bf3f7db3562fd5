"""The shared checks catch every broken method that method_mutations makes, and no true one."""

from functools import cache

import pytest
from method_checks import CHECKS, exact_run
from method_mutations import LEADING, MUTATIONS, USES, with_number
from point_mutations import WRONG_POINTS
from step_mutations import WRONG_STEPS

from ngs.methods import METHODS, Method

MUTANTS = [
    (f"{method.name}: {mutation.__name__}", broken)
    for method in METHODS.values()
    for mutation in MUTATIONS
    if (broken := mutation(method)) is not None
]
BY_LABEL = dict(MUTANTS)

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def caught_by(method: Method) -> list[str]:
    """Return the names of the checks that a method fails."""
    failed = []
    for check in CHECKS:
        try:
            check(method)
        except AssertionError:
            failed.append(check.__name__)
    return failed


@cache
def mutant_caught_by(label: str) -> list[str]:
    return caught_by(BY_LABEL[label])


@pytest.mark.parametrize("label", BY_LABEL)
def test_every_mutant_is_caught(label):
    assert mutant_caught_by(label)


@every_method
def test_true_methods_are_let_through(method):
    assert caught_by(method) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_catches_a_mutant(check):
    assert any(check.__name__ in mutant_caught_by(label) for label in BY_LABEL)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_every_mutation_breaks_a_method(mutation):
    assert any(mutation(method) is not None for method in METHODS.values())


def test_no_two_mutants_share_a_name():
    assert len(BY_LABEL) == len(MUTANTS)


@pytest.mark.parametrize(
    "table",
    [USES, WRONG_STEPS, *WRONG_POINTS.values()],
    ids=["uses", "wrong steps", *(f"wrong {place}" for place in WRONG_POINTS)],
)
def test_every_method_has_its_place_in_the_tables_of_mutations(table):
    assert table.keys() == METHODS.keys()


@every_method
def test_a_coefficient_that_the_table_calls_unused_changes_nothing(method):
    for place in LEADING:
        for name in set(method.coefficients) - USES[method.name].get(place, set()):
            index = LEADING[place] + method.coefficients.index(name)
            doubled = with_number(method, place, index, lambda x: 2 * x)
            assert exact_run(doubled) == exact_run(method)


@every_method
def test_every_method_is_broken_in_many_ways(method):
    own = [label for label in BY_LABEL if label.startswith(f"{method.name}:")]
    assert len(own) >= 25 + 5 * len(method.coefficients)
