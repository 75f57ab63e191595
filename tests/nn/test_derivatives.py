"""Every layer's derivatives: forward, backward, one over the other, mapped, and exported.

In float64, against XLA's own convolution and pooling and against finite differences. The layers are
found by the public names of cnnjax.nn, so that a new one is tested by itself.
"""

import dataclasses
import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.flatten_util import ravel_pytree

from cnnjax import nn
from cnnjax.nn import average_pool, conv2d, conv_engine, depthwise_conv2d, max_pool

PUBLIC = {name: getattr(nn, name) for name in nn.__all__}
LAYERS = [k for k, v in PUBLIC.items() if isinstance(v, type) and issubclass(v, linen.Module)]
# Of arguments without a default, by name.
ARGUMENTS = {
    "filters": 3,
    "kernel_size": 3,
    "units": 3,
    "rate": 0.25,
    "function": jnp.tanh,
    "target_shape": (-1, 2),
    "input_dim": 3,
    "output_dim": 2,
    "output_size": (3, 2),
    "start": 1,
    "stop": 5,
    "strides": 2,
    "cropping": ((1, 0), (0, 2)),
}
PADDINGS = {"ZeroPadding1D": (1, 2), "ZeroPadding2D": ((1, 2), (0, 1))}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def values(seed, shape):
    """Numbers without ties, between -1 and 1."""
    numbers = np.random.default_rng(seed).permutation(np.arange(np.prod(shape, dtype=int)))
    return jnp.asarray(2 * numbers.reshape(shape) / numbers.size - 0.99)


INPUTS = {
    "images": lambda: values(0, (2, 4, 5, 2)),
    "sequences": lambda: values(0, (2, 6, 2)),
    "token ids": lambda: jnp.array([[0, 2, 1], [2, 2, 0]]),
    "several": lambda: [values(0, (2, 3)), values(1, (2, 3))],
}


def layer_of(name):
    layer = getattr(nn, name)
    fields = [f for f in dataclasses.fields(layer) if f.init and f.name not in ("parent", "name")]
    needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    given = {**ARGUMENTS, "padding": PADDINGS.get(name)}
    return layer(**{field: given[field] for field in needed})


@functools.cache
def case(name):
    """(flat parameters and inputs) -> outputs of one layer in training, and where to take it."""
    layer = layer_of(name)
    takes = type(layer).__call__.__annotations__
    several = "Sequence" in str(takes["inputs"])
    for kind in ["several"] if several else INPUTS:
        try:
            inputs, keys = INPUTS[kind](), {"params": jax.random.key(0)}
            variables = dict(layer.init(keys, inputs))
            break
        except ValueError:
            continue
    else:
        raise AssertionError(f"no inputs of these tests fit {name}: add some to INPUTS")
    options = {"train": True} if "train" in takes else {}
    params = jax.tree.map(lambda p: values(2, p.shape), variables.pop("params", {}))
    whole = jnp.issubdtype(jax.tree.leaves(inputs)[0].dtype, jnp.integer)
    flat, unflatten = ravel_pytree(params if whole else (params, inputs))

    def outputs(flat):
        tree = unflatten(flat)
        weights, x = (tree, inputs) if whole else tree
        results, _ = layer.apply(
            {"params": weights, **variables},
            x,
            **options,
            mutable=list(variables),
            rngs={"dropout": jax.random.key(3)},
        )
        return results

    return outputs, flat


def loss_of(outputs):
    """A sum of sines, so that no derivative of it vanishes."""

    def loss(flat):
        y = outputs(flat)
        return jnp.sum(jnp.sin(y + values(4, y.shape)))

    return loss


def along(function, x, direction, step=1e-5):
    """The directional derivative by central differences."""
    ahead, behind = function(x + step * direction), function(x - step * direction)
    return (ahead - behind) / (2 * step)


def close(ours, expected, tolerance=1e-7):
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


def check_first(outputs, x):
    direction = values(5, x.shape)

    @jax.jit
    def derivatives(x):
        y, tangent = jax.jvp(outputs, (x,), (direction,))
        again, linear = jax.linearize(outputs, x)
        back, pullback = jax.vjp(outputs, x)
        cotangent = values(6, y.shape)
        return (y, again, back), (tangent, linear(direction)), cotangent, pullback(cotangent)[0]

    ys, tangents, cotangent, gradient = derivatives(x)
    numbers = along(jax.jit(outputs), x, direction)
    for y, tangent in zip(ys, (*tangents, tangents[0]), strict=True):
        close(y, outputs(x))
        close(tangent, numbers)
    close(jnp.vdot(gradient, direction), jnp.vdot(cotangent, tangents[0]))
    with conv_engine("lax"):
        _, theirs, _, their_gradient = derivatives(x)
    close(tangents[0], theirs[0], 1e-12)
    close(gradient, their_gradient, 1e-12)


def check_second(outputs, x):
    loss, direction = loss_of(outputs), values(5, x.shape)

    @jax.jit
    def derivatives(x):
        backward = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), direction))(x)
        return jax.hessian(loss)(x), backward

    matrix, backward = derivatives(x)
    close(matrix, matrix.T, 1e-12)
    close(matrix @ direction, backward, 1e-12)
    close(backward, along(jax.jit(jax.grad(loss)), x, direction))
    with conv_engine("lax"):
        close(matrix, derivatives(x)[0], 1e-11)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_forward_and_backward_derivatives(name):
    check_first(*case(name))


@pytest.mark.thorough
@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_hessian(name):
    check_second(*case(name))


IMAGES, FEW = (2, 5, 6, 2), (1, 4, 4, 2)
OPERATIONS = {
    "auto": (conv2d, FEW, (3, 3, 2, 2), {"strides": (2, 1), "padding": "same"}),
    "few taps": (conv2d, (1, 4, 4, 1), (2, 2, 1, 2), {"dilation_rate": (1, 2)}),
    "winograd": (conv2d, FEW, (3, 3, 2, 2), {"engine": "winograd", "padding": ((3, 0), (0, 1))}),
    "depthwise": (depthwise_conv2d, FEW, (3, 2, 2, 1), {"padding": "same"}),
    "depthwise apart": (
        depthwise_conv2d,
        IMAGES,
        (2, 3, 2, 2),
        {"strides": (2, 1), "padding": ((1, 0), (0, 2)), "dilation_rate": (1, 2)},
    ),
    "conv1d": (nn.conv1d, (2, 6, 2), (3, 2, 2), {"padding": "causal"}),
    "max": (max_pool, FEW, None, {"pool_size": 3, "strides": 2, "padding": "same"}),
    "max of many channels": (max_pool, (1, 4, 2, 16), None, {}),
    "max of large windows": (max_pool, (1, 9, 10, 1), None, {"pool_size": 9, "strides": 1}),
    "average": (average_pool, FEW, None, {"pool_size": 3, "strides": 2, "padding": "same"}),
}


def operation(name):
    function, x_shape, kernel_shape, options = OPERATIONS[name]
    arrays = [values(i, shape) for i, shape in enumerate((x_shape, kernel_shape)) if shape]
    flat, unflatten = ravel_pytree(arrays)
    return lambda flat: function(*unflatten(flat), **options), flat


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operations_forward_and_backward_derivatives(name):
    check_first(*operation(name))


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operations_hessian(name):
    check_second(*operation(name))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["depthwise", "max", "auto", "winograd", *LAYERS])
def test_mapped_checkpointed_and_exported_gradients(name):
    outputs, x = operation(name) if name in OPERATIONS else case(name)
    loss = loss_of(outputs)
    gradient = jax.jit(jax.grad(loss))
    expected = gradient(x)

    several = jnp.stack([x, x + 0.01, x[::-1]])
    mapped = jax.jit(jax.vmap(jax.grad(loss)))(several)
    for ours, alone in zip(mapped, several, strict=True):
        close(ours, gradient(alone), 1e-12)

    again = jax.jit(jax.grad(jax.checkpoint(loss)))(x)
    assert again.tolist() == expected.tolist()

    exported = jax.export.export(jax.jit(loss))(jax.ShapeDtypeStruct(x.shape, x.dtype))
    close(exported.call(x), loss(x), 1e-12)
    close(jax.grad(exported.call)(x), expected, 1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["depthwise", "winograd"])
def test_inputs_and_kernels_mapped_over_axes_of_their_own(name):
    """The gradient of what is not mapped over is a sum."""
    function, x_shape, kernel_shape, options = OPERATIONS[name]
    x, kernels = values(0, (2, *x_shape)), values(1, (3, *kernel_shape))

    def loss(x, kernel):
        return jnp.sum(jnp.sin(function(x, kernel, **options)))

    @jax.jit
    def everything(x, kernels):
        by_kernel = jax.vmap(loss, in_axes=(None, 0))
        every = jax.vmap(by_kernel, in_axes=(0, None))
        of_pair = jax.grad(loss, argnums=(0, 1))
        alone = [[of_pair(a, b) for b in kernels] for a in x]
        return jax.grad(lambda *a: jnp.sum(every(*a)), argnums=(0, 1))(x, kernels), alone

    (by_x, by_kernels), alone = everything(x, kernels)
    for i in range(len(x)):
        close(by_x[i], sum(dx for dx, _ in alone[i]), 1e-12)
    for j in range(len(kernels)):
        close(by_kernels[j], sum(row[j][1] for row in alone), 1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["depthwise", "winograd"])
def test_third_derivatives(name):
    outputs, x = operation(name)
    loss, (first, second, third) = loss_of(outputs), (values(i, x.shape) for i in range(3))

    @jax.jit
    def twice(x):
        return jax.jvp(lambda x: jax.jvp(loss, (x,), (first,))[1], (x,), (second,))[1]

    close(jnp.vdot(jax.jit(jax.grad(twice))(x), third), along(twice, x, third))
