"""Claims about NGS for JAX, beside the golden trajectories of test_golden.py."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ngs.errors import InputError
from ngs.factor import AdditiveRule, AngleRule
from ngs.optim.optax import NGSState, iterate, ngs, tabulated
from ngs.restart import GradientRestart
from ngs.schedules import SimplifiedMomentum

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0]), "b": jnp.float32(0.5)}
CURVATURES = {"w": jnp.array([1.0, 0.1, 0.3]), "b": jnp.array(0.7)}


def bowl(params):
    squares = jax.tree.map(lambda c, x: jnp.sum(c * x**2) / 2, CURVATURES, params)
    return sum(jax.tree.leaves(squares))


def run(method, params=PARAMS, steps=30, function=bowl):
    """Return parameters and state after some steps."""
    state = method.init(params)
    for _ in range(steps):
        updates, state = method.update(jax.grad(function)(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_with_constant_coefficients_it_is_optax_own_nesterov_form():
    ours, _ = run(ngs(0.1, 0.9))
    theirs, _ = run(optax.sgd(0.1, 0.9, nesterov=True))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_when_the_rate_drops_it_is_not():
    drops = optax.piecewise_constant_schedule(0.3, {10: 0.1})
    (ours, _), (theirs, _) = run(ngs(drops)), run(optax.sgd(drops, 0.9, nesterov=True))
    assert float(jnp.abs(ours["w"] - theirs["w"]).max()) > 0.01


def test_it_is_a_link_of_a_chain():
    chained, _ = run(optax.chain(optax.add_decayed_weights(0.1), ngs(0.1)))
    alone, _ = run(ngs(0.1, weight_decay=0.1))
    for one, other in zip(jax.tree.leaves(chained), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_groups_are_made_by_partition():
    labels = {"w": "slow", "b": "fast"}
    params, _ = run(optax.partition({"slow": ngs(0.01), "fast": ngs(0.1)}, labels))
    fast, _ = run(ngs(0.1))
    slow, _ = run(ngs(0.01))
    np.testing.assert_allclose(params["b"], fast["b"], rtol=1e-6)
    np.testing.assert_allclose(params["w"], slow["w"], rtol=1e-6)


def test_it_compiles_once_for_all_steps_and_options():
    method = ngs(
        optax.cosine_decay_schedule(0.1, 30),
        tabulated(SimplifiedMomentum(), 30),
        0.01,
        factor=AngleRule(),
        restart=GradientRestart(),
        max_norm=1.0,
        rescale_velocity=True,
    )
    compiled = []

    @jax.jit
    def step(params, state):
        compiled.append(1)
        updates, state = method.update(jax.grad(bowl)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, method.init(PARAMS)
    for _ in range(30):
        params, state = step(params, state)
    assert len(compiled) == 1
    assert float(bowl(params)) < 0.1 * float(bowl(PARAMS))
    eager, _ = run(method)
    np.testing.assert_allclose(params["w"], eager["w"], rtol=1e-3, atol=1e-4)


def test_vmap_trains_several_networks_each_with_a_factor_of_its_own():
    method = ngs(0.01, factor=AngleRule())
    many = jax.vmap(lambda scale: run(method, jax.tree.map(lambda x: scale * x, PARAMS)))
    params, state = many(jnp.array([1.0, 5.0]))
    for place, scale in enumerate((1.0, 5.0)):
        alone, own = run(method, jax.tree.map(lambda x, s=scale: s * x, PARAMS))
        np.testing.assert_allclose(params["w"][place], alone["w"], rtol=1e-3, atol=1e-4)
        factor = state.memory.factor.factor[place]
        np.testing.assert_allclose(factor, own.memory.factor.factor, rtol=1e-3)


def test_sharded_parameters_have_one_factor():
    mesh = jax.make_mesh((1,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    method = ngs(0.01, factor=AngleRule())
    spread = {"w": jax.device_put(PARAMS["w"], sharding), "b": PARAMS["b"]}
    (one, state), (other, own) = run(method, spread), run(method)
    np.testing.assert_allclose(one["w"], other["w"], rtol=1e-6)
    assert float(state.memory.factor.factor) == pytest.approx(float(own.memory.factor.factor))


def test_the_iterate_is_the_stored_point_less_the_look_ahead():
    params, state = run(optax.chain(optax.clip(10.0), ngs(0.1, 0.9)))
    (inner,) = (part for part in state if isinstance(part, NGSState))
    theta = iterate(params, state)
    np.testing.assert_allclose(theta["w"], params["w"] - 0.9 * inner.velocity["w"], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_every_type_of_parameter_keeps_its_type(dtype):
    params = {"w": jnp.array([1.0, 2.0], dtype)}
    method = ngs(0.1, factor=AngleRule(), max_norm=1.0)
    state = method.init(params)
    for _ in range(3):
        updates, state = method.update(params, state, params)
        assert updates["w"].dtype == dtype
        params = optax.apply_updates(params, updates)
    assert params["w"].dtype == dtype
    assert state.velocity["w"].dtype == dtype
    assert float(jnp.abs(params["w"]).max()) < 2.0


def test_a_step_whose_gradient_is_not_finite_is_refused_and_counted():
    method = ngs(0.1, check_finite=True)
    params, state = run(method, steps=3)
    bad = {"w": jnp.array([1.0, jnp.nan, 1.0]), "b": jnp.array(1.0)}
    updates, after = method.update(bad, state, params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    assert int(after.memory.refused) == 1
    np.testing.assert_array_equal(after.velocity["w"], state.velocity["w"])
    assert int(after.memory.clock) == int(state.memory.clock)


def test_its_rate_can_be_injected_as_that_of_any_optimizer():
    method = optax.inject_hyperparams(ngs)(lr=0.1, weight_decay=0.01)
    step = jax.jit(method.update)
    params, state = PARAMS, method.init(PARAMS)
    for _ in range(5):
        updates, state = step(jax.grad(bowl)(params), state, params)
        params = optax.apply_updates(params, updates)
    alone, _ = run(ngs(0.1, weight_decay=0.01), steps=5)
    np.testing.assert_allclose(params["w"], alone["w"], rtol=1e-5)


def test_what_is_masked_stays_where_it_is():
    method = optax.masked(ngs(0.1, 0.9), {"w": True, "b": False})
    state = method.init(PARAMS)
    updates, state = method.update(jax.grad(bowl)(PARAMS), state, PARAMS)
    params = optax.apply_updates(PARAMS, {**updates, "b": 0.0 * updates["b"]})
    theta = iterate(params, state)
    assert theta["b"] == params["b"]
    np.testing.assert_allclose(theta["w"], PARAMS["w"] - 0.1 * CURVATURES["w"] * PARAMS["w"])


def test_no_parameters_are_no_trouble():
    method = ngs(0.1, max_norm=1.0)
    updates, _ = method.update({}, method.init({}), {})
    assert updates == {}


def test_the_state_is_a_tree_that_can_be_saved():
    method = ngs(0.1, factor=AngleRule(), restart=GradientRestart())
    params, state = run(method, steps=5)
    params, state = pickle.loads(pickle.dumps((params, state)))
    for _ in range(5):
        updates, state = method.update(jax.grad(bowl)(params), state, params)
        params = optax.apply_updates(params, updates)
    straight, _ = run(method, steps=10)
    np.testing.assert_array_equal(params["w"], straight["w"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ngs(-1.0), "lr must be finite and at least 0, got -1.0"),
        (lambda: ngs(float("nan")), "lr must be finite"),
        (lambda: ngs(jnp.array(-1.0)), "lr must be finite and at least 0, got -1.0"),
        (lambda: ngs(0.1, factor=AdditiveRule()), "take AngleRule or MultiplicativeRule"),
        (lambda: ngs(0.1, 1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: ngs(0.1, weight_decay=-1.0), "weight_decay must be finite and at least 0"),
        (lambda: ngs(0.1, max_norm=0.0), "max_norm must be finite and above 0"),
        (lambda: ngs(0.1, SimplifiedMomentum()), r"by tabulated\(schedule, steps\)"),
        (lambda: tabulated(SimplifiedMomentum(), 0), "steps must be 1 or more, got 0"),
    ],
)
def test_bad_input_gets_one_line(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_weight_decay_without_parameters_is_refused():
    method = ngs(0.1, weight_decay=0.1)
    with pytest.raises(InputError, match=r"call update\(grads, state, params\)"):
        method.update(PARAMS, method.init(PARAMS))


def test_the_iterate_of_another_optimizer_is_refused():
    params, state = run(optax.sgd(0.1), steps=1)
    with pytest.raises(InputError, match="got 0"):
        iterate(params, state)
