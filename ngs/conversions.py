r"""From one form of Nesterov's method to another: states, coefficients, and when it is exact.

Every conversion of a state is between two steps: the coefficients it asks for are those of the
step that comes next. It rests on :mod:`ngs.methods`, and like it uses ``+``, ``-`` and
multiplication by a scalar, with division of scalars where a formula has one.
"""

from typing import NamedTuple

from ngs.methods import AnchorState, FrameworkState, PairState, Scalar, State, StoredState


class AnchorCoefficients(NamedTuple):
    r"""What the three-sequence form takes: :math:`(\eta_t, \tau_t, a_t, \sigma_t)`."""

    lr: Scalar
    mixing: Scalar
    pull: Scalar
    stride: Scalar


# --- look-ahead form and stored form: always exact ----------------------------------------------


def stored_from_lookahead(state: State, momentum: Scalar) -> StoredState:
    r"""Return :math:`(y_t, v_t)` with :math:`y_t = \theta_t + \beta_t v_t`.

    Exact: always, whatever the schedules.

    >>> stored_from_lookahead(State(1.0, -0.5), momentum=0.5)
    StoredState(lookahead=0.75, velocity=-0.5)
    """
    return StoredState(state.theta + momentum * state.velocity, state.velocity)


def lookahead_from_stored(state: StoredState, momentum: Scalar) -> State:
    r"""Return :math:`(\theta_t, v_t)` with :math:`\theta_t = y_t - \beta_t v_t`.

    Exact: always, whatever the schedules.
    """
    return State(state.lookahead - momentum * state.velocity, state.velocity)


# --- look-ahead form and FISTA's pair -----------------------------------------------------------


def fista_from_lookahead(state: State, momentum: Scalar) -> PairState:
    r"""Return :math:`(\theta_t, y_t)` with :math:`y_t = \theta_t + \beta_t v_t`.

    Exact: always, whatever the schedules.
    """
    return PairState(state.theta, state.theta + momentum * state.velocity)


def lookahead_from_fista(state: PairState, momentum: Scalar) -> State:
    r"""Return :math:`(\theta_t, v_t)` with :math:`v_t = (y_t - \theta_t)/\beta_t`.

    Exact: where :math:`\beta_t \ne 0`. With :math:`\beta_t = 0` the pair no longer knows the
    velocity; as step :math:`t` multiplies it by zero, :math:`v_t = 0` is returned and every later
    iterate is still the same.
    """
    offset = state.lookahead - state.theta
    return State(state.theta, 0 * offset if momentum == 0 else (1 / momentum) * offset)


# --- look-ahead form and three sequences --------------------------------------------------------


def anchor_from_lookahead(state: State, mixing: Scalar, momentum: Scalar) -> AnchorState:
    r"""Return :math:`(\theta_t, z_t)` with :math:`z_t = \theta_t + (\beta_t/\tau_t)\,v_t`.

    Exact: where the later coefficients are those of :func:`anchor_coefficients_convex` or
    :func:`anchor_coefficients_strongly_convex`.
    """
    return AnchorState(state.theta, state.theta + (momentum / mixing) * state.velocity)


def lookahead_from_anchor(state: AnchorState, mixing: Scalar, momentum: Scalar) -> State:
    r"""Return :math:`(\theta_t, v_t)` with :math:`v_t = (\tau_t/\beta_t)(z_t - \theta_t)`.

    Exact: as in :func:`anchor_from_lookahead`, and with :math:`v_t = 0` where
    :math:`\beta_t = 0`.
    """
    offset = state.anchor - state.theta
    return State(state.theta, 0 * offset if momentum == 0 else (mixing / momentum) * offset)


def anchor_coefficients_convex(lr: Scalar, weight: Scalar) -> AnchorCoefficients:
    r"""Return what the three-sequence form takes at step :math:`t`, for :math:`\lambda_{t+1}`.

    .. math:: \tau_t = 1/\lambda_{t+1}, \qquad a_t = 0, \qquad \sigma_t = \lambda_{t+1}

    Exact: for :math:`\beta_t = (\lambda_t-1)/\lambda_{t+1}` with any sequence of :math:`\lambda`,
    and under any :math:`\eta_t`.

    Args:
        lr: step size :math:`\eta_t`.
        weight: :math:`\lambda_{t+1}`.
    """
    return AnchorCoefficients(lr, 1 / weight, 0, weight)


def anchor_coefficients_strongly_convex(lr: Scalar, root: Scalar) -> AnchorCoefficients:
    r"""Return what the three-sequence form takes at every step, for :math:`\sqrt\kappa`.

    .. math:: \tau = \frac1{\sqrt\kappa+1}, \; a = \frac1{\sqrt\kappa}, \; \sigma = \sqrt\kappa

    Exact: for :math:`\beta = (\sqrt\kappa-1)/(\sqrt\kappa+1)` at every step, under any
    :math:`\eta_t`.

    Args:
        lr: step size :math:`\eta_t`.
        root: :math:`\sqrt\kappa`.
    """
    return AnchorCoefficients(lr, 1 / (root + 1), 1 / root, root)


def anchor_coefficients_optimized(lr: Scalar, weight: Scalar) -> AnchorCoefficients:
    r"""Return what makes the three-sequence form take the steps of the optimized gradient method.

    .. math:: \tau_t = 1/\lambda_{t+1}, \qquad a_t = 0, \qquad \sigma_t = 2\lambda_{t+1}

    It is Nesterov's method with the anchor's steps doubled.

    Exact: for iterates and look-ahead points of :data:`ngs.methods.ogm` with any sequence of
    :math:`\lambda`, :math:`\beta_t = (\lambda_{t+1}-1)/\lambda_{t+2}` and
    :math:`\gamma_t = \lambda_{t+1}/\lambda_{t+2}`.

    Args:
        lr: step size :math:`\eta_t`.
        weight: :math:`\lambda_{t+1}`.
    """
    return AnchorCoefficients(lr, 1 / weight, 0, 2 * weight)


def anchor_coefficients_triple(lr: Scalar, root: Scalar) -> AnchorCoefficients:
    r"""Return what makes the three-sequence form take the steps of triple momentum.

    .. math:: \tau = \frac2{\sqrt\kappa+1}, \; a = \frac1{\sqrt\kappa}, \; \sigma = \sqrt\kappa

    It is Nesterov's method for strongly convex functions with the anchor's share doubled.

    Exact: for the look-ahead points of :data:`ngs.methods.triple_momentum`, whose outputs are the
    anchors, where ``lr`` is :math:`1/L`. (Its own step size is :math:`(2-1/\sqrt\kappa)/L`.)

    Args:
        lr: :math:`1/L`.
        root: :math:`\sqrt\kappa`.
    """
    return AnchorCoefficients(lr, 2 / (root + 1), 1 / root, root)


# --- look-ahead form and frameworks -------------------------------------------------------------


def torch_from_lookahead(state: State, lr: Scalar, momentum: Scalar) -> FrameworkState:
    r"""Return torch's :math:`(p_t, b_t)` with :math:`p_t = y_t` and :math:`b_t = -v_t/\eta`.

    Exact: from here on while :math:`\eta` and :math:`\beta` stay constant, whatever they were in
    the steps before.
    """
    return FrameworkState(state.theta + momentum * state.velocity, (-1 / lr) * state.velocity)


def lookahead_from_torch(state: FrameworkState, lr: Scalar, momentum: Scalar) -> State:
    r"""Return :math:`v_t = -\eta b_t` and :math:`\theta_t = p_t - \beta v_t`.

    Exact: while :math:`\eta` and :math:`\beta` are constant.
    """
    velocity = -lr * state.buffer
    return State(state.params - momentum * velocity, velocity)


def keras_from_lookahead(state: State, momentum: Scalar) -> FrameworkState:
    r"""Return Keras's :math:`(p_t, b_t)` with :math:`p_t = y_t` and :math:`b_t = v_t`.

    Exact: while :math:`\beta` stays constant; the learning rate may change.
    """
    return FrameworkState(state.theta + momentum * state.velocity, state.velocity)


def lookahead_from_keras(state: FrameworkState, momentum: Scalar) -> State:
    r"""Return :math:`(\theta_t, v_t)` with :math:`\theta_t = p_t - \beta b_t`.

    Exact: while :math:`\beta` is constant; the learning rate may change.
    """
    return State(state.params - momentum * state.buffer, state.buffer)
