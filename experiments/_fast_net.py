"""The net, the whitening and the optimiser of `cifar10_fast`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax import Array

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.nn import BatchNormalization, Conv2D, Dense, MaxPooling2D

# Of the training images, shares of 255.
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

WHITE = 2 * 2 * 2 * 3  # filters of the first layer: each direction of 2x2 patches, and its opposite

# What is added to the variances of patches, whose smallest are noise.
_LEAST = 5e-4

# Of the views: as it is and mirrored, moved up and left likewise, moved down and right likewise.
_WEIGHTS = 1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8

# Newton's iteration of Muon: three steps of a polynomial that is steep at zero.
_QUINTIC, _ITERATIONS = (3.4445, -4.7750, 2.0315), 3


def normalised(pixels: Array) -> Array:
    """Pixels less their mean, divided by their deviation."""
    mean, deviation = (jnp.array(values).reshape(1, 1, 1, 3) for values in (MEAN, DEVIATION))
    return (pixels / 255.0 - mean) / deviation


def identity_like(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """A 3x3 kernel whose first filters hand their channel on, the others being random."""
    height, width, channels, filters = shape
    bound = (height * width * channels) ** -0.5
    kernel = jax.random.uniform(key, tuple(shape), dtype, -bound, bound)
    count = min(channels, filters)
    handed = jnp.zeros((height, width, channels, count), dtype)
    handed = handed.at[height // 2, width // 2, jnp.arange(count), jnp.arange(count)].set(1.0)
    return kernel.at[..., :count].set(handed)


def unit_deviation(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Uniform, of deviation 1."""
    return jax.random.uniform(key, tuple(shape), dtype, -(3**0.5), 3**0.5)


class FastNet(linen.Module):
    """Three groups of two 3x3 convolutions behind a whitening one of 2x2, after Jordan (2024).

    In evaluation it is the mean over six views of an image: as it is, and moved by a pixel up and
    left or down and right, each also mirrored; those that are not moved count twice.

    Args:
        widths: channels of the groups.
        views: 6, or 1 for the image as it is.

    Call: [N, H, W, 3] -> logits [N, 10].
    """

    widths: tuple[int, ...]
    views: int = 6

    @linen.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits; in evaluation the mean of those of all views."""
        count = len(x)
        if not train and self.views > 1:
            x = _views(x)
        x = linen.gelu(Conv2D(WHITE, 2, name="whiten")(x), approximate=False)
        for number, width in enumerate(self.widths, start=1):
            x = MaxPooling2D(2)(self._conv(number, 1, width)(x))
            x = linen.gelu(self._norm(number, 1)(x, train=train), approximate=False)
            x = self._norm(number, 2)(self._conv(number, 2, width)(x), train=train)
            x = linen.gelu(x, approximate=False)
        x = MaxPooling2D(3)(x)
        x = x.reshape(x.shape[0], -1)
        head = Dense(10, use_bias=False, kernel_initializer=unit_deviation, name="head")
        logits = head(x) / x.shape[-1]
        if len(logits) == count:
            return logits
        weights = jnp.array(_WEIGHTS, logits.dtype).reshape(-1, 1, 1)
        return jnp.sum(weights * logits.reshape(-1, count, 10), axis=0)

    def _conv(self, group: int, number: int, width: int) -> Conv2D:
        name = f"group{group}_conv{number}"
        return Conv2D(
            width, 3, padding="same", use_bias=False, kernel_initializer=identity_like, name=name
        )

    def _norm(self, group: int, number: int) -> BatchNormalization:
        name = f"group{group}_norm{number}"
        return BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False, name=name)


def _views(x: Array) -> Array:
    """Six views of each image, one batch after the other: as it is, moved, and each mirrored."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = x.shape[1:3]
    moved = (padded[:, :height, :width], padded[:, 2:, 2:])
    return jnp.concatenate([view[:, :, ::way] for view in (x, *moved) for way in (1, -1)])


def whitened(model: cj.Model, images: np.ndarray) -> cj.Model:
    """A model of `FastNet` whose first layer whitens the 2x2 patches of images.

    With the eigenvectors v and eigenvalues l of the patches' second moments the filters are `v /
    sqrt(l + 5e-4)` and their opposites.

    Args:
        model: to begin with.
        images: uint8 [N, H, W, 3], of the training data.
    """
    x = np.asarray(normalised(jnp.asarray(images, jnp.float32)))
    corners = [x[:, a : x.shape[1] - 1 + a, b : x.shape[2] - 1 + b] for a in (0, 1) for b in (0, 1)]
    flat = [corner.reshape(-1, 3).astype(np.float64) for corner in corners]
    moments = np.block([[one.T @ other for other in flat] for one in flat]) / len(flat[0])
    values, vectors = np.linalg.eigh(moments)
    filters = (vectors / np.sqrt(values + _LEAST)).reshape(2, 2, 3, -1)
    kernel = jnp.asarray(np.concatenate([filters, -filters], axis=-1), jnp.float32)
    params = {**model.params, "whiten": {**model.params["whiten"], "kernel": kernel}}
    return model.replace(variables={**model.variables, "params": params})


def orthogonal(gradient: Array) -> Array:
    """About the nearest orthogonal matrix to one, by Newton-Schulz (Jordan et al. 2024, Muon).

    Its singular values come near 1: `X <- a X + (b A + c A A) X` with A = X X^T.

    Args:
        gradient: [m, n].
    """
    a, b, c = _QUINTIC
    x = gradient / (jnp.linalg.norm(gradient) + 1e-7)
    x = x.T if (tall := gradient.shape[0] > gradient.shape[1]) else x
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def muon(rate: optax.Schedule, momentum: float) -> optax.GradientTransformation:
    """Muon for kernels [.., C, F], each brought to the norm sqrt(F) before its step."""

    def init(params: optax.Params) -> Any:
        return optax.trace(momentum, nesterov=True).init(params), jnp.zeros((), jnp.int32)

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        trace, count = state
        traced, trace = optax.trace(momentum, nesterov=True).update(gradients, trace)

        def step(one: Array, kernel: Array) -> Array:
            filters = kernel.shape[-1]
            change = orthogonal(one.reshape(-1, filters).T).T.reshape(kernel.shape)
            scaled = kernel * (filters**0.5 / jnp.linalg.norm(kernel))
            return scaled - rate(count) * change - kernel

        return jax.tree.map(step, traced, params), (trace, count + 1)

    return optax.GradientTransformation(init, update)


def optimizer(batch_size: int) -> Callable[..., optax.GradientTransformation]:
    """Muon for the kernels, SGD with Nesterov's momentum for the rest; all rates fall to zero.

    The rates are those of Jordan for the sum of a batch's losses; the bias of the whitening layer
    is trained in the first three epochs of eight.

    Args:
        batch_size: of the training.
    """

    def made(total_steps: int) -> optax.GradientTransformation:
        def sgd(rate: float, steps: int) -> optax.GradientTransformation:
            return optax.chain(
                optax.scale(batch_size),
                optax.add_decayed_weights(2e-6 * batch_size / rate),
                optax.sgd(optax.linear_schedule(rate, 0.0, steps), 0.85, nesterov=True),
            )

        def kind(path: str, _: Any) -> str:
            layer, _, weight = path.partition("/")
            kernels = "conv" if "_conv" in layer else "head"
            return "whiten" if layer == "whiten" else kernels if weight == "kernel" else "norm"

        return optax.multi_transform(
            {
                "whiten": sgd(0.053, -(-3 * total_steps // 8)),
                "norm": sgd(0.053, total_steps),
                "head": sgd(0.67, total_steps),
                "conv": muon(optax.linear_schedule(0.24, 0.0, total_steps), 0.6),
            },
            lambda params: trees.map_flat(kind, params),
        )

    return made


def single_view(model: cj.Model) -> cj.Model:
    """The same model without views in evaluation."""
    module = model.module.clone(views=1)
    return dataclasses.replace(model, module=module)
