"""A model in bfloat16: what is rounded, and what keeps its digits."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.models.half import in_bfloat16
from cnnjax.nn import BatchNormalization, Conv2D, Dense

BARE, FINE = 1.3, 1.3006  # bfloat16 makes the same of both
INPUTS = np.random.default_rng(0).uniform(size=(4, 6, 5, 1)).astype(np.float32)


class Net(linen.Module):
    """A layer of each kind, and a head with a switch."""

    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = Conv2D(9, 2, name="conv")(x)
        x = BatchNormalization(name="norm")(x, train)
        return Dense(4, name="logits")(x.mean((1, 2)))


def model(head: tuple[str, ...] = ("logits",)) -> cj.Model:
    made = cj.Model.from_module(Net(), INPUTS.shape[1:], preprocessing="none")
    return made.replace(spec=dataclasses.replace(made.spec, head=head))


def outputs(net: cj.Model, variables: Any = None, *, train: bool = False) -> jax.Array:
    variables = variables or net.variables
    functions = in_bfloat16(net)
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    if train:
        return functions.apply_train(params, state, INPUTS, jax.random.key(0))[0]
    return functions.apply(params, state, INPUTS)


def with_all(net: cj.Model, layer: str, weight: str, value: float) -> Any:
    """The variables, with all of one weight of a value."""
    leaf = jnp.full_like(net.params[layer][weight], value)
    changed = {**net.params[layer], weight: leaf}
    return {**net.variables, "params": {**net.params, layer: changed}}


@pytest.mark.parametrize(
    ("layer", "weight"),
    [("norm", "gamma"), ("norm", "beta"), ("logits", "kernel"), ("logits", "bias")],
)
@pytest.mark.parametrize("train", [False, True])
def test_the_last_digits_of_one_axis_and_of_the_head_count(
    layer: str, weight: str, train: bool
) -> None:
    net = model()
    one, more = (with_all(net, layer, weight, value) for value in (BARE, FINE))
    assert (outputs(net, one, train=train) != outputs(net, more, train=train)).any()


def test_those_of_kernels_are_rounded_away() -> None:
    net = model()
    kernel = net.params["conv"]["kernel"]
    rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
    params = {**net.params, "conv": {**net.params["conv"], "kernel": rounded}}
    assert (rounded != kernel).any()
    np.testing.assert_array_equal(outputs(net), outputs(net, {**net.variables, "params": params}))


def test_logits_are_not_rounded_where_the_head_is_known() -> None:
    def digits(net: cj.Model) -> bool:
        found = outputs(net)
        return bool((found != found.astype(jnp.bfloat16).astype(jnp.float32)).any())

    assert digits(model())
    assert not digits(model(head=()))


def test_a_foreign_layer_sees_bfloat16_alone() -> None:
    seen = []

    class Foreign(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            y = linen.Dense(3, name="foreign")(x.reshape(len(x), -1))
            seen.append(y.dtype)
            return y

    net = cj.Model.from_module(Foreign(), INPUTS.shape[1:], preprocessing="none")
    seen.clear()
    assert outputs(net).dtype == jnp.float32
    assert seen[-1] == jnp.bfloat16


def test_values_stay_near_those_of_float32() -> None:
    net = model()
    exact = net(INPUTS)
    np.testing.assert_allclose(outputs(net), exact, atol=0.02)
    assert (outputs(net) != exact).any()
