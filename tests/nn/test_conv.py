"""Convolution: the engines against XLA, SciPy, Keras and a sum by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax import lax
from scipy import signal

from cnnjax.core import target
from cnnjax.models import create_model
from cnnjax.nn import Conv2D, conv2d, conv_engine, depthwise_conv2d, im2col, winograd
from cnnjax.nn.conv import auto_engine, resolve_padding

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
RNG = np.random.default_rng(0)
ENGINES = ("auto", "lax", "im2col")  # those for every kernel
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="'auto' is 'lax' elsewhere")


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape, np.float32))


X, K = normal(2, 7, 8, 3), normal(3, 2, 3, 4)


def xla(x, kernel, strides, padding, dilation):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def by_hand(x, kernel, strides, pads, dilation):
    """The sum of the docstring, in float64, an output pixel at a time."""
    x = np.pad(np.float64(x), ((0, 0), *pads, (0, 0)))
    kernel = np.float64(kernel)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    rows, columns = (
        (n - e) // s + 1 for n, e, s in zip(x.shape[1:3], extent, strides, strict=True)
    )
    y = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for i, j in itertools.product(range(rows), range(columns)):
        top, left = i * strides[0], j * strides[1]
        window = x[:, top : top + extent[0] : dilation[0], left : left + extent[1] : dilation[1]]
        y[:, i, j] = np.einsum("nabc,abcf->nf", window, kernel)
    return y


def value_and_gradients(convolve, x, kernel):
    y, pullback = jax.vjp(convolve, x, kernel)
    return y, *pullback(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADS = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
CASES = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": PAIR,
        "dilation": PAIR,
        "padding": st.sampled_from(["valid", "same"]) | PADS,
        "channels": st.integers(1, 3),
        "filters": st.integers(1, 3),
    }
)


def fits(case):
    pads = case["padding"] if not isinstance(case["padding"], str) else ((0, 0), (0, 0))
    return case["padding"] == "same" or all(
        n + sum(p) >= d * (k - 1) + 1
        for n, p, d, k in zip(
            case["size"], pads, case["dilation"], case["kernel_size"], strict=True
        )
    )


@pytest.mark.thorough
@settings(SETTINGS, max_examples=25)
@given(CASES)
def test_all_engines_equal_xla_in_values_and_gradients(case):
    assume(fits(case))
    strides, padding, dilation = case["strides"], case["padding"], case["dilation"]
    x = normal(2, *case["size"], case["channels"])
    kernel = normal(*case["kernel_size"], case["channels"], case["filters"])

    @jax.jit
    def everything(x, kernel):
        oracle = functools.partial(xla, strides=strides, padding=padding, dilation=dilation)
        results = {"xla": value_and_gradients(oracle, x, kernel)}
        for engine in ENGINES:
            ours = functools.partial(
                conv2d, strides=strides, padding=padding, dilation_rate=dilation, engine=engine
            )
            results[engine] = value_and_gradients(ours, x, kernel)
            results[f"{engine} alone"] = (ours(x, kernel),)
        return results

    results = everything(x, kernel)
    for engine, found in results.items():
        for a, b in zip(found, results["xla"], strict=False):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=engine)


@pytest.mark.thorough
@settings(SETTINGS, max_examples=15)
@given(CASES, PADS | st.just(((3, 0), (2, 4))))
def test_winograd_equals_xla_in_values_and_gradients(case, pads):
    size = tuple(max(n, 3) for n in case["size"])
    x = normal(2, *size, case["channels"])
    kernel = normal(3, 3, case["channels"], case["filters"])

    @jax.jit
    def both(x, kernel):
        ours = functools.partial(conv2d, padding=pads, engine="winograd")
        oracle = functools.partial(xla, strides=(1, 1), padding=pads, dilation=(1, 1))
        return value_and_gradients(ours, x, kernel), value_and_gradients(oracle, x, kernel)

    for a, b in zip(*both(x, kernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("engine", ["winograd", "im2col"])
def test_on_a_real_layer_engines_round_no_worse_than_xla(engine):
    x, kernel = normal(2, 30, 30, 64), normal(3, 3, 64, 64)
    exact = by_hand(x, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1))

    def error(y):
        return np.abs(np.float64(y) - exact).max()

    ours = error(conv2d(x, kernel, padding="same", engine=engine))
    assert ours < 3 * error(xla(x, kernel, (1, 1), "same", (1, 1)))


@settings(SETTINGS, max_examples=40)
@given(CASES)
def test_padding_and_output_size_equal_xlas(case):
    assume(fits(case))
    size, kernel_size, dilation = case["size"], case["kernel_size"], case["dilation"]
    pads = resolve_padding(case["padding"], size, kernel_size, case["strides"], dilation)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if isinstance(case["padding"], str):
        expected = lax.padtype_to_pads(size, extent, case["strides"], case["padding"].upper())
        assert pads == tuple(map(tuple, expected))
    else:
        assert pads == case["padding"]
    x = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((*kernel_size, 3, 4), jnp.float32)
    for engine in ("lax", "im2col"):
        shape = jax.eval_shape(
            lambda x, k, e=engine: conv2d(
                x,
                k,
                strides=case["strides"],
                padding=case["padding"],
                dilation_rate=dilation,
                engine=e,
            ),
            x,
            kernel,
        ).shape
        formula = tuple(
            (n + sum(p) - e) // s + 1
            for n, p, e, s in zip(size, pads, extent, case["strides"], strict=True)
        )
        assert shape == (2, *formula, 4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("strides", "pads", "dilation"),
    [
        ((1, 1), ((0, 0), (0, 0)), (1, 1)),
        ((2, 3), ((1, 0), (2, 1)), (1, 1)),
        ((1, 1), ((0, 3), (1, 0)), (2, 3)),
        ((2, 1), ((0, 0), (1, 1)), (2, 2)),
    ],
)
def test_engines_equal_the_sum_by_hand(engine, strides, pads, dilation):
    options = {"strides": strides, "padding": pads, "dilation_rate": dilation}
    y = jax.jit(lambda x, k: conv2d(x, k, engine=engine, **options))(X, K)
    np.testing.assert_allclose(y, by_hand(X, K, strides, pads, dilation), rtol=1e-5, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", ["valid", "same"])
def test_one_channel_equals_scipys_correlation(engine, mode):
    image, kernel = normal(9, 10), normal(3, 5)
    expected = signal.correlate2d(np.float64(image), np.float64(kernel), mode=mode)
    y = conv2d(image[None, ..., None], kernel[..., None, None], padding=mode, engine=engine)
    np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "pads", "dilation", "together"),
    [
        ((5, 9), (5, 5, 1, 3), (1, 1), ((2, 2), (2, 2)), (1, 1), 4),
        ((7, 10), (3, 3, 3, 4), (2, 2), ((0, 1), (0, 1)), (1, 1), 2),
        ((6, 8), (2, 4, 2, 2), (1, 3), ((0, 0), (3, 0)), (2, 1), 8),
    ],
)
def test_folded_images_give_xlas_values_and_gradients(
    size, kernel, strides, pads, dilation, together
):
    x, kernel = normal(2, *size, kernel[2]), normal(*kernel)

    @jax.jit
    def both(x, kernel):
        ours = functools.partial(
            im2col.folded_conv, strides=strides, pads=pads, dilation=dilation, together=together
        )
        oracle = functools.partial(xla, strides=strides, padding=pads, dilation=dilation)
        return value_and_gradients(ours, x, kernel), value_and_gradients(oracle, x, kernel)

    for a, b in zip(*both(x, kernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size", "filters", "strides", "together"),
    [
        ((28, 28, 1), 5, 20, (1, 1), 4),
        ((28, 28, 1), 3, 32, (1, 1), 2),
        ((32, 32, 3), 3, 32, (1, 1), 2),
        ((224, 224, 3), 7, 64, (2, 2), 1),
        ((32, 32, 32), 3, 32, (1, 1), 1),
    ],
)
def test_only_images_of_few_channels_are_folded(shape, size, filters, strides, together):
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    kernel = jax.ShapeDtypeStruct((size, size, shape[2], filters), jnp.float32)
    pads = resolve_padding("same", shape[:2], (size, size), strides)
    assert im2col.fold_size(x, kernel, strides, pads, (1, 1)) == together


def test_same_padding_puts_the_odd_pixel_at_the_bottom_and_right():
    assert resolve_padding("same", (224, 225), (3, 3), (2, 2)) == ((0, 1), (1, 1))
    assert resolve_padding("SAME", (5, 5), (2, 4), (1, 1)) == ((0, 1), (1, 2))
    assert resolve_padding("same", (5, 5), (1, 1), (2, 2)) == ((0, 0), (0, 0))


def gradient(engine=None):
    """The gradient of a convolution, as a jitted function of inputs and kernel."""

    def loss(x, kernel):
        return jnp.sum(jnp.sin(conv2d(x, kernel, padding="same", strides=2, engine=engine)))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))


@on_cpu
def test_auto_runs_a_convolution_forward_and_none_in_its_gradient():
    assert "stablehlo.convolution" in jax.jit(conv2d).lower(X, K).as_text()
    assert "stablehlo.convolution" not in gradient().lower(X, K).as_text()
    # What is looked for would be seen: XLA's own gradient is made of convolutions.
    assert "stablehlo.convolution" in gradient("lax").lower(X, K).as_text()


@on_cpu
def test_autos_gradient_is_bitwise_that_of_im2col():
    for auto, other in zip(gradient("auto")(X, K), gradient("im2col")(X, K), strict=True):
        assert auto.tolist() == other.tolist()


@on_cpu
def test_a_training_step_of_a_whole_model_holds_no_convolution():
    model = create_model("lenet")
    step = jax.grad(
        lambda params: (
            model.functions()
            .apply_train(params, {}, jnp.ones((2, 28, 28, 1)), jax.random.key(0))[0]
            .sum()
        )
    )
    assert "stablehlo.convolution" not in jax.jit(step).lower(model.params).as_text()
    with conv_engine("lax"):
        assert "stablehlo.convolution" in jax.jit(step).lower(model.params).as_text()


def test_the_engine_is_part_of_jits_cache_key():
    traces = []

    @jax.jit
    def convolve(x, kernel):
        traces.append(None)
        return conv2d(x, kernel)

    convolve(X, K)
    convolve(X, K)
    assert len(traces) == 1
    with conv_engine("im2col"):
        assert "stablehlo.convolution" not in convolve.lower(X, K).as_text()
        convolve(X, K)
        assert len(traces) == 2
        with conv_engine("lax"):
            assert "stablehlo.convolution" in convolve.lower(X, K).as_text()
        assert len(traces) == 3
    convolve(X, K)
    assert len(traces) == 3


def test_the_engine_is_restored_after_an_error():
    with pytest.raises(KeyError, match="mine"), conv_engine("im2col"):
        raise KeyError("mine")
    assert "stablehlo.convolution" in jax.jit(conv2d).lower(X, K).as_text()


@pytest.mark.sample(1)
@pytest.mark.parametrize("engine", ENGINES)
def test_forward_mode_works_under_every_engine(engine):
    dx = normal(*X.shape)
    with conv_engine(engine):
        y, dy = jax.jvp(lambda x: conv2d(x, K), (X,), (dx,))
    np.testing.assert_allclose(y, xla(X, K, (1, 1), "valid", (1, 1)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dy, xla(dx, K, (1, 1), "valid", (1, 1)), rtol=1e-5, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("engine", ["auto", "winograd"])
def test_second_derivatives_equal_xlas(engine):
    kernel = normal(3, 3, 3, 4)

    def twice(convolve):
        inner = jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 3), argnums=(0, 1))
        outer = jax.grad(lambda x, k: sum(jnp.sum(g**2) for g in inner(x, k)), argnums=(0, 1))
        return jax.jit(outer)(X, kernel)

    expected = twice(lambda x, k: xla(x, k, (1, 1), "valid", (1, 1)))
    ours = twice(functools.partial(conv2d, engine=engine))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))


@on_cpu
def test_auto_takes_winograd_for_large_layers_in_float32():
    def traced(*shape, channels=32, size=3, dtype=jnp.float32, **options):
        x = jax.ShapeDtypeStruct((*shape, channels), dtype)
        kernel = jax.ShapeDtypeStruct((size, size, channels, 32), dtype)
        return str(jax.make_jaxpr(lambda x, k: conv2d(x, k, **options))(x, kernel))

    name = winograd.Winograd.__name__
    assert name in traced(128, 32, 32)
    assert name not in traced(1, 8, 8)
    assert name not in traced(128, 32, 32, channels=3)
    assert name not in traced(128, 32, 32, size=5)
    assert name not in traced(128, 32, 32, strides=2)
    assert name not in traced(128, 32, 32, dtype=jnp.bfloat16)


def test_kernels_may_be_mapped_over():
    kernels = normal(3, *K.shape)
    mapped = jax.jit(jax.vmap(conv2d, in_axes=(None, 0)))(X, kernels)
    for y, kernel in zip(mapped, kernels, strict=True):
        np.testing.assert_allclose(y, conv2d(X, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.sample(2)
@pytest.mark.parametrize("engine", [*ENGINES, "winograd"])
def test_bfloat16_stays_bfloat16(engine):
    kernel = normal(3, 3, 3, 4)
    half = jax.jit(lambda x, k: conv2d(x, k, engine=engine))
    y = half(X.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), conv2d(X, kernel), rtol=0.1, atol=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "fft"}, "engine must be one of auto, lax, plain, im2col, winograd, got 'fft'"),
        (
            {"engine": "winograd", "strides": 2},
            r"needs a 3x3 kernel, strides 1 and dilation_rate 1, got 3x2, \(2, 2\) and \(1, 1\)",
        ),
        ({"strides": 0}, "strides must be a whole number >= 1 or a pair of them, got 0"),
        ({"strides": (1, 2, 3)}, r"strides must be .* a pair of them, got \(1, 2, 3\)"),
        ({"dilation_rate": (1, -1)}, r"dilation_rate must be .*, got \(1, -1\)"),
        ({"strides": (1, 1.5)}, r"strides must be .*, got \(1, 1\.5\)"),
        ({"padding": ((-1, 0), (0, 0))}, r"padding must not be negative, got \(\(-1, 0\)"),
        ({"padding": "full"}, "padding must be 'valid', 'same' or pairs of numbers, got 'full'"),
        (
            {"dilation_rate": 4},
            "a window of 9x5 does not fit into an input of 7x8 with padding 'valid'.*'same'",
        ),
        (
            {"kernel": jnp.ones((3, 3, 2, 4))},
            r"got inputs \[2, 7, 8, 3\] and kernel \[3, 3, 2, 4\]",
        ),
        ({"inputs": jnp.ones((7, 8, 3))}, r"conv2d needs inputs \[N, H, W, C\].* \[7, 8, 3\]"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        conv2d(**{"inputs": X, "kernel": K, **arguments})


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["mnist_convnet", "cifar_deep"])
def test_a_model_can_be_exported_for_any_batch_size(name):
    model = create_model(name)
    (batch,) = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, *model.spec.input_shape), jnp.float32)
    apply = jax.jit(lambda x: model.functions().apply(model.params, {}, x))
    exported = jax.export.export(apply)(x)
    x = jnp.ones((3, *model.spec.input_shape))
    np.testing.assert_allclose(exported.call(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["winograd", "by differentiation", "depthwise"])
def test_shard_map_takes_every_layer(kind):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    channels = {"winograd": 32, "by differentiation": 3, "depthwise": 32}[kind]
    x, kernel = normal(128, 18, 18, channels), normal(3, 3, channels, channels)
    if kind != "depthwise":
        assert winograd.worthwhile(x, kernel, ((0, 0), (0, 0))) is (kind == "winograd")
    convolve = conv2d
    if kind == "depthwise":
        kernel, convolve = kernel[..., :1], depthwise_conv2d

    def loss(x, kernel):
        return jnp.sum(convolve(x, kernel) ** 2)

    def mapped_loss(x, kernel):
        return jax.lax.psum(loss(x, kernel), "d")

    spec = jax.sharding.PartitionSpec
    specs = (spec("d"), spec())
    mapped = jax.shard_map(
        jax.grad(mapped_loss, argnums=(0, 1)), mesh=mesh, in_specs=specs, out_specs=specs
    )
    with conv_engine("lax"):
        expected = jax.grad(loss, argnums=(0, 1))(x, kernel)
    for ours, theirs in zip(jax.jit(mapped)(x, kernel), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1)


def test_an_unknown_engine_is_named_at_once():
    with pytest.raises(ValueError, match=r"engine must be one of .*, got 'fft'"):
        conv_engine("fft").__enter__()


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": "same", "strides": 2},
        {"kernel_size": (2, 5), "padding": "same", "strides": (3, 2)},
        {"kernel_size": (3, 2), "strides": 2, "use_bias": False},
        {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
        {"kernel_size": (2, 3), "dilation_rate": (3, 2)},
    ],
    ids=str,
)
def test_the_layer_equals_keras(options):
    x = normal(2, 9, 10, 3)
    oracle = keras.layers.Conv2D(4, activation="tanh", **options)
    with jax.numpy_rank_promotion("allow"):
        oracle.build(x.shape)
        oracle.set_weights([normal(*w.shape) for w in oracle.weights])
        expected = oracle(x)
    layer = Conv2D(4, activation=jnp.tanh, **options)
    names = ("kernel", "bias")[: len(oracle.weights)]
    params = dict(zip(names, oracle.get_weights(), strict=True))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in params.items()}
    y = jax.jit(layer.apply)({"params": params}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (2, {"strides": 2, "padding": "same"}),
        (6, {}),
        (3, {"dilation_rate": 2}),
        (6, {"strides": 2}),
    ],
)
def test_groups_of_channels_equal_keras_with_their_gradients(groups, options):
    x = normal(2, 9, 10, 6)
    oracle = keras.layers.Conv2D(12, 3, groups=groups, **options)
    with jax.numpy_rank_promotion("allow"):
        oracle.build(x.shape)
        params = {v.name: normal(*v.shape) for v in oracle.weights}

        def theirs(params, x):
            return oracle.stateless_call([params["kernel"], params["bias"]], [], x)[0]

        y, pullback = jax.vjp(theirs, params, x)
        cotangent = normal(*y.shape)
        expected = pullback(cotangent)
    layer = Conv2D(12, 3, groups=groups, **options)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in params.items()}
    z, our_pullback = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)
    np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (our_pullback(cotangent), expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "filters", "groups"), [(6, 12, 4), (6, 4, 6), (6, 6, 0)])
def test_groups_that_do_not_divide_are_named(channels, filters, groups):
    with pytest.raises(ValueError, match=rf"groups must divide the 6 channels.*, got {groups}"):
        Conv2D(filters, 1, groups=groups).init(jax.random.key(0), jnp.ones((1, 3, 3, channels)))


def test_the_layer_computes_in_the_inputs_type_on_float32_parameters():
    layer = Conv2D(4, 3, activation=jax.nn.relu)
    variables = layer.init(jax.random.key(0), X.astype(jnp.bfloat16))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert layer.apply(variables, X.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_layers_activation_is_a_submodule_with_its_functions_name():
    layer = Conv2D(4, 3, activation=jax.nn.relu)
    variables = layer.init(jax.random.key(0), X)
    _, state = layer.apply(variables, X, capture_intermediates=True)
    seen = state["intermediates"]
    assert set(seen) == {"relu", "__call__"}
    assert float(seen["relu"]["__call__"][0].min()) == 0.0


@pytest.mark.parametrize(
    ("size", "kernel", "engine"),
    [((2, 2), 3, "im2col"), ((4, 4), 5, "im2col"), ((2, 8), 3, "by differentiation")],
)
def test_maps_smaller_than_the_kernel_go_by_im2col(size, kernel, engine):
    x, weights = jnp.ones((1, *size, 2)), jnp.ones((kernel, kernel, 2, 2))
    pads = resolve_padding("same", size, (kernel, kernel), (1, 1))
    with target.compiling_for("cpu"):
        assert auto_engine(x, weights, (1, 1), pads, (1, 1)) == engine
