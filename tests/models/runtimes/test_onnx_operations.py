"""Operations of JAX as ONNX operators: onnxruntime computes what JAX computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import lax

import cnnjax as cj

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MANY: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: (x + 2) * x / 3 - x**3 + jnp.square(x) - 1 / (x + 5) + jnp.abs(-x),
    "functions": lambda x: jnp.exp(x) + jnp.log(x + 2) + jnp.sin(x) * jnp.cos(x) + jnp.exp2(x),
    "activations": lambda x: jax.nn.gelu(x) + jax.nn.gelu(x, approximate=False) + jax.nn.elu(x)
    + jax.nn.softplus(x) + jax.nn.silu(x) + jax.nn.hard_swish(x) + jax.nn.relu6(x * 9)
    + jax.nn.leaky_relu(x) + jax.nn.selu(x) + jax.nn.mish(x),
    "rounding": lambda x: jnp.floor(x * 3) + jnp.ceil(x * 5) + jnp.round(x * 7) + jnp.sign(x)
    + x % 0.3 + lax.rem(x, 0.3),
    "roots": lambda x: jnp.sqrt(x + 2) + lax.rsqrt(x + 3) + jnp.pow(x + 2, 1.5) + lax.erfc(x),
    "comparing": lambda x: jnp.where((x > 0) & (x < 0.5) | ~(x != 0.1), x, -x)
    + jnp.where(jnp.isfinite(1 / jnp.maximum(x, 0)), 1, 2) + jnp.minimum(x, 0.2)
    + jnp.clip(x, 0, 1),
    "whole numbers": lambda x: ((x * 9).astype(jnp.int32) // 2 * 3).astype(jnp.float32)
    + ((x * 9).astype(jnp.int32) & 5),
    "sums": lambda x: x.sum(1, keepdims=True) + x.mean((2, 3), keepdims=True) + x.std()
    + x.max(3, keepdims=True) + x.min(1, keepdims=True) + x.prod(2, keepdims=True),
    "places": lambda x: x.argmax(3)[..., None] + x.argmin(1)[:, None] + jnp.cumsum(x, 2),
    "softmax": lambda x: jax.nn.softmax(x) + jax.nn.log_softmax(x, 1) + jax.nn.logsumexp(x),
    "slices": lambda x: x[:, ::-1][:, :, 1:][..., ::2] + x[:, :, :-1][..., 1::2]
    + x[:, 0:1, 2:3, :2],
    "picking": lambda x: x[..., jnp.array([2, 0, 1])]
    + jnp.take(x, jnp.array([[1], [3]]), 1)[:, :1, 0, :, :3],
    "joining": lambda x: jnp.concatenate([x, jnp.stack([x[:, 0], x[:, 1]], 1)], 1)[:, 1:5]
    + jnp.split(x, 2, 3)[1][..., :1],
    "padding": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=3)
    + lax.pad(x, 0.0, ((0, 0, 0), (4, -1, 0), (-1, 2, 0), (0, 0, 0))),
    "moving": lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape[0], 4, 12) @ jnp.ones((12, 5)),
    "products": lambda x: jnp.einsum("nhwc,nhvc->nhwv", x, x)
    + jnp.einsum("nhwc,wd->nhd", x, ROW)[:, :, None, :3],
    "broadcast": lambda x: x + jnp.arange(4.0)[None, None, None]
    + jnp.broadcast_to(x[:, :1], x.shape)[:, ::-1] + jnp.tile(x[:, :1], (1, 4, 1, 1)),
}  # fmt: skip
ROW = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def conv(x: jax.Array, kernel: tuple[int, ...], **settings: Any) -> jax.Array:
    weights = np.random.default_rng(0).normal(size=kernel).astype(np.float32)
    settings = {"window_strides": (1, 1), "padding": "SAME", **settings}
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, weights, dimension_numbers=axes, **settings)


WINDOWS: dict[str, Callable[[Any], Any]] = {
    "convolutions": lambda x: conv(x, (3, 2, 4, 6), window_strides=(2, 1))
    + conv(x, (3, 3, 2, 6), feature_group_count=2, rhs_dilation=(1, 2))[:, :2]
    + conv(x, (3, 3, 1, 4), feature_group_count=4)[:, :2, :, :1],
    "negative padding": lambda x: conv(x, (2, 2, 4, 3), padding=((-1, 1), (0, 2))),
    "transposed": lambda x: conv(x, (3, 3, 4, 2), lhs_dilation=(2, 2), padding=((1, 2), (2, 3))),
    "pooling": lambda x: cj.nn.max_pool(x, 2) + cj.nn.average_pool(x, 2)
    + cj.nn.max_pool(x, 3, 2, "same") + cj.nn.average_pool(x, 3, 2, "same"),
    "wide padding": lambda x: cj.nn.max_pool(x, 2, 1, ((2, 0), (0, 2))),
    "long rows": lambda x: cj.nn.max_pool(x, (1, 3), (1, 1))
    + cj.nn.average_pool(x, (1, 3), (1, 1)),
}  # fmt: skip


class Function(linen.Module):
    """A function as a module."""

    operation: str

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        made = {**MANY, **WINDOWS}[self.operation](x)
        return made.reshape(made.shape[0], -1)[:, :8]


def exported(name: str, tmp_path: Path, shape: tuple[int, ...] = (4, 3, 4)) -> cj.models.Exported:
    model = cj.Model.from_module(Function(name), shape, preprocessing="none", task="values")
    return cj.export(model, tmp_path / "m.onnx")


@pytest.mark.parametrize("name", [*MANY, *WINDOWS])
def test_an_operation_computes_the_same(tmp_path: Path, name: str) -> None:
    assert exported(name, tmp_path).difference < 2e-6
