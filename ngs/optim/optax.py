r"""NGS for JAX, as a gradient transformation of optax: one more link for ``optax.chain``.

The parameters of the model hold the look-ahead point :math:`y_t = \theta_t + \beta_t v_t`, where
the gradient is wanted; :func:`iterate` gives :math:`\theta_t`. It rests on the traced step beside
it, on JAX and on optax.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise ImportError("ngs.optim.optax needs JAX and optax: pip install 'ngs[jax]'") from error

from ngs.errors import InputError
from ngs.factor import Rule
from ngs.methods import StoredState, stored_iterate
from ngs.optim.traced import Memory, Products, Settings, advance, decide
from ngs.restart import GradientRestart
from ngs.schedules import Schedule

Traced = float | jax.Array | Callable[[jax.Array], Any]
"""A number, or a schedule of optax: a function of a traced step."""


class NGSState(NamedTuple):
    r"""State of :func:`ngs`.

    Attributes:
        step: number of updates: t of the learning rate's schedule.
        velocity: :math:`v_t`, like the parameters.
        memory: clock of the momentum schedule, acceleration factor, restart; ``memory.lr`` is the
            learning rate of the last update, with the factor in it.
    """

    step: jax.Array
    velocity: Any
    memory: Memory


def ngs(
    lr: Traced,
    momentum: Traced = 0.9,
    weight_decay: float = 0.0,
    *,
    decoupled_weight_decay: bool = False,
    rescale_velocity: bool = False,
    factor: Rule | None = None,
    restart: GradientRestart | None = None,
    max_norm: float | None = None,
    check_finite: bool | None = None,
) -> optax.GradientTransformation:
    r"""Return Nesterov's method in the look-ahead form, exact for any schedule.

    .. math:: v_{t+1} = \beta_t v_t - \eta_t \nabla f(\theta_t + \beta_t v_t), \qquad
              \theta_{t+1} = \theta_t + v_{t+1}

    ``optax.sgd(nesterov=True)`` computes the same as long as both coefficients are constant, and
    another method as soon as one changes. The update that comes out has its sign and length: add
    it, with ``optax.apply_updates``, and let no schedule scale it later in a chain.

    It works under ``jit``, ``vmap`` and ``scan``, and where ``jit`` has sharded parameters: all
    inner products are over the whole of them. (Inside ``shard_map`` and ``pmap`` they are over what
    the device holds: average the gradients before, and leave rules that read them to replicated
    parameters.) Scalars have JAX's widest floating type, 32 bits unless ``jax_enable_x64`` is set;
    with 32 bits a gradient that is longer than 1e19 counts as not finite.

    Args:
        lr: learning rate :math:`\eta_t`: a number, or a schedule of optax.
        momentum: coefficient :math:`\beta_t` in [0, 1), likewise. A schedule of ``ngs.schedules``
            counts with Python's integers: hand it over by :func:`tabulated`.
        weight_decay: see :class:`ngs.optim.torch.NGS`, as for all others; it needs ``params`` in
            ``update``.
        decoupled_weight_decay: see there.
        rescale_velocity: see there.
        factor: see there; ``memory.factor`` of the state holds the acceleration factor.
        restart: see there.
        max_norm: see there.
        check_finite: see there; ``memory.refused`` counts the steps that were refused.

    Raises:
        InputError: a coefficient is out of its range, a schedule cannot be traced, or the rule of
            the factor is :class:`ngs.factor.AdditiveRule`.

    Source: Nesterov (1983); Sutskever et al. (2013), section 2; stored form: Bengio et al. (2012).

    >>> params = {"w": jnp.array([1.0])}
    >>> method = ngs(lr=0.1, momentum=0.9)
    >>> state = method.init(params)
    >>> updates, state = method.update({"w": jnp.array([1.0])}, state, params)
    >>> params = optax.apply_updates(params, updates)
    >>> [round(float(point["w"][0]), 3) for point in (params, iterate(params, state))]
    [0.81, 0.9]
    """
    settings = Settings(
        weight_decay,
        decoupled_weight_decay,
        rescale_velocity,
        factor,
        restart,
        max_norm,
        check_finite,
    )
    _check(lr, momentum)

    def init(params: Any) -> NGSState:
        memory = jax.tree.map(lambda x: jnp.asarray(x, _widest()), Memory())
        memory = memory._replace(clock=jnp.int32(0), refused=jnp.int32(0))
        return NGSState(jnp.int32(0), jax.tree.map(jnp.zeros_like, params), memory)

    def update(grads: Any, state: NGSState, params: Any = None) -> tuple[Any, NGSState]:
        if params is None and settings.decays:
            raise InputError("weight_decay needs the parameters: call update(grads, state, params)")
        products = _products(grads, state.velocity) if settings.reads else None
        rate = jnp.asarray(_at(lr, state.step), _widest())
        following = jnp.asarray(_at(momentum, state.memory.clock + 1), _widest())
        memory, scalars = decide(settings, state.memory, products, rate, following, jnp)

        def one(grad: jax.Array, velocity: jax.Array, stored: jax.Array) -> tuple[Any, Any]:
            moved, after = advance(settings, scalars, stored, grad, velocity, jnp)
            return moved.astype(stored.dtype), after.astype(velocity.dtype)

        tree: Any  # which jax does not describe to type checkers
        leaves, tree = jax.tree.flatten(grads)
        others = (state.velocity, grads if params is None else params)
        columns = (leaves, *(tree.flatten_up_to(other) for other in others))
        both = [one(*leaf) for leaf in zip(*columns, strict=True)]
        moved, velocity = (tree.unflatten([pair[part] for pair in both]) for part in (0, 1))
        memory = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), memory, state.memory)
        return moved, NGSState(optax.safe_increment(state.step), velocity, memory)

    return optax.GradientTransformation(init, update)


def tabulated(schedule: Schedule, steps: int) -> Callable[[jax.Array], Any]:
    """Return a schedule of ``ngs.schedules`` as one of optax, by a table of its values.

    Args:
        schedule: a function of Python's integers.
        steps: of the run; after them the last value holds.

    Raises:
        InputError: ``steps`` is below 1.

    >>> from ngs.schedules import SimplifiedMomentum
    >>> [round(float(tabulated(SimplifiedMomentum(), 3)(t)), 3) for t in (1, 3, 4)]
    [0.0, 0.4, 0.4]
    """
    if steps < 1:
        raise InputError(f"steps must be 1 or more, got {steps}")
    table = np.array([float(schedule(t)) for t in range(steps + 1)])

    def value(step: jax.Array) -> Any:
        return jnp.take(jnp.asarray(table, _widest()), jnp.minimum(step, steps))

    return value


def iterate(params: Any, state: Any) -> Any:
    r"""Return the iterate :math:`\theta_t` that belongs to the stored point :math:`y_t`.

    Args:
        params: :math:`y_t`, what the model holds.
        state: of :func:`ngs`, or of a chain that has it in it. Where it was made under ``vmap``,
            call this under the same ``vmap``. What ``optax.masked`` leaves out comes back as it is.

    Raises:
        InputError: there is not exactly one state of :func:`ngs`.
    """
    every = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, NGSState))
    found = [part for part in every if isinstance(part, NGSState)]
    if len(found) != 1:
        raise InputError(f"there must be one state of ngs in the state, got {len(found)}")
    ((_, velocity, memory),) = found

    def is_masked(part: Any) -> bool:
        return isinstance(part, optax.MaskedNode)

    def back(velocity: Any, stored: jax.Array) -> Any:
        if is_masked(velocity):
            return stored
        theta = stored_iterate(StoredState(stored, velocity), 0.0, memory.momentum)
        return theta.astype(stored.dtype)

    return jax.tree.map(back, velocity, params, is_leaf=is_masked)


def _widest() -> Any:
    """Return the widest floating type that JAX has switched on."""
    return jnp.result_type(float)


def _products(grads: Any, velocity: Any) -> Products:
    """Return the inner products over all parameters; of complex ones their real parts."""

    def dot(one: Any, other: Any) -> Any:
        return sum(jax.tree.leaves(jax.tree.map(_dot, one, other)), jnp.zeros((), _widest()))

    return Products(dot(grads, velocity), dot(grads, grads), dot(velocity, velocity))


def _dot(one: jax.Array, other: jax.Array) -> jax.Array:
    """Return an inner product, summed in 32 bits or more.

    Not ``jnp.vdot``: of sharded arrays that asks how its result is to be sharded.
    """
    wide = jnp.promote_types(one.dtype, jnp.float32)
    return jnp.sum(jnp.real(one.astype(wide) * jnp.conj(other.astype(wide)))).astype(_widest())


def _at(value: Traced, step: jax.Array) -> Any:
    return value(step) if callable(value) else value


def _known(value: Any) -> float | None:
    """Return a coefficient as a number, or ``None`` where it is a schedule or being traced."""
    return None if callable(value) or isinstance(value, jax.core.Tracer) else float(value)


def _check(lr: Traced, momentum: Traced) -> None:
    """Raise InputError unless both are numbers in their range, or functions that can be traced."""
    rate, coefficient = _known(lr), _known(momentum)
    if rate is not None and not 0.0 <= rate < math.inf:
        raise InputError(f"lr must be finite and at least 0, got {lr}")
    if coefficient is not None and not 0.0 <= coefficient < 1.0:
        raise InputError(f"momentum must lie in [0, 1), got {momentum}")
    for name, value in (("lr", lr), ("momentum", momentum)):
        if not callable(value):
            continue
        try:
            jax.eval_shape(value, jnp.int32(0))
        except (jax.errors.JAXTypeError, TypeError) as error:
            raise InputError(
                f"{name}={value} cannot be traced by JAX: hand a schedule of ngs.schedules over "
                "by tabulated(schedule, steps)"
            ) from error
