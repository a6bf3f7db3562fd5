"""Claims about NGS for Keras; test_optim_keras.py has them run on every backend."""

import keras
import numpy as np
import pytest

from ngs.errors import InputError
from ngs.factor import AdditiveRule, AngleRule
from ngs.optim.keras import NGS, Tabulated
from ngs.restart import GradientRestart
from ngs.schedules import SimplifiedMomentum

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 8)).astype("float32")
Y = (X[:, :1] * X[:, 1:2] > 0.0).astype("float32")
EVERYTHING = {
    "momentum": Tabulated.of(SimplifiedMomentum(), 100),
    "weight_decay": 1e-3,
    "rescale_velocity": True,
    "factor": AngleRule(),
    "restart": GradientRestart(),
    "max_norm": 5.0,
    "check_finite": True,
}


def model(optimizer, seed=0):
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.layers.Input((8,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    network.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return network


def fit(network, epochs):
    return network.fit(X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def moved(optimizer, gradients, start=(1.0, -2.0)):
    """Return a variable after steps with these gradients."""
    variable = keras.Variable(np.array(start, dtype="float32"))
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, "float32"))], [variable])
    return keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_model_learns(options):
    losses = fit(model(NGS(0.3, **options)), 10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_saved_model_goes_on_as_if_nothing_had_happened(options, tmp_path):
    straight, saved = model(NGS(0.1, **options)), model(NGS(0.1, **options))
    fit(straight, 4)
    fit(saved, 2)
    saved.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is NGS
    assert loaded.optimizer.get_config() == saved.optimizer.get_config()
    fit(loaded, 2)
    for one, other in zip(straight.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_with_constant_coefficients_it_is_keras_own_nesterov_form():
    gradients = RNG.normal(size=(10, 2))
    theirs = moved(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), gradients)
    np.testing.assert_allclose(moved(NGS(0.1, 0.9), gradients), theirs, rtol=1e-5)


def test_the_momentum_may_follow_a_schedule():
    gradients = RNG.normal(size=(10, 2))
    growing = moved(NGS(0.1, Tabulated.of(SimplifiedMomentum(), 10)), gradients)
    assert np.abs(growing - moved(NGS(0.1, 0.9), gradients)).max() > 0.01


def test_at_iterate_shows_theta_and_puts_the_look_ahead_point_back():
    optimizer = NGS(0.1, 0.9)
    variable = keras.Variable(np.array([1.0], dtype="float32"))
    optimizer.apply([keras.ops.ones(1)], [variable])
    with optimizer.at_iterate():
        assert float(keras.ops.convert_to_numpy(variable)[0]) == pytest.approx(0.9)
    assert float(keras.ops.convert_to_numpy(variable)[0]) == pytest.approx(0.81)


def test_nothing_goes_wrong_inside_at_iterate(tmp_path):
    network = model(NGS(0.1, 0.9))
    fit(network, 1)
    with network.optimizer.at_iterate():
        with (
            pytest.raises(RuntimeError, match="inside at_iterate"),
            network.optimizer.at_iterate(),
        ):
            pass
        with pytest.raises(RuntimeError, match="inside at_iterate"):
            network.save(tmp_path / "model.keras")
        variables = network.trainable_variables
        with pytest.raises(RuntimeError, match="inside at_iterate"):
            network.optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    fit(network, 1)


def test_before_the_first_step_the_factor_is_1_and_the_iterate_is_the_start():
    optimizer = NGS(0.1)
    assert optimizer.factor == 1.0
    with optimizer.at_iterate():
        pass


@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}], ids=["plain", "clipped"])
def test_an_embedding_learns(options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((3,)), keras.layers.Embedding(10, 4), keras.layers.Flatten()]
    network = keras.Sequential([*layers, keras.layers.Dense(1)])
    network.compile(NGS(0.1, **options), loss="mse")
    words = RNG.integers(0, 10, size=(64, 3))
    wanted = (words == 7).sum(axis=1).astype("float32")
    losses = network.fit(words, wanted, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]


def test_excluded_variables_do_not_decay():
    optimizer = NGS(0.1, 0.9, weight_decay=0.5)
    kept, decayed = (keras.Variable(np.ones(2, "float32"), name=n) for n in ("bias", "kernel"))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([keras.ops.zeros(2), keras.ops.zeros(2)], [kept, decayed])
    assert keras.ops.convert_to_numpy(kept).tolist() == [1.0, 1.0]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(decayed), 0.95, rtol=1e-6)


def test_a_step_whose_gradient_is_not_finite_is_refused_and_counted():
    optimizer = NGS(0.1, check_finite=True)
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer.apply([keras.ops.ones(2)], [variable])
    before = keras.ops.convert_to_numpy(variable).copy()
    optimizer.apply([keras.ops.convert_to_tensor(np.array([1.0, np.nan], "float32"))], [variable])
    assert keras.ops.convert_to_numpy(variable).tolist() == before.tolist()
    assert int(optimizer.refused) == 1
    optimizer.apply([keras.ops.ones(2)], [variable])
    assert int(optimizer.clock) == 2


def test_accumulated_gradients_are_one_step():
    gradients = RNG.normal(size=(8, 2))
    parts = moved(NGS(0.1, factor=AngleRule(), gradient_accumulation_steps=2), gradients)
    means = gradients.reshape(4, 2, 2).mean(axis=1)
    np.testing.assert_allclose(parts, moved(NGS(0.1, factor=AngleRule()), means), rtol=1e-4)


def test_half_precision_weights_keep_their_type():
    optimizer = NGS(0.1, factor=AngleRule())
    variable = keras.Variable(np.ones(2), dtype="bfloat16")
    for _ in range(3):
        optimizer.apply([keras.ops.ones(2, dtype="bfloat16")], [variable])
    assert keras.backend.standardize_dtype(variable.dtype) == "bfloat16"
    assert float(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))[0]) < 1.0
    assert optimizer.factor > 0.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NGS(-0.1), "learning_rate must be finite and at least 0, got -0.1"),
        (lambda: NGS(0.1, 1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: NGS(0.1, weight_decay=-1.0), "weight_decay must be finite and at least 0"),
        (lambda: NGS(0.1, max_norm=0.0), "max_norm must be finite and above 0"),
        (lambda: NGS(0.1, factor=AdditiveRule()), "take AngleRule or MultiplicativeRule"),
        (lambda: Tabulated([]), "needs a value or more"),
        (lambda: NGS(0.1, lambda t: 0.9).get_config(), "Tabulated.of"),
        (lambda: NGS(0.1, factor=object()).get_config(), "only rules of ngs can"),
    ],
)
def test_bad_input_gets_one_line(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
