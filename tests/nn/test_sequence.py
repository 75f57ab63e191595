"""Layers of sequences against Keras and XLA: values, gradients, initialisers."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax import lax

from cnnjax import nn
from cnnjax.nn import conv1d, conv_engine

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape, np.float32))


def cosines(shape):
    return jnp.cos(jnp.arange(np.prod(shape), dtype=jnp.float32)).reshape(shape)


def xla(x, kernel, strides, padding, dilation):
    pads = [((kernel.shape[0] - 1) * dilation, 0)] if padding == "causal" else padding.upper()
    return lax.conv_general_dilated(
        x, kernel, (strides,), pads, rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )  # fmt: skip


@pytest.mark.thorough
@settings(SETTINGS, max_examples=12)
@given(
    length=st.integers(1, 12),
    size=st.integers(1, 5),
    strides=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same", "causal"]),
    channels=st.integers(1, 4),
    filters=st.integers(1, 4),
)
def test_values_and_gradients_equal_xlas(
    length, size, strides, dilation, padding, channels, filters
):
    assume(padding != "valid" or length >= dilation * (size - 1) + 1)
    x, kernel = normal(2, length, channels), normal(size, channels, filters)

    @jax.jit
    def both(x, kernel):
        results = []
        for convolve in (
            lambda x, k: conv1d(x, k, strides=strides, padding=padding, dilation_rate=dilation),
            lambda x, k: xla(x, k, strides, padding, dilation),
        ):
            y, pullback = jax.vjp(convolve, x, kernel)
            results.append((y, *pullback(cosines(y.shape))))
        return results

    ours, theirs = both(x, kernel)
    for value, reference in zip(ours, theirs, strict=True):
        assert value.shape == reference.shape
        np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-4)


def test_causal_outputs_do_not_depend_on_later_inputs():
    x, kernel = normal(1, 9, 2), normal(3, 2, 4)

    def convolve(x):
        return conv1d(x, kernel, padding="causal", dilation_rate=2)

    with conv_engine("lax"):
        jacobian = jax.jacobian(convolve)(x)[0, :, :, 0]  # [T', F, T, C]
    reached = np.abs(jacobian).max(axis=(1, 3)) > 0
    steps, inputs = np.nonzero(reached)
    assert (inputs <= steps).all()
    assert set((steps - inputs).tolist()) == {0, 2, 4}


# Keras' own take their time, and are replaced.
ZEROS = {
    "Conv1D": {"kernel_initializer": "zeros"},
    "Embedding": {"embeddings_initializer": "zeros"},
    "GRU": {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"},
    "LSTM": {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"},
}


def keras_layer(kind, arguments, shape):
    layer = getattr(keras.layers, kind)(**arguments, **ZEROS.get(kind, {}))
    with jax.numpy_rank_promotion("allow"):
        layer.build(shape)
    return layer


def with_kerass_weights(kind, arguments, x):
    """Our layer, its variables and Keras' layer, with the same random weights."""
    functions = {k: getattr(jax.nn, f) for k, f in arguments.items() if k.endswith("activation")}
    ours = getattr(nn, kind)(**{**arguments, **functions})
    theirs = keras_layer(kind, arguments, x.shape)
    weights = [RNG.standard_normal(w.shape, np.float32) / 2 for w in theirs.trainable_variables]
    for variable, value in zip(theirs.trainable_variables, weights, strict=True):
        variable.assign(value)
    names = [variable.name for variable in theirs.trainable_variables]
    params = {name: jnp.asarray(w) for name, w in zip(names, weights, strict=True)}
    shapes = jax.eval_shape(ours.init, jax.random.key(0), x).get("params", {})
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in params.items()}
    return ours, params, theirs


def assert_equal_to_keras(kind, arguments, x):
    ours, params, theirs = with_kerass_weights(kind, arguments, x)
    fixed = [v.value for v in theirs.non_trainable_variables]
    names = list(params)  # in Keras' order, which a pytree does not keep
    floating = jnp.issubdtype(x.dtype, jnp.floating)

    def by_us(params, x):
        return ours.apply({"params": params}, x)

    def by_keras(params, x):
        return theirs.stateless_call([params[name] for name in names], fixed, x)[0]

    def value_and_gradients(function):
        y, pullback = jax.vjp(function, params, x)
        of_params, of_x = pullback(cosines(y.shape))
        return y, of_params, of_x if floating else None

    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(value_and_gradients, static_argnums=0)(by_keras)
    found = jax.jit(value_and_gradients, static_argnums=0)(by_us)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )
    assert found[0].dtype == jnp.float32


CONVOLUTIONS = [
    {"kernel_size": 7},
    {"kernel_size": 3, "padding": "same", "strides": 2},
    {"kernel_size": 3, "padding": "causal", "dilation_rate": 2, "use_bias": False},
]


@pytest.mark.sample(2)
@pytest.mark.parametrize("arguments", CONVOLUTIONS, ids=str)
def test_conv1d_equals_keras(arguments):
    assert_equal_to_keras("Conv1D", {"filters": 5, **arguments}, normal(2, 11, 3))


def test_conv1d_has_its_activation_as_a_layer_of_its_own():
    layer = nn.Conv1D(4, 3, activation=jax.nn.relu)
    y, state = jax.jit(layer.init_with_output)(jax.random.key(0), normal(1, 5, 2))
    assert y.shape == (1, 3, 4)
    assert float(y.min()) == 0
    bound = np.sqrt(6 / (3 * 2 + 3 * 4))
    assert 0.7 * bound < np.abs(state["params"]["kernel"]).max() < bound
    assert not np.any(state["params"]["bias"])


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("MaxPooling1D", {"pool_size": 5}),
        ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("MaxPooling1D", {"pool_size": 2, "strides": 3}),
        ("GlobalMaxPooling1D", {}),
        ("GlobalAveragePooling1D", {}),
    ],
    ids=str,
)
def test_pooling_equals_keras(kind, arguments):
    assert_equal_to_keras(kind, arguments, normal(2, 11, 3))


def test_slices_the_last_step_and_zeros():
    x = normal(2, 7, 3)
    np.testing.assert_array_equal(nn.Slice1D(1, 6, 2).apply({}, x), x[:, 1:6:2])
    np.testing.assert_array_equal(nn.LastStep().apply({}, x), x[:, 6])
    padded = nn.ZeroPadding1D((2, 1)).apply({}, x)
    np.testing.assert_array_equal(padded, keras.layers.ZeroPadding1D((2, 1))(x))


@pytest.mark.parametrize("given", [(-1, 3, 1), (3, 3, 1), (0, 8, 1), (0, 7, 0)])
def test_a_slice_lies_within_the_sequence(given):
    start, stop, strides = given
    with pytest.raises(
        ValueError,
        match=rf"0 <= start < stop <= 7 and strides >= 1, got start {start}, stop {stop} and "
        rf"strides {strides}",
    ):
        nn.Slice1D(*given).apply({}, normal(2, 7, 3))


def test_embedding_equals_keras():
    numbers = jnp.asarray(RNG.integers(0, 9, (3, 7)), jnp.int32)
    assert_equal_to_keras("Embedding", {"input_dim": 9, "output_dim": 4}, numbers)


def test_embedding_begins_uniform_as_keras_and_knows_no_larger_number():
    layer = nn.Embedding(1000, 16)
    numbers = jnp.array([[0, 999, 1000]])
    y, state = jax.jit(layer.init_with_output)(jax.random.key(0), numbers)
    table = np.asarray(state["params"]["embeddings"])
    assert (table.shape, table.dtype) == ((1000, 16), np.float32)
    assert -0.05 <= table.min() < -0.0499
    assert 0.0499 < table.max() < 0.05
    assert abs(table.std() - 0.1 / np.sqrt(12)) < 1e-3
    np.testing.assert_array_equal(y[0, 1], table[999])
    assert np.isnan(y[0, 2]).all()


OTHERWISE = {
    "return_sequences": True,
    "use_bias": False,
    "activation": "relu",
    "recurrent_activation": "hard_sigmoid",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("arguments", [{}, OTHERWISE], ids=["default", "otherwise"])
def test_recurrent_layers_equal_keras(kind, arguments):
    assert_equal_to_keras(kind, {"units": 6, **arguments}, normal(3, 20, 4) / 2)


def test_an_lstm_may_have_the_hard_sigmoid_of_keras_2():
    def gate(z):
        return np.clip(0.2 * z + 0.5, 0, 1)

    layer = nn.LSTM(3, recurrent_activation=lambda z: jnp.clip(0.2 * z + 0.5, 0, 1))
    x = np.asarray(normal(2, 5, 4)) * 3
    params = jax.jit(layer.init)(jax.random.key(0), x)
    kernel, recurrent, bias = (
        np.asarray(params["params"][name], np.float64)
        for name in ("kernel", "recurrent_kernel", "bias")
    )
    hidden, cell = np.zeros((2, 3)), np.zeros((2, 3))
    for step in range(5):
        i, f, c, o = np.split(x[:, step] @ kernel + hidden @ recurrent + bias, 4, axis=1)
        cell = gate(f) * cell + gate(i) * np.tanh(c)
        hidden = gate(o) * np.tanh(cell)
    np.testing.assert_allclose(jax.jit(layer.apply)(params, x), hidden, rtol=1e-5, atol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("kind", "gates"), [("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_begin_as_keras(kind, gates):
    init = jax.jit(getattr(nn, kind)(8).init)
    params = init(jax.random.key(0), jnp.zeros((1, 2, 5)))["params"]
    recurrent = np.asarray(params["recurrent_kernel"])
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(8), atol=1e-5)
    bound = np.sqrt(6 / (5 + gates * 8))
    assert 0.8 * bound < np.abs(params["kernel"]).max() < bound
    layer = keras_layer(kind, {"units": 8}, (1, 2, 5))
    np.testing.assert_array_equal(params["bias"], layer.get_weights()[2])
    assert float(np.sum(params["bias"])) == (8 if kind == "LSTM" else 0)


def test_without_the_forget_bias_an_lstm_begins_with_zeros():
    layer = nn.LSTM(3, unit_forget_bias=False)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 2, 5)))["params"]
    assert not np.any(params["bias"])


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_half_precision_stays_half(kind):
    layer, x = getattr(nn, kind)(4), jax.ShapeDtypeStruct((2, 3, 5), jnp.bfloat16)
    y, state = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert state["params"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Conv1D(4, 3), (2, 5), r"Conv1D needs inputs \[N, T, C\], got \[2, 5\]"),
        (nn.Conv1D(4, 3), (2, 2, 1), "a window of 3x1 does not fit into an input of 2x1"),
        (nn.Conv1D(4, 3, padding="full"), (2, 5, 1), "'valid', 'same' or 'causal', got 'full'"),
        (nn.Conv1D(4, 0), (2, 5, 1), "kernel_size must be a whole number >= 1"),
        (nn.Conv1D(4, 2, strides=0), (2, 5, 1), "strides must be a whole number >= 1"),
        (nn.MaxPooling1D(3), (2, 2, 1), "a window of 3x1 does not fit"),
        (nn.GlobalMaxPooling1D(), (2, 3, 4, 5), r"needs inputs \[N, T, C\], got \[2, 3, 4, 5\]"),
        (nn.LastStep(), (5, 1), r"LastStep needs inputs \[N, T, C\], got \[5, 1\]"),
        (nn.GRU(0), (2, 5, 1), "units must be at least 1, got 0"),
        (nn.LSTM(3), (5, 1), r"LSTM needs inputs \[N, T, C\], got \[5, 1\]"),
        (nn.Embedding(4, 2), (2, 5), "Embedding needs whole numbers, got float32"),
        (nn.Embedding(0, 2), None, "input_dim and output_dim must be at least 1, got 0 and 2"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(layer, shape, message):
    x = jnp.zeros((1, 2), jnp.int32) if shape is None else jnp.zeros(shape)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(layer.init, jax.random.key(0), x)


def test_a_kernel_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"conv1d needs a kernel \[k, C, F\].*kernel \[3, 4, 2\]"):
        conv1d(jnp.zeros((1, 5, 3)), jnp.zeros((3, 4, 2)))
