"""What is read of a lowered program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.core.lowered import Tensor, read

X = jnp.ones((4, 3))


def lowered(function: Any, *args: Any, platform: str = "cuda", **options: Any) -> Any:
    return read(jax.jit(function, **options).trace(*args).lower(lowering_platforms=(platform,)))


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)


@pytest.mark.parametrize(
    ("asked", "precision"),
    [("default", "DEFAULT"), ("tensorfloat32", "HIGH"), ("float32", "HIGHEST")],
)
def test_the_precision_of_products(asked: str, precision: str) -> None:
    with jax.default_matmul_precision(asked):
        product = lowered(lambda x: x @ x.T, X)
        images = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 3))
        convolution = lowered(convolved, *images)
    assert product.precisions == convolution.precisions == {precision}


def test_float64_is_seen_where_it_is_within_a_loop() -> None:
    def loop(x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, 3, lambda _, y: y + x.astype(jnp.float64).astype(jnp.float32), x)

    with jax.enable_x64(True):
        assert "f64" in lowered(loop, X).dtypes
    assert "f64" not in lowered(jnp.sin, X).dtypes


def test_callbacks_on_the_host_are_seen() -> None:
    def told(x: jax.Array) -> jax.Array:
        jax.debug.callback(print, x)
        return x

    assert any("callback" in call for call in lowered(told, X, platform="cpu").calls)
    assert not lowered(jnp.sin, X).calls


def test_of_donated_arrays_those_are_counted_whose_place_a_result_takes() -> None:
    with pytest.warns(UserWarning, match="donated buffers were not usable"):
        both = lowered(lambda x, y: (x + 1, y.sum()), X, X, donate_argnums=(0, 1))
    assert both.aliased == 1


def test_what_reads_an_array_is_found_within_loops_and_what_hands_it_on_is_left_out() -> None:
    rows = np.zeros((3, 2), np.int32)

    def scan(data: jax.Array) -> jax.Array:
        def body(total: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
            return total + data.at[index].get(mode="promise_in_bounds").sum(), None

        return lax.scan(body, jnp.float32(0), rows)[0]

    (gather,) = lowered(scan, jnp.ones((50, 7))).reading((50, 7))
    assert gather.name == "stablehlo.gather"
    assert gather.results == (Tensor((2, 7), "f32"),)


def test_tensors_of_any_rank() -> None:
    assert Tensor.of("tensor<f32>") == Tensor((), "f32")
    assert Tensor.of("tensor<2x3xui8>") == Tensor((2, 3), "ui8")
    assert Tensor.of("!stablehlo.token") is None
