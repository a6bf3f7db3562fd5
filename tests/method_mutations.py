"""Every way to break a method that we could think of; test_mutants shows that each one is caught.

A mutation takes a method and returns it broken, or None where it would change nothing.
"""

from collections.abc import Callable, Iterable
from itertools import chain, combinations
from typing import Any

from method_checks import COURSE
from point_mutations import WRONG_POINTS
from step_mutations import WRONG_STEPS

from ngs.methods import METHODS, Method

Mutation = Callable[[Method], Method | None]

USES: dict[str, dict[str, set[str]]] = {
    "gradient_descent": {},
    "heavy_ball": {"step": {"momentum"}},
    "nesterov": {"step": {"momentum"}, "gradient_point": {"momentum"}},
    "nesterov_stored": {"step": {"momentum", "next_momentum"}, "iterate": {"next_momentum"}},
    "fista": {"step": {"next_momentum"}},
    "three_sequences": {"step": {"mixing", "pull", "stride"}, "gradient_point": {"mixing"}},
    "ogm": {"step": {"momentum", "correction"}},
    "triple_momentum": {"step": {"momentum"}, "gradient_point": {"peek"}, "iterate": {"output"}},
    "torch_sgd": {"step": {"momentum"}},
    "keras_sgd": {"step": {"momentum"}},
}
"""Which of its coefficients each function of a method uses."""

LEADING = {"step": 3, "gradient_point": 1, "iterate": 1}
"""How many arguments come before the coefficients: the state, the gradient and the step size."""

NAMES = sorted({name for method in METHODS.values() for name in method.coefficients})


# --- one number wrong on its way into one function -----------------------------------------------


def neighbour(name: str, x: Any, shift: int) -> Any:
    """Return the value that the schedule has ``shift`` steps later; at its ends the same one."""
    row = COURSE.rates if name == "lr" else COURSE.values[name.removeprefix("next_")]
    return row[min(max(row.index(x) + shift, 0), len(row) - 1)] if x in row else x


CHANGES: dict[str, Callable[[str, Any], Any]] = {
    "with_the_wrong_sign": lambda name, x: -x,
    "forgotten": lambda name, x: 0 * x,
    "replaced_by_one": lambda name, x: 0 * x + 1,
    "doubled": lambda name, x: 2 * x,
    "squared": lambda name, x: x * x,
    "one_step_late": lambda name, x: neighbour(name, x, -1),
    "one_step_early": lambda name, x: neighbour(name, x, 1),
}


def with_number(method: Method, place: str, index: int, change: Callable[[Any], Any]) -> Method:
    """Return the method with one argument of one function changed on its way in."""
    function = getattr(method, place)

    def broken(*args):
        return function(*args[:index], change(args[index]), *args[index + 1 :])

    return method._replace(**{place: broken})


def wrong_number(place: str, name: str, change: str) -> Mutation:
    def mutation(method: Method) -> Method | None:
        if name != "lr" and name not in USES[method.name].get(place, ()):
            return None
        index = 2 if name == "lr" else LEADING[place] + method.coefficients.index(name)
        return with_number(method, place, index, lambda x: CHANGES[change](name, x))

    mutation.__name__ = f"{name}_{change}_in_{place}"
    return mutation


def swapped(first: str, second: str) -> Mutation:
    """In every function at once, what is called one is used as the other."""

    def mutation(method: Method) -> Method | None:
        if not {first, second} <= set(method.coefficients):
            return None
        i, j = method.coefficients.index(first), method.coefficients.index(second)

        def with_roles_swapped(place):
            def broken(*args):
                lead, c = args[: LEADING[place]], list(args[LEADING[place] :])
                c[i], c[j] = c[j], c[i]
                return getattr(method, place)(*lead, *c)

            return broken

        return method._replace(**{place: with_roles_swapped(place) for place in LEADING})

    mutation.__name__ = f"{first}_and_{second}_swapped"
    return mutation


# --- what can go wrong in any method -------------------------------------------------------------


def gradient_with_the_wrong_sign(method: Method) -> Method:
    return method._replace(step=lambda s, g, lr, *c: method.step(s, -g, lr, *c))


def gradient_forgotten(method: Method) -> Method:
    return method._replace(step=lambda s, g, lr, *c: method.step(s, 0 * g, lr, *c))


def gradient_damped_as_in_a_running_mean(method: Method) -> Method | None:
    if not method.coefficients:
        return None
    return method._replace(step=lambda s, g, lr, *c: method.step(s, (1 - c[0]) * g, lr, *c))


def momentum_multiplies_the_gradient_too(method: Method) -> Method | None:
    if not method.coefficients:
        return None
    return method._replace(step=lambda s, g, lr, *c: method.step(s, c[0] * g, lr, *c))


def gradient_of_the_previous_step(method: Method) -> Method:
    memory = []

    def start(theta):
        memory.clear()
        return method.start(theta)

    def step(s, g, lr, *c):
        memory.append(g)
        return method.step(s, memory[-2] if len(memory) > 1 else g, lr, *c)

    return method._replace(start=start, step=step)


def gradient_at_the_previous_point(method: Method) -> Method:
    memory = []

    def start(theta):
        memory.clear()
        return method.start(theta)

    def gradient_point(s, *c):
        memory.append(method.gradient_point(s, *c))
        return memory[-2] if len(memory) > 1 else memory[-1]

    return method._replace(start=start, gradient_point=gradient_point)


def first_vector_never_stored(method: Method) -> Method:
    def step(s, g, lr, *c):
        return type(s)(s[0], method.step(s, g, lr, *c)[1])

    return method._replace(step=step)


def second_vector_never_stored(method: Method) -> Method:
    def step(s, g, lr, *c):
        return type(s)(method.step(s, g, lr, *c)[0], s[1])

    return method._replace(step=step)


def vectors_stored_in_each_others_place(method: Method) -> Method:
    def step(s, g, lr, *c):
        return type(s)(*reversed(method.step(s, g, lr, *c)))

    return method._replace(step=step)


def start_not_at_rest(method: Method) -> Method:
    def start(theta):
        first, second = method.start(theta)
        return type(method.start(theta))(first, second + theta)

    return method._replace(start=start)


def start_elsewhere(method: Method) -> Method:
    return method._replace(start=lambda theta: method.start(2 * theta))


# On fractions ``x += y`` makes a new object; on arrays it writes into the one that was given.


def first_vector_changed_in_place(method: Method) -> Method:
    def step(s, g, lr, *c):
        new = method.step(s, g, lr, *c)
        first = s[0]
        first += new[0] - s[0]
        return type(s)(first, new[1])

    return method._replace(step=step)


def second_vector_changed_in_place(method: Method) -> Method:
    def step(s, g, lr, *c):
        new = method.step(s, g, lr, *c)
        second = s[1]
        second += new[1] - s[1]
        return type(s)(new[0], second)

    return method._replace(step=step)


def gradient_changed_in_place(method: Method) -> Method:
    def step(s, g, lr, *c):
        new = method.step(s, g, lr, *c)
        g += s[0]
        return new

    return method._replace(step=step)


def state_changed_by_asking_for_the_gradient_point(method: Method) -> Method:
    def gradient_point(s, *c):
        point, first = method.gradient_point(s, *c), s[0]
        first += s[1]
        return point

    return method._replace(gradient_point=gradient_point)


def state_changed_by_asking_for_the_iterate(method: Method) -> Method:
    def iterate(s, *c):
        point, first = method.iterate(s, *c), s[0]
        first += s[1]
        return point

    return method._replace(iterate=iterate)


# --- wrong points, wrong steps, and the whole list -----------------------------------------------


def wrong_point(place: str, point: Callable[..., Any]) -> Mutation:
    def mutation(method: Method) -> Method | None:
        wrong = point in WRONG_POINTS[place][method.name]
        return method._replace(**{place: point}) if wrong else None

    mutation.__name__ = f"{place}_{point.__name__}"
    return mutation


def wrong_step(step: Callable[..., tuple[Any, Any]]) -> Mutation:
    def mutation(method: Method) -> Method | None:
        if step not in WRONG_STEPS[method.name]:
            return None
        return method._replace(step=lambda s, g, lr, *c: type(s)(*step(s, g, lr, *c)))

    mutation.__name__ = step.__name__
    return mutation


def without_repeats(functions: Iterable[Callable[..., Any]]) -> list[Callable[..., Any]]:
    return list(dict.fromkeys(functions))


MUTATIONS: tuple[Mutation, ...] = (
    gradient_with_the_wrong_sign,
    gradient_forgotten,
    gradient_damped_as_in_a_running_mean,
    momentum_multiplies_the_gradient_too,
    gradient_of_the_previous_step,
    gradient_at_the_previous_point,
    first_vector_never_stored,
    second_vector_never_stored,
    vectors_stored_in_each_others_place,
    start_not_at_rest,
    start_elsewhere,
    first_vector_changed_in_place,
    second_vector_changed_in_place,
    gradient_changed_in_place,
    state_changed_by_asking_for_the_gradient_point,
    state_changed_by_asking_for_the_iterate,
    *(wrong_number("step", "lr", change) for change in CHANGES),
    *(
        wrong_number(place, name, change)
        for place in LEADING
        for name in NAMES
        if any(name in uses.get(place, ()) for uses in USES.values())
        for change in CHANGES
    ),
    *(
        swapped(*pair)
        for pair in combinations(NAMES, 2)
        if any(set(pair) <= set(method.coefficients) for method in METHODS.values())
    ),
    *(
        wrong_point(place, point)
        for place, of_method in WRONG_POINTS.items()
        for point in without_repeats(chain(*of_method.values()))
    ),
    *(wrong_step(step) for step in without_repeats(chain(*WRONG_STEPS.values()))),
)
