"""What holds of every schedule: it prints, compares, hashes, pickles, names its source and refuses
what it cannot use; and how a method reads its coefficients from one.

Their values are in test_schedule_sequences and test_schedule_shapes.
"""

import dataclasses
import math
import pickle

import pytest
from method_checks import COURSE, rows

from ngs import methods, schedules
from ngs.errors import InputError
from ngs.methods import METHODS, Method
from ngs.schedules import (
    Capped,
    Chain,
    ChambolleDossalMomentum,
    Constant,
    ConvexAnchor,
    Cosine,
    Linear,
    NesterovMomentum,
    OneCycle,
    OptimizedMomentum,
    Product,
    SimplifiedMomentum,
    StronglyConvexAnchor,
    StronglyConvexMomentum,
    SutskeverMomentum,
    TripleMomentum,
    WarmupCosine,
    coefficients_at,
    nesterov_lambda,
)

# Of each kind one and its like with another parameter; where there is none, another kind.
SCHEDULES = {
    Constant(0.9): Constant(0.8),
    NesterovMomentum(): SimplifiedMomentum(),
    SimplifiedMomentum(): NesterovMomentum(),
    ChambolleDossalMomentum(3.0): ChambolleDossalMomentum(2.0),
    StronglyConvexMomentum(50.0): StronglyConvexMomentum(51.0),
    SutskeverMomentum(0.99, total=2000): SutskeverMomentum(0.99),
    OptimizedMomentum(30): OptimizedMomentum(31),
    TripleMomentum(50.0): TripleMomentum(51.0),
    ConvexAnchor(): NesterovMomentum(),
    StronglyConvexAnchor(50.0): StronglyConvexAnchor(51.0),
    Linear(0.0, 1.0, steps=10): Linear(1.0, 0.0, steps=10),
    Cosine(1.0, 0.0, steps=10): Linear(1.0, 0.0, steps=10),
    Chain(((Constant(0.1), 3), (Linear(0.1, 0.0, steps=9), 9))): Chain(((Constant(0.1), 3),)),
    Product(Constant(0.1), SimplifiedMomentum()): Product(Constant(0.2), SimplifiedMomentum()),
    Capped(NesterovMomentum(), 0.5): Capped(NesterovMomentum(), 0.6),
    WarmupCosine(0.1, total=20, warmup=5): WarmupCosine(0.1, total=20, warmup=4),
    OneCycle(0.95, 0.85, 0.95, total=20): OneCycle(0.95, 0.85, 0.95, total=21),
}

WITHOUT_A_PAPER = {Constant, Linear, Chain, Product, Capped, WarmupCosine}

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
every_kind = pytest.mark.parametrize(
    "kind", dict.fromkeys(type(s) for s in SCHEDULES), ids=lambda kind: kind.__name__
)


def test_every_schedule_of_the_package_is_tested():
    public = {getattr(schedules, name) for name in schedules.__all__}
    kinds = {kind for kind in public if dataclasses.is_dataclass(kind)}
    assert {type(schedule) for schedule in SCHEDULES} == kinds


@every_schedule
def test_a_schedule_pickles_to_an_equal_one(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    assert repr(copy) == repr(schedule)
    assert [copy(t) for t in range(30)] == [schedule(t) for t in range(30)]


@every_schedule
def test_a_schedule_differs_from_one_with_another_parameter(schedule):
    assert schedule != SCHEDULES[schedule]
    assert len({schedule, SCHEDULES[schedule]}) == 2


@every_schedule
def test_a_schedule_prints_as_the_call_that_makes_it(schedule):
    assert eval(repr(schedule)) == schedule


@every_schedule
def test_a_schedule_cannot_be_changed(schedule):
    for field in dataclasses.fields(schedule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, field.name, 0.1)
    assert type(schedule).__dataclass_params__.frozen


def test_defaults_are_those_that_the_docstrings_print():
    assert ChambolleDossalMomentum() == ChambolleDossalMomentum(a=3.0)
    assert SutskeverMomentum() == SutskeverMomentum(0.99, total=None, final_steps=1000, final=0.9)
    assert WarmupCosine(0.1, 10) == WarmupCosine(0.1, total=10, warmup=0)


@every_kind
def test_a_schedule_from_the_literature_names_its_source(kind):
    assert ("Source: " in kind.__doc__) == (kind not in WITHOUT_A_PAPER)


@every_kind
def test_a_schedule_that_refuses_parameters_says_so(kind):
    assert ("Raises:" in kind.__doc__) == hasattr(kind, "__post_init__")


KAPPA = "kappa = L/mu must be finite and 1 or more, got"
STEPS = "steps must be 1 or more, got"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nesterov_lambda(0), "k must be 1 or more, got 0"),
        (lambda: NesterovMomentum()(-1), "k must be 1 or more, got -1"),
        (lambda: ConvexAnchor()(-1), "k must be 1 or more, got 0"),
        (lambda: ChambolleDossalMomentum(1.9), "a must be finite and 2 or more, got 1.9"),
        (lambda: ChambolleDossalMomentum(math.inf), "a must be finite and 2 or more, got inf"),
        (lambda: ChambolleDossalMomentum(math.nan), "a must be finite and 2 or more, got nan"),
        *(
            (lambda kind=kind, kappa=kappa: kind(kappa), f"{KAPPA} {kappa}")
            for kind in (StronglyConvexMomentum, StronglyConvexAnchor, TripleMomentum)
            for kappa in (0.5, math.inf, math.nan)
        ),
        (lambda: SutskeverMomentum(1.0), "maximum must lie in [0, 1), got 1.0"),
        (lambda: SutskeverMomentum(-0.1), "maximum must lie in [0, 1), got -0.1"),
        (lambda: SutskeverMomentum(math.nan), "maximum must lie in [0, 1), got nan"),
        (lambda: SutskeverMomentum(final=1.0), "final must lie in [0, 1), got 1.0"),
        (
            lambda: SutskeverMomentum(total=999),
            "final_steps must lie in 0 .. total = 999, got 1000",
        ),
        (
            lambda: SutskeverMomentum(total=9, final_steps=-1),
            "final_steps must lie in 0 .. total = 9, got -1",
        ),
        *(
            (lambda make=make, steps=steps: make(steps), f"{STEPS} {steps}")
            for make in (
                OptimizedMomentum,
                lambda steps: Linear(0.0, 1.0, steps),
                lambda steps: Cosine(1.0, 0.0, steps),
                lambda steps: Chain(((Constant(0.1), 5), (Constant(0.1), steps))),
            )
            for steps in (0, -3)
        ),
        (
            lambda: OptimizedMomentum(5)(5),
            "OptimizedMomentum(5) has coefficients for steps 0 .. 4, got 5: "
            "make it for as many steps as you take",
        ),
        (
            lambda: OptimizedMomentum(5)(-1),
            "OptimizedMomentum(5) has coefficients for steps 0 .. 4, got -1: "
            "make it for as many steps as you take",
        ),
        (lambda: Chain(()), "pieces must hold at least one (schedule, steps) pair, got none"),
        (lambda: WarmupCosine(0.1, total=0), "total must be 1 step or more, got 0"),
        (lambda: WarmupCosine(0.1, total=-3), "total must be 1 step or more, got -3"),
        (
            lambda: WarmupCosine(0.1, total=10, warmup=11),
            "warmup must lie in 0 .. total = 10, got 11",
        ),
        (
            lambda: WarmupCosine(0.1, total=10, warmup=-1),
            "warmup must lie in 0 .. total = 10, got -1",
        ),
    ],
)
def test_a_bad_parameter_is_refused_by_name_and_value(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChambolleDossalMomentum(2.0),
        lambda: StronglyConvexMomentum(1.0),
        lambda: SutskeverMomentum(0.0, total=1000, final=0.0),
        lambda: SutskeverMomentum(total=0, final_steps=0),
        lambda: OptimizedMomentum(1),
        lambda: Linear(0.0, 1.0, steps=1),
        lambda: Chain(((Constant(0.1), 1),)),
        lambda: WarmupCosine(0.1, total=1, warmup=1),
    ],
)
def test_a_parameter_at_the_edge_of_its_range_is_taken(make):
    assert math.isfinite(sum([make()(0)] if isinstance(make()(0), float) else make()(0)))


# --- how a method reads its coefficients ----------------------------------------------------------

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def of_this_step(method: Method) -> list[str]:
    return [name for name in method.coefficients if not name.startswith("next_")]


@every_method
def test_a_schedule_gives_what_the_method_takes_the_next_ones_one_step_later(method):
    names = of_this_step(method)

    def schedule(t):
        row = tuple(COURSE.values[name][t] for name in names)
        return row if len(row) > 1 else row[0]

    found = [coefficients_at(method, schedule if names else 0.0, t) for t in range(4)]
    assert found == [row[1:] for row in rows(method, COURSE)]


@every_method
def test_fixed_numbers_are_the_same_at_every_step(method):
    fixed = tuple(0.1 * i for i, _ in enumerate(of_this_step(method), start=1))
    expected = fixed[:1] * 2 if "next_momentum" in method.coefficients else fixed
    for t in (0, 1, 1000):
        assert coefficients_at(method, fixed, t) == expected
        if len(fixed) == 1:
            assert coefficients_at(method, fixed[0], t) == expected


@pytest.mark.parametrize(
    ("method", "schedule"),
    [
        (methods.three_sequences, ConvexAnchor()),
        (methods.three_sequences, StronglyConvexAnchor(9.0)),
        (methods.ogm, OptimizedMomentum(10)),
        (methods.triple_momentum, TripleMomentum(9.0)),
    ],
)
def test_the_schedules_of_several_fit_their_methods_name_by_name(method, schedule):
    assert schedule(3)._fields == method.coefficients
    assert coefficients_at(method, schedule, 3) == tuple(schedule(3))
    assert type(coefficients_at(method, schedule, 3)) is tuple


def test_a_stored_form_reads_two_steps_of_the_schedule():
    expected = (NesterovMomentum()(7), NesterovMomentum()(8))
    assert coefficients_at(methods.nesterov_stored, NesterovMomentum(), 7) == expected
    assert coefficients_at(methods.fista, NesterovMomentum(), 7) == expected


@pytest.mark.parametrize("nothing", [0.0, 0, ()])
def test_gradient_descent_takes_nothing(nothing):
    assert coefficients_at(methods.gradient_descent, nothing, 5) == ()


@pytest.mark.parametrize(
    ("method", "momentum", "message"),
    [
        (
            methods.gradient_descent,
            0.9,
            "gradient_descent has no momentum: leave it out, got 0.9",
        ),
        (
            methods.gradient_descent,
            Constant(0.0),
            "gradient_descent has no momentum: leave it out, got Constant(value=0.0)",
        ),
        (
            methods.gradient_descent,
            (0.0,),
            "gradient_descent has no momentum: leave it out, got (0.0,)",
        ),
        (
            methods.nesterov,
            (0.5, 0.6),
            "nesterov takes momentum, 1 number(s) a step, got 2 at step 4",
        ),
        (methods.nesterov, (), "nesterov takes momentum, 1 number(s) a step, got 0 at step 4"),
        (
            methods.nesterov_stored,
            (0.5, 0.6),
            "nesterov_stored takes momentum, 1 number(s) a step, got 2 at step 4",
        ),
        (
            methods.ogm,
            0.5,
            "ogm takes momentum and correction, 2 number(s) a step, got 1 at step 4",
        ),
        (
            methods.ogm,
            ConvexAnchor(),
            "ogm takes momentum and correction, 2 number(s) a step, got 3 at step 4",
        ),
        (
            methods.three_sequences,
            NesterovMomentum(),
            "three_sequences takes mixing and pull and stride, 3 number(s) a step, got 1 at step 4",
        ),
        (
            methods.fista,
            lambda t: 0.5 if t < 5 else (0.5, 0.6),
            "fista takes momentum, 1 number(s) a step, got 2 at step 5",
        ),
    ],
)
def test_a_wrong_number_of_coefficients_is_refused_with_their_names(method, momentum, message):
    with pytest.raises(InputError) as caught:
        coefficients_at(method, momentum, 4)
    assert str(caught.value) == message


def test_a_run_longer_than_the_optimized_schedule_is_refused_not_guessed():
    with pytest.raises(InputError, match="make it for as many steps as you take"):
        coefficients_at(methods.ogm, OptimizedMomentum(10), 10)
