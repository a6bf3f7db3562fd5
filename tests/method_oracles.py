"""Every method again as its source states it: lists of points, no state, sums written out.

They rest on nothing in ngs. Slow and obvious: method_checks holds the library against them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

Grad = Callable[[Any], Any]


class Course(NamedTuple):
    """The numbers of a run of T steps.

    Attributes:
        rates: T step sizes.
        values: T + 1 values of every coefficient by its name: the last step asks for the next one.
    """

    rates: Sequence[Any]
    values: dict[str, Sequence[Any]]


class Trace(NamedTuple):
    """What a method must do.

    Attributes:
        points: where the T gradients are taken.
        iterates: the T + 1 points whose value the method promises to lower, from the start on.
        kept: the T + 1 pairs of vectors that the method's state says it keeps.
    """

    points: list[Any]
    iterates: list[Any]
    kept: list[tuple[Any, Any]]


def with_displacements(x: list[Any]) -> list[tuple[Any, Any]]:
    """Pair each point with its distance from the one before; the first is at rest."""
    return list(zip(x, [x[0] - x[0], *(new - old for old, new in pairwise(x))], strict=True))


def gradient_descent(theta: Any, grad: Grad, course: Course) -> Trace:
    x, grads = [theta], []
    for _ in course.rates:
        grads.append(grad(x[-1]))
        x.append(theta - sum(eta * g for eta, g in zip(course.rates, grads, strict=False)))
    return Trace(x[:-1], x, with_displacements(x))


def heavy_ball(theta: Any, grad: Grad, course: Course) -> Trace:
    x = [theta, theta]  # x_{-1}, x_0
    for eta, beta in zip(course.rates, course.values["momentum"], strict=False):
        x.append((1 + beta) * x[-1] - beta * x[-2] - eta * grad(x[-1]))
    x = x[1:]
    return Trace(x[:-1], x, with_displacements(x))


def nesterov_points(theta: Any, grad: Grad, course: Course) -> tuple[list[Any], list[Any]]:
    """Return x_0 .. x_T and y_0 .. y_T of the form with two points and no velocity."""
    beta = course.values["momentum"]
    x, y = [theta], [theta]
    for t, eta in enumerate(course.rates):
        x.append(y[t] - eta * grad(y[t]))
        y.append((1 + beta[t + 1]) * x[t + 1] - beta[t + 1] * x[t])
    return x, y


def nesterov(theta: Any, grad: Grad, course: Course) -> Trace:
    x, y = nesterov_points(theta, grad, course)
    return Trace(y[:-1], x, with_displacements(x))


def nesterov_stored(theta: Any, grad: Grad, course: Course) -> Trace:
    x, y = nesterov_points(theta, grad, course)
    displacements = [v for _, v in with_displacements(x)]
    return Trace(y[:-1], x, list(zip(y, displacements, strict=True)))


def fista(theta: Any, grad: Grad, course: Course) -> Trace:
    x, y = nesterov_points(theta, grad, course)
    return Trace(y[:-1], x, list(zip(x, y, strict=True)))


def three_sequences(theta: Any, grad: Grad, course: Course) -> Trace:
    tau, a, s = (course.values[name] for name in ("mixing", "pull", "stride"))
    x, y, z, pulls = [theta], [], [theta], []
    for t, eta in enumerate(course.rates):
        y.append((1 - tau[t]) * x[t] + tau[t] * z[t])
        g = grad(y[t])
        x.append(y[t] - eta * g)
        pulls.append(a[t] * y[t] - s[t] * eta * g)
        # z_{t+1} = (1 - a_t) z_t + pulls_t, unrolled down to theta
        shares = [prod(1 - a[j] for j in range(i, t + 1)) for i in range(t + 2)]
        z.append(shares[0] * theta + sum(shares[i + 1] * pulls[i] for i in range(t + 1)))
    return Trace(y, x, list(zip(x, z, strict=True)))


def ogm(theta: Any, grad: Grad, course: Course) -> Trace:
    """Kim & Fessler's letters: gradients at x, gradient steps land on y."""
    beta, gamma = course.values["momentum"], course.values["correction"]
    x, y = [theta], [theta]
    for i, eta in enumerate(course.rates):
        y.append(x[i] - eta * grad(x[i]))
        x.append((1 + beta[i] + gamma[i]) * y[i + 1] - beta[i] * y[i] - gamma[i] * x[i])
    return Trace(x[:-1], x, list(zip(y, x, strict=True)))


def triple_momentum(theta: Any, grad: Grad, course: Course) -> Trace:
    """Van Scoy, Freeman & Lynch's letters: gradients at y, output x, and xi that runs."""
    beta, gamma, delta = (course.values[name] for name in ("momentum", "peek", "output"))
    xi, y, x = [theta, theta], [], [theta]
    for k, alpha in enumerate(course.rates):
        y.append((1 + gamma[k]) * xi[-1] - gamma[k] * xi[-2])
        xi.append((1 + beta[k]) * xi[-1] - beta[k] * xi[-2] - alpha * grad(y[k]))
        x.append((1 + delta[k]) * xi[-1] - delta[k] * xi[-2])
    return Trace(y, x, with_displacements(xi[1:]))


def buffer_sum(terms: Sequence[Any], beta: Sequence[Any]) -> Any:
    """Return the buffer after T terms, sum_i beta_{i+1} .. beta_{T-1} terms_i."""
    T = len(terms)
    return sum(prod(beta[i + 1 : T]) * terms[i] for i in range(T))


def torch_sgd(theta: Any, grad: Grad, course: Course) -> Trace:
    beta, etas = course.values["momentum"], course.rates
    p, b, grads = [theta], [theta - theta], []
    for t in range(len(etas)):
        grads.append(grad(p[t]))
        b.append(buffer_sum(grads, beta))
        p.append(theta - sum(etas[i] * (grads[i] + beta[i] * b[i + 1]) for i in range(t + 1)))
    return Trace(p[:-1], p, list(zip(p, b, strict=True)))


def keras_sgd(theta: Any, grad: Grad, course: Course) -> Trace:
    beta = course.values["momentum"]
    p, b, steps = [theta], [theta - theta], []
    for t, eta in enumerate(course.rates):
        steps.append(-eta * grad(p[t]))
        b.append(buffer_sum(steps, beta))
        p.append(theta + sum(steps[i] + beta[i] * b[i + 1] for i in range(t + 1)))
    return Trace(p[:-1], p, list(zip(p, b, strict=True)))


ORACLES: dict[str, Callable[[Any, Grad, Course], Trace]] = {
    oracle.__name__: oracle
    for oracle in (
        gradient_descent,
        heavy_ball,
        nesterov,
        nesterov_stored,
        fista,
        three_sequences,
        ogm,
        triple_momentum,
        torch_sgd,
        keras_sgd,
    )
}
