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


class StoredState(NamedTuple):
    r"""The state of a method that keeps the look-ahead point in place of the iterate.

    Attributes:
        lookahead: :math:`y_t`, where the next gradient is taken.
        velocity: :math:`v_t`, the displacement of the iterate that is not kept.
    """

    lookahead: Vector
    velocity: Vector


class PairState(NamedTuple):
    r"""The state of a method that keeps the iterate and the look-ahead point.

    Attributes:
        theta: the iterate :math:`\theta_t`, where the last gradient step landed.
        lookahead: :math:`y_t`, where the next gradient is taken.
    """

    theta: Vector
    lookahead: Vector


class AnchorState(NamedTuple):
    r"""The state of the three-sequence form.

    Attributes:
        theta: the iterate :math:`\theta_t`.
        anchor: :math:`z_t`, the sequence that takes the long steps; the proofs measure its
            distance to the minimiser.
    """

    theta: Vector
    anchor: Vector


class FrameworkState(NamedTuple):
    """What a framework's SGD keeps.

    Attributes:
        params: the weights of the model: where the gradient is taken and the loss is measured.
        buffer: the momentum buffer, in the framework's own scale; zero at the start.
    """

    params: Vector
    buffer: Vector


class Method(NamedTuple):
    """A first-order method: pure functions over a state.

    One step is::

        grad = grad_f(method.gradient_point(state, *coefficients))
        state = method.step(state, grad, lr, *coefficients)

    Attributes:
        name: the key in :data:`METHODS`.
        coefficients: names of what the functions take besides ``lr``, in their order. A name
            ``next_...`` is the value that the schedule has one step later.
        start: ``theta -> state``, at rest at ``theta``.
        gradient_point: ``(state, *coefficients) -> vector``, where the gradient is to be taken.
        step: ``(state, grad, lr, *coefficients) -> state``, the step with that gradient.
        iterate: ``(state, *coefficients) -> vector``, the point whose value the method promises
            to lower, with the coefficients of the step that made the state.
    """

    name: str
    coefficients: tuple[str, ...]
    start: Callable[[Vector], Any]
    gradient_point: Callable[..., Vector]
    step: Callable[..., Any]
    iterate: Callable[..., Vector]


def start(theta: Vector) -> State:
    """Return the state before the first step from ``theta``, at rest.

    >>> start(3.0)
    State(theta=3.0, velocity=0.0)
    """
    return State(theta, 0 * theta)


def here(state: Any, *coefficients: Scalar) -> Vector:
    r"""Return :math:`\theta_t`, whatever the coefficients."""
    return state.theta


# --- gradient descent, heavy ball, Nesterov in look-ahead form, triple momentum ------------------


def gradient_descent_step(state: State, grad: Vector, lr: Scalar) -> State:
    r"""Take one step of gradient descent, :math:`\theta_{t+1} = \theta_t - \eta_t g_t`.

    Args:
        state: :math:`(\theta_t, v_t)`.
        grad: :math:`g_t = \nabla f(\theta_t)`.
        lr: step size :math:`\eta_t`.
    """
    velocity = -lr * grad
    return State(state.theta + velocity, velocity)


def lookahead(state: State, momentum: Scalar) -> Vector:
    r"""Return :math:`y_t = \theta_t + \beta_t v_t`, where the velocity alone would carry us."""
    return state.theta + momentum * state.velocity


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


gradient_descent = Method("gradient_descent", (), start, here, gradient_descent_step, here)
"""Gradient descent (Cauchy 1847)."""

heavy_ball = Method("heavy_ball", ("momentum",), start, here, momentum_step, here)
"""Heavy ball (Polyak 1964): momentum with the gradient at the iterate."""

nesterov = Method("nesterov", ("momentum",), start, lookahead, momentum_step, here)
"""Nesterov's accelerated gradient (1983), in the look-ahead form of Sutskever et al. (2013)."""


def triple_point(state: State, momentum: Scalar, peek: Scalar, output: Scalar) -> Vector:
    r"""Return :math:`y_t = \theta_t + \gamma v_t`, with a coefficient of its own."""
    return state.theta + peek * state.velocity


def triple_step(
    state: State, grad: Vector, lr: Scalar, momentum: Scalar, peek: Scalar, output: Scalar
) -> State:
    r"""Take the momentum step with the gradient from :math:`\theta_t + \gamma v_t`."""
    return momentum_step(state, grad, lr, momentum)


def triple_output(state: State, momentum: Scalar, peek: Scalar, output: Scalar) -> Vector:
    r"""Return the point that the method's bound speaks of, :math:`\theta_t + \delta v_t`."""
    return state.theta + output * state.velocity


triple_momentum = Method(
    "triple_momentum",
    ("momentum", "peek", "output"),
    start,
    triple_point,
    triple_step,
    triple_output,
)
r"""Triple momentum (Van Scoy, Freeman & Lynch 2018), for strongly convex functions.

Its coefficients :math:`\beta,\gamma,\delta` and step size come from
:class:`ngs.schedules.TripleMomentum`.
"""

# --- Nesterov, stored in other ways -------------------------------------------------------------


def start_stored(theta: Vector) -> StoredState:
    """Return the state at rest at ``theta``: the look-ahead point is the iterate."""
    return StoredState(theta, 0 * theta)


def stored_point(state: StoredState, momentum: Scalar, next_momentum: Scalar) -> Vector:
    r"""Return :math:`y_t`, which is what is stored."""
    return state.lookahead


def stored_step(
    state: StoredState, grad: Vector, lr: Scalar, momentum: Scalar, next_momentum: Scalar
) -> StoredState:
    r"""Take Nesterov's step from look-ahead point to look-ahead point.

    .. math:: y_{t+1} = y_t + \beta_t\beta_{t+1}v_t - (1+\beta_{t+1})\eta_t g_t, \qquad
              v_{t+1} = \beta_t v_t - \eta_t g_t

    Args:
        state: :math:`(y_t, v_t)`.
        grad: :math:`g_t = \nabla f(y_t)`.
        lr: step size :math:`\eta_t`.
        momentum: coefficient :math:`\beta_t`.
        next_momentum: coefficient :math:`\beta_{t+1}`.
    """
    drift = momentum * next_momentum * state.velocity
    point = state.lookahead + drift - (1 + next_momentum) * lr * grad
    return StoredState(point, momentum * state.velocity - lr * grad)


def stored_iterate(state: StoredState, momentum: Scalar, next_momentum: Scalar) -> Vector:
    r"""Return :math:`\theta_{t+1} = y_{t+1} - \beta_{t+1} v_{t+1}` after step :math:`t`."""
    return state.lookahead - next_momentum * state.velocity


nesterov_stored = Method(
    "nesterov_stored",
    ("momentum", "next_momentum"),
    start_stored,
    stored_point,
    stored_step,
    stored_iterate,
)
"""Nesterov's method stored at the look-ahead point (Bengio et al. 2012), exact under schedules."""


def start_pair(theta: Vector) -> PairState:
    """Return the state at rest at ``theta``: iterate and look-ahead point coincide."""
    return PairState(theta, theta)


def pair_point(state: PairState, *coefficients: Scalar) -> Vector:
    r"""Return :math:`y_t`, which is stored beside the iterate."""
    return state.lookahead


def fista_step(
    state: PairState, grad: Vector, lr: Scalar, momentum: Scalar, next_momentum: Scalar
) -> PairState:
    r"""Take a gradient step from the look-ahead point, then look ahead again.

    .. math:: \theta_{t+1} = y_t - \eta_t g_t, \qquad
              y_{t+1} = \theta_{t+1} + \beta_{t+1}(\theta_{t+1} - \theta_t), \qquad
              \beta_{t+1} = \frac{\lambda_{t+1}-1}{\lambda_{t+2}}

    Args:
        state: :math:`(\theta_t, y_t)`.
        grad: :math:`g_t = \nabla f(y_t)`.
        lr: step size :math:`\eta_t`.
        momentum: :math:`\beta_t`, which the stored point already holds; not used again.
        next_momentum: coefficient :math:`\beta_{t+1}`.
    """
    theta = state.lookahead - lr * grad
    return PairState(theta, theta + next_momentum * (theta - state.theta))


fista = Method("fista", ("momentum", "next_momentum"), start_pair, pair_point, fista_step, here)
r"""The form of Nesterov (1983) and of FISTA (Beck & Teboulle 2009), which has no velocity.

Its coefficients come from :math:`\lambda_k`: :class:`ngs.schedules.NesterovMomentum`.
"""


def start_anchored(theta: Vector) -> AnchorState:
    """Return the state at rest at ``theta``: all three sequences start there."""
    return AnchorState(theta, theta)


def anchored_point(state: AnchorState, mixing: Scalar, pull: Scalar, stride: Scalar) -> Vector:
    r"""Return :math:`y_t = \theta_t + \tau_t (z_t - \theta_t)`."""
    return state.theta + mixing * (state.anchor - state.theta)


def anchored_step(
    state: AnchorState, grad: Vector, lr: Scalar, mixing: Scalar, pull: Scalar, stride: Scalar
) -> AnchorState:
    r"""Take a short step from the look-ahead point and a long one from the anchor.

    .. math:: \theta_{t+1} = y_t - \eta_t g_t, \qquad
              z_{t+1} = z_t + a_t (y_t - z_t) - \sigma_t\,\eta_t g_t

    Args:
        state: :math:`(\theta_t, z_t)`.
        grad: :math:`g_t = \nabla f(y_t)`.
        lr: step size :math:`\eta_t`.
        mixing: :math:`\tau_t`, the share of the anchor in :math:`y_t`.
        pull: :math:`a_t`, how far :math:`y_t` draws the anchor; 0 without strong convexity.
        stride: :math:`\sigma_t`, the anchor's step in units of ``lr``.
    """
    point = anchored_point(state, mixing, pull, stride)
    anchor = state.anchor + pull * (point - state.anchor) - stride * lr * grad
    return AnchorState(point - lr * grad, anchor)


three_sequences = Method(
    "three_sequences",
    ("mixing", "pull", "stride"),
    start_anchored,
    anchored_point,
    anchored_step,
    here,
)
r"""The form that the proofs use (Nesterov 2004, section 2.2): iterate, look-ahead point, anchor.

:class:`ngs.schedules.ConvexAnchor` makes it Nesterov's method for convex functions,
:class:`ngs.schedules.StronglyConvexAnchor` the one with constant momentum for strongly convex ones.
"""


def ogm_step(
    state: PairState, grad: Vector, lr: Scalar, momentum: Scalar, correction: Scalar
) -> PairState:
    r"""Take Nesterov's step and go on further along the gradient step just taken.

    .. math:: \theta_{t+1} = y_t - \eta_t g_t, \qquad
              y_{t+1} = \theta_{t+1} + \beta_t(\theta_{t+1} - \theta_t)
                        + \gamma_t(\theta_{t+1} - y_t)

    Args:
        state: :math:`(\theta_t, y_t)`.
        grad: :math:`g_t = \nabla f(y_t)`.
        lr: step size :math:`\eta_t`.
        momentum: coefficient :math:`\beta_t`.
        correction: coefficient :math:`\gamma_t`.
    """
    theta = state.lookahead - lr * grad
    point = theta + momentum * (theta - state.theta) + correction * (theta - state.lookahead)
    return PairState(theta, point)


ogm = Method("ogm", ("momentum", "correction"), start_pair, pair_point, ogm_step, pair_point)
"""The optimized gradient method (Kim & Fessler 2016, OGM1), exactly optimal for convex functions.

Its coefficients come from :class:`ngs.schedules.OptimizedMomentum`, made for a fixed number of
steps; what it promises to lower is the value at the last look-ahead point.
"""

# --- what frameworks compute --------------------------------------------------------------------


def start_framework(theta: Vector) -> FrameworkState:
    """Return the state of an optimizer that has not stepped yet."""
    return FrameworkState(theta, 0 * theta)


def framework_params(state: FrameworkState, momentum: Scalar) -> Vector:
    """Return the weights: a framework knows no other point."""
    return state.params


def torch_step(state: FrameworkState, grad: Vector, lr: Scalar, momentum: Scalar) -> FrameworkState:
    r"""Take the step of ``torch.optim.SGD(nesterov=True)``, of optax and of timm.

    .. math:: b_{t+1} = \beta_t b_t + g_t, \qquad
              p_{t+1} = p_t - \eta_t\,(g_t + \beta_t b_{t+1})

    Args:
        state: :math:`(p_t, b_t)`; the buffer is a sum of gradients, without the learning rate.
        grad: :math:`g_t = \nabla f(p_t)`.
        lr: learning rate :math:`\eta_t`.
        momentum: coefficient :math:`\beta_t`, the only one that the framework knows at step t.
    """
    buffer = momentum * state.buffer + grad
    return FrameworkState(state.params - lr * (grad + momentum * buffer), buffer)


torch_sgd = Method(
    "torch_sgd", ("momentum",), start_framework, framework_params, torch_step, framework_params
)
"""``torch.optim.SGD(nesterov=True)`` and ``optax.sgd(nesterov=True)`` as they compute.

Nesterov's method while learning rate and momentum are constant; another method after a change.
"""


def keras_step(state: FrameworkState, grad: Vector, lr: Scalar, momentum: Scalar) -> FrameworkState:
    r"""Take the step of ``keras.optimizers.SGD(nesterov=True)``.

    .. math:: b_{t+1} = \beta_t b_t - \eta_t g_t, \qquad
              p_{t+1} = p_t + \beta_t b_{t+1} - \eta_t g_t

    Args:
        state: :math:`(p_t, b_t)`; the buffer is a velocity, with the learning rate in it.
        grad: :math:`g_t = \nabla f(p_t)`.
        lr: learning rate :math:`\eta_t`.
        momentum: coefficient :math:`\beta_t`; Keras itself takes a fixed one only.
    """
    buffer = momentum * state.buffer - lr * grad
    return FrameworkState(state.params + momentum * buffer - lr * grad, buffer)


keras_sgd = Method(
    "keras_sgd", ("momentum",), start_framework, framework_params, keras_step, framework_params
)
"""``keras.optimizers.SGD(nesterov=True)`` as it computes.

Nesterov's method under any learning rate, as long as the momentum is constant.
"""

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
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
"""Every method by name. A method added here is covered by every generic test."""
