r"""NGS for Keras 3, on TensorFlow, JAX or torch: an optimizer for ``model.compile``.

The model holds the look-ahead point :math:`y_t = \theta_t + \beta_t v_t`, where the gradient is
wanted; inside :meth:`NGS.at_iterate` it holds :math:`\theta_t`. It rests on the traced step beside
it and on Keras.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

try:
    import keras
    from keras import ops
except ImportError as error:
    missing = "Keras: pip install 'ngs[keras]'"
    if error.name not in (None, "keras"):
        missing = f"{error.name}, the backend of Keras: install it, or set KERAS_BACKEND to another"
    raise ImportError(f"ngs.optim.keras needs {missing}") from error

from ngs.errors import InputError
from ngs.factor import AngleRule, FactorState, MultiplicativeRule, Rule
from ngs.methods import StoredState, stored_iterate
from ngs.optim.traced import Memory, Products, Settings, advance, decide
from ngs.restart import GradientRestart
from ngs.restart import Memory as RestartMemory
from ngs.schedules import Schedule

RULES = {rule.__name__: rule for rule in (MultiplicativeRule, AngleRule)}
"""Rules that a saved model may name."""
FACTORS, RESTARTS = len(FactorState()), len(RestartMemory())


@keras.saving.register_keras_serializable(package="ngs")
class Tabulated(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule as a table of its values; after them the last one holds.

    Args:
        values: one for each step from 0 on.

    Raises:
        InputError: there is none.
    """

    def __init__(self, values: Sequence[float]) -> None:
        if not len(values):
            raise InputError("a table of a schedule needs a value or more, got none")
        self.values = [float(value) for value in values]

    @classmethod
    def of(cls, schedule: Schedule, steps: int) -> "Tabulated":
        """Return the table of a schedule of ``ngs.schedules`` for a run of so many steps."""
        return cls([schedule(t) for t in range(steps + 1)])

    def __call__(self, step: Any) -> Any:
        """Return the value at a step."""
        table = ops.convert_to_tensor(self.values, dtype=_wide())
        return ops.take(table, ops.minimum(ops.cast(step, "int32"), len(self.values) - 1))

    def get_config(self) -> dict[str, Any]:
        """Return what ``from_config`` takes."""
        return {"values": self.values}


@keras.saving.register_keras_serializable(package="ngs")
class NGS(keras.optimizers.Optimizer):  # type: ignore[misc]
    r"""Nesterov's method in the look-ahead form, exact for any schedule.

    .. math:: v_{t+1} = \beta_t v_t - \eta_t \nabla f(\theta_t + \beta_t v_t), \qquad
              \theta_{t+1} = \theta_t + v_{t+1}

    ``keras.optimizers.SGD(nesterov=True)`` computes the same as long as its momentum, which it
    takes as a number only, is constant. It is saved and loaded with the model. Under mixed
    precision Keras wraps it: it is then ``model.optimizer.inner_optimizer``.

    All variables share one clock: where the momentum changes, each of them must have a gradient in
    every step.

    Args:
        learning_rate: :math:`\eta_t`: a number, or a schedule of Keras, which counts batches.
        momentum: :math:`\beta_t` in [0, 1): a number, or a schedule; of ``ngs.schedules`` by
            :meth:`Tabulated.of`. It counts steps since the last restart: with
            ``gradient_accumulation_steps`` several batches are one.
        weight_decay: see :class:`ngs.optim.torch.NGS`, as for all others but the next;
            ``exclude_from_weight_decay`` works as for any optimizer of Keras.
        decoupled_weight_decay: see there; true by default, which is the custom of Keras.
        rescale_velocity: see there.
        factor: see there.
        restart: see there.
        max_norm: see there. Keras's own clipping, by ``global_clipnorm`` say, comes before all
            that is described here: rules see what it leaves.
        check_finite: see there.
        name: of the optimizer.
        **settings: what every optimizer of Keras takes.

    Raises:
        InputError: a coefficient is out of its range; or ``tf.distribute`` has several replicas and
            a rule needs inner products, which one replica does not know.

    Source: Nesterov (1983); Sutskever et al. (2013), section 2; stored form: Bengio et al. (2012).

    >>> optimizer = NGS(learning_rate=0.1, momentum=0.9)
    >>> weight = keras.Variable([1.0])
    >>> optimizer.apply([keras.ops.ones(1)], [weight])
    >>> round(float(keras.ops.convert_to_numpy(weight)[0]), 3)
    0.81
    >>> with optimizer.at_iterate():
    ...     round(float(keras.ops.convert_to_numpy(weight)[0]), 3)
    0.9
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        momentum: Any = 0.9,
        weight_decay: float | None = None,
        *,
        decoupled_weight_decay: bool = True,
        rescale_velocity: bool = False,
        factor: Rule | None = None,
        restart: GradientRestart | None = None,
        max_norm: float | None = None,
        check_finite: bool | None = None,
        name: str = "ngs",
        **settings: Any,
    ) -> None:
        if isinstance(learning_rate, int | float) and not 0.0 <= learning_rate < math.inf:
            raise InputError(f"learning_rate must be finite and at least 0, got {learning_rate}")
        if not callable(momentum) and not 0.0 <= momentum < 1.0:
            raise InputError(f"momentum must lie in [0, 1), got {momentum}")
        super().__init__(learning_rate=learning_rate, name=name, **settings)
        self.momentum = momentum
        self.settings = Settings(
            weight_decay or 0.0,
            decoupled_weight_decay,
            rescale_velocity,
            factor,
            restart,
            max_norm,
            check_finite,
        )
        self._scalars: Any = None  # of the step that is being taken
        self._at_iterate = False

    def build(self, variables: Sequence[Any]) -> None:
        """Make the velocities and the memory, which start at 0 and the factor at 1."""
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        self.clock = self.add_variable((), dtype="int32", name="clock")
        self.refused = self.add_variable((), dtype="int32", name="refused")
        start = [float(x) for x in _flat(Memory())]
        # By an initializer: TensorFlow builds inside of a graph, where an assignment would be lost.
        self.memory = self.add_variable(
            (len(start),),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(start, dtype=dtype),
            dtype=_wide(),
            name="memory",
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable by what was decided for all."""
        velocity = self.velocities[self._get_variable_index(variable)]
        own = type(self._scalars)(
            *(ops.cast(x, variable.dtype) if _is_rate(x) else x for x in self._scalars)
        )
        settings = self.settings
        if settings.weight_decay > 0.0 and not self._use_weight_decay(variable):
            settings = Settings()
        gradient = ops.cast(gradient, variable.dtype)
        moved, after = advance(
            settings,
            own,
            ops.convert_to_tensor(variable),
            gradient,
            ops.convert_to_tensor(velocity),
            ops,
        )
        self.assign(velocity, after)
        self.assign_add(variable, moved)

    # Every backend calls this with all gradients of a step, clipped and unscaled; no public method
    # sees them.
    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        if self._at_iterate:
            raise RuntimeError(
                "a step inside at_iterate(): leave the block before training goes on"
            )
        grads = [_dense(grad, v) for grad, v in zip(grads, trainable_variables, strict=True)]
        products = None
        if self.settings.reads:
            strategy = getattr(self, "_distribution_strategy", None)
            if strategy is not None and strategy.num_replicas_in_sync > 1:
                raise InputError(
                    "NGS takes no factor, restart, max_norm or check_finite where tf.distribute "
                    "has several replicas: leave them out"
                )
            own = [self.velocities[self._get_variable_index(v)] for v in trainable_variables]
            products = Products(_dot(grads, own), _dot(grads, grads), _dot(own, own))
        memory = _memory(self.memory, self.clock, self.refused)
        rate = ops.cast(learning_rate, _wide())
        following = self.momentum(memory.clock + 1) if callable(self.momentum) else self.momentum
        memory, self._scalars = decide(
            self.settings, memory, products, rate, ops.cast(following, _wide()), Wide()
        )
        self.clock.assign(ops.cast(memory.clock, "int32"))
        self.refused.assign(ops.cast(memory.refused, "int32"))
        self.memory.assign(ops.stack([ops.cast(x, _wide()) for x in _flat(memory)]))
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    @property
    def factor(self) -> float:
        """The acceleration factor, 1.0 where no rule has moved it."""
        if not self.built:
            return 1.0
        return float(_memory(self.memory, self.clock, self.refused).factor.factor)

    @contextmanager
    def at_iterate(self) -> Iterator[None]:
        r"""Let the variables hold the iterate :math:`\theta_t` inside a ``with`` block.

        Raises:
            RuntimeError: inside of another such block; and inside of this one where a step, or
                saving with the optimizer, is asked for. (A training step that was compiled before
                asks nobody: do not train in here.)
        """
        if self._at_iterate:
            raise RuntimeError("at_iterate() inside at_iterate(): the iterate is there already")
        if not self.built:  # no step yet: it is the start
            yield
            return
        momentum = _memory(self.memory, self.clock, self.refused).momentum
        stored = [ops.copy(variable) for variable in self._trainable_variables]
        for variable, velocity in zip(self._trainable_variables, self.velocities, strict=True):
            state = StoredState(ops.convert_to_tensor(variable), ops.convert_to_tensor(velocity))
            variable.assign(stored_iterate(state, 0.0, ops.cast(momentum, variable.dtype)))
        self._at_iterate = True
        try:
            yield
        finally:
            self._at_iterate = False
            for variable, point in zip(self._trainable_variables, stored, strict=True):
                variable.assign(point)

    def save_own_variables(self, store: Any) -> None:
        """Write the state into a saved model; refused inside :meth:`at_iterate`."""
        if self._at_iterate:
            raise RuntimeError(
                "a model that is saved inside at_iterate() could not go on: save it outside, or "
                "with include_optimizer=False"
            )
        super().save_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        """Return what :meth:`from_config` takes.

        Raises:
            InputError: a rule is none of ``ngs.factor``'s, or momentum is a function of one's own.
        """
        rules: dict[str, Any] = {
            "factor": self.settings.factor,
            "restart": self.settings.restart,
        }
        for name, rule in rules.items():
            if rule is not None and type(rule) not in (*RULES.values(), GradientRestart):
                raise InputError(f"{name}={rule} cannot be saved: only rules of ngs can")
        momentum = self.momentum
        if isinstance(momentum, keras.optimizers.schedules.LearningRateSchedule):
            momentum = keras.saving.serialize_keras_object(momentum)
        elif callable(momentum):
            raise InputError(
                f"momentum={momentum} cannot be saved: use Tabulated.of(schedule, steps)"
            )
        chosen = {name: getattr(self.settings, name) for name in Settings.__dataclass_fields__}
        chosen |= {
            name: None if rule is None else {"rule": type(rule).__name__, **asdict(rule)}
            for name, rule in rules.items()
        }
        return {**super().get_config(), **chosen, "momentum": momentum}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "NGS":
        """Return the optimizer that :meth:`get_config` described."""
        config = dict(config)
        for name in ("factor", "restart"):
            if isinstance(config.get(name), dict):
                rule = dict(config[name])
                kinds = {**RULES, "GradientRestart": GradientRestart}
                config[name] = kinds[rule.pop("rule")](**rule)
        if isinstance(config["momentum"], dict):
            config["momentum"] = keras.saving.deserialize_keras_object(config["momentum"])
        optimizer: NGS = super().from_config(config, custom_objects)
        return optimizer


class Wide:
    """``keras.ops`` for the rules, with all digits of Python's floats: some backends keep 7."""

    exp, sqrt, isfinite = (staticmethod(getattr(ops, name)) for name in ("exp", "sqrt", "isfinite"))

    @staticmethod
    def where(condition: Any, then: Any, otherwise: Any) -> Any:
        """Return one of two numbers."""
        return ops.where(condition, _tensor(then), _tensor(otherwise))

    @classmethod
    def minimum(cls, first: Any, second: Any) -> Any:
        """Return the smaller of two numbers; torch's takes 64 bits to 32."""
        return cls.where(first < second, first, second)

    @classmethod
    def maximum(cls, first: Any, second: Any) -> Any:
        """Return the larger of two numbers, likewise."""
        return cls.where(first > second, first, second)


def _tensor(x: Any) -> Any:
    return ops.convert_to_tensor(x, dtype=_wide()) if isinstance(x, float) else x


def _dense(grad: Any, variable: Any) -> Any:
    """Return a gradient as an array; that of an embedding on TensorFlow is a list of its rows."""
    if not hasattr(grad, "dense_shape"):
        return grad
    return ops.scatter(ops.expand_dims(grad.indices, -1), grad.values, variable.shape)


def _wide() -> str:
    """Return the type of scalars: that of Keras, or 32 bits where that has fewer."""
    return "float64" if keras.config.floatx() == "float64" else "float32"


def _flat(memory: Memory) -> list[Any]:
    """Return the parts of a memory that are no counts of steps, as one list."""
    return [memory.momentum, memory.lr, *memory.factor, *memory.restart]


def _memory(values: Any, clock: Any, refused: Any) -> Memory:
    """Return the memory from its variables."""
    values = ops.copy(ops.convert_to_tensor(values))  # torch writes into its variables in place
    parts = [values[i] for i in range(2 + FACTORS + RESTARTS)]
    factor, restart = FactorState(*parts[2 : 2 + FACTORS]), RestartMemory(*parts[2 + FACTORS :])
    return Memory(
        ops.convert_to_tensor(clock),
        parts[0],
        parts[1],
        factor,
        restart,
        ops.convert_to_tensor(refused),
    )


def _dot(ones: Sequence[Any], others: Sequence[Any]) -> Any:
    """Return the inner product over all variables."""
    pairs = zip(ones, others, strict=True)
    return sum(ops.sum(ops.cast(a, _wide()) * ops.cast(b, _wide())) for a, b in pairs)


def _is_rate(x: Any) -> bool:
    """Return whether a scalar of a step is a floating array, not a condition or a plain number."""
    return hasattr(x, "dtype") and "float" in keras.backend.standardize_dtype(x.dtype)
