"""The update rules, written once, with ``+``, ``-`` and multiplication by a scalar alone.

So one code object runs on floats, NumPy arrays, tensors, SymPy symbols and PEPit points: what a
chapter derives, proves, certifies and trains with is this file. It rests on the standard library.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Vector = Any
"""Anything that adds, subtracts and takes a scalar multiple: float, array, tensor, symbol, ..."""
Scalar = Any
"""What multiplies a vector from the left: a number, or a SymPy symbol."""


class State(NamedTuple):
    r"""Where a method stands before step :math:`t`.

    Attributes:
        theta: the iterate :math:`\theta_t`.
        velocity: the last displacement :math:`v_t = \theta_t - \theta_{t-1}`; zero at the start.
    """

    theta: Vector
    velocity: Vector


class Method(NamedTuple):
    """A first-order method: two pure functions over a :class:`State`.

    One step is ``state = method.step(state, grad_f(method.gradient_point(state, momentum)), lr,
    momentum)``.

    Attributes:
        name: the key in :data:`METHODS`.
        gradient_point: ``(state, momentum) -> vector``, where the gradient is to be taken.
        step: ``(state, grad, lr, momentum) -> state``, the step with that gradient.
        uses_momentum: whether ``momentum`` changes anything.
    """

    name: str
    gradient_point: Callable[[State, Scalar], Vector]
    step: Callable[[State, Vector, Scalar, Scalar], State]
    uses_momentum: bool


def start(theta: Vector) -> State:
    """Return the state before the first step from ``theta``, at rest.

    >>> start(3.0)
    State(theta=3.0, velocity=0.0)
    """
    return State(theta, 0 * theta)


def here(state: State, momentum: Scalar) -> Vector:
    r"""Return :math:`\theta_t`: the gradient is taken where the iterate stands."""
    return state.theta


def lookahead(state: State, momentum: Scalar) -> Vector:
    r"""Return :math:`y_t = \theta_t + \beta_t v_t`, where the velocity alone would carry us."""
    return state.theta + momentum * state.velocity


def gradient_descent_step(state: State, grad: Vector, lr: Scalar, momentum: Scalar) -> State:
    r"""Take one step of gradient descent, :math:`\theta_{t+1} = \theta_t - \eta_t g_t`.

    Args:
        state: :math:`(\theta_t, v_t)`.
        grad: :math:`g_t = \nabla f(\theta_t)`.
        lr: step size :math:`\eta_t`.
        momentum: not used; present so that all methods are called alike.
    """
    velocity = -lr * grad
    return State(state.theta + velocity, velocity)


def momentum_step(state: State, grad: Vector, lr: Scalar, momentum: Scalar) -> State:
    r"""Take the step that heavy ball and Nesterov share; they differ in where ``grad`` was taken.

    .. math:: v_{t+1} = \beta_t v_t - \eta_t g_t, \qquad \theta_{t+1} = \theta_t + v_{t+1}

    Args:
        state: :math:`(\theta_t, v_t)`.
        grad: :math:`g_t`, at :math:`\theta_t` for heavy ball, at the look-ahead point for Nesterov.
        lr: step size :math:`\eta_t`.
        momentum: coefficient :math:`\beta_t`.
    """
    velocity = momentum * state.velocity - lr * grad
    return State(state.theta + velocity, velocity)


gradient_descent = Method("gradient_descent", here, gradient_descent_step, uses_momentum=False)
"""Gradient descent (Cauchy 1847)."""

heavy_ball = Method("heavy_ball", here, momentum_step, uses_momentum=True)
"""Heavy ball (Polyak 1964): momentum with the gradient at the iterate."""

nesterov = Method("nesterov", lookahead, momentum_step, uses_momentum=True)
"""Nesterov's accelerated gradient (1983), in the look-ahead form of Sutskever et al. (2013)."""

METHODS: dict[str, Method] = {m.name: m for m in (gradient_descent, heavy_ball, nesterov)}
"""Every method by name. A method added here is covered by every generic test."""
