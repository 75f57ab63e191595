"""simple_convnet put together from the hand-written layers, its optimisers and its checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.nn.numpy_reference import (
    conv2d,
    dense,
    im2col,
    max_pool,
    numerical_gradient,
    relu,
    softmax_cross_entropy,
)

Parameters = dict[str, np.ndarray]  # by path, e.g. "conv1/kernel"

# Of the central differences: smaller than elsewhere, since every step of a bias moves thousands of
# values, and the larger it is, the more of them pass a kink.
H = 1e-5
ENTRIES = 50  # of each parameter that are compared with them


def apply(params: Parameters, x: np.ndarray) -> tuple[np.ndarray, Callable[..., Parameters]]:
    """The net.

    Args:
        params: kernel and bias of conv1, dense1 and logits.
        x: [N, H, W, C].

    Returns:
        Logits [N, K], and backward: dlogits -> gradients of the parameters.
    """
    maps, conv1_backward = conv2d(x, params["conv1/kernel"], params["conv1/bias"])
    positive, relu1_backward = relu(maps)
    pooled, pool1_backward = max_pool(positive)
    features = pooled.reshape(len(x), -1)
    hidden, dense1_backward = dense(features, params["dense1/kernel"], params["dense1/bias"])
    active, relu2_backward = relu(hidden)
    logits, logits_backward = dense(active, params["logits/kernel"], params["logits/bias"])

    def backward(dlogits: np.ndarray) -> Parameters:
        found: Parameters = {}
        dactive, found["logits/kernel"], found["logits/bias"] = logits_backward(dlogits)
        (dhidden,) = relu2_backward(dactive)
        dfeatures, found["dense1/kernel"], found["dense1/bias"] = dense1_backward(dhidden)
        (dpositive,) = pool1_backward(dfeatures.reshape(pooled.shape))
        (dmaps,) = relu1_backward(dpositive)
        _, found["conv1/kernel"], found["conv1/bias"] = conv1_backward(dmaps)
        return found

    return logits, backward


def loss_and_gradients(
    params: Parameters, x: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray, Parameters]:
    """Mean loss, logits, gradients."""
    logits, backward = apply(params, x)
    loss, loss_backward = softmax_cross_entropy(logits, labels)
    return loss, logits, backward(*loss_backward())


def unit(images: np.ndarray) -> np.ndarray:
    """Pixels to float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def logits_of(params: Parameters, data: cj.data.Dataset) -> np.ndarray:
    """Of all images, in parts that fit into memory."""
    starts = range(0, len(data), 500)
    return np.concatenate([apply(params, unit(data.inputs[i : i + 500]))[0] for i in starts])


class Sgd:
    """`w <- w - rate g`, in place."""

    def update(self, params: Parameters, gradients: Parameters, rate: float) -> None:
        """One step at a learning rate."""
        for path, g in gradients.items():
            params[path] -= rate * g


class Adam:
    """Adam with Keras' constants, in place (Kingma & Ba 2015, in the form at the end of sec. 2)."""

    def __init__(self) -> None:
        self.steps = 0
        self.mean: Parameters = {}
        self.square: Parameters = {}

    def update(self, params: Parameters, gradients: Parameters, rate: float) -> None:
        """One step at a learning rate."""
        self.steps += 1
        rate *= math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for path, g in gradients.items():
            self.mean[path] = 0.9 * self.mean.get(path, 0) + 0.1 * g
            self.square[path] = 0.999 * self.square.get(path, 0) + 0.001 * g * g
            params[path] -= rate * self.mean[path] / (np.sqrt(self.square[path]) + 1e-7)


class AdamW(Adam):
    """Adam beside which the kernels decay (Loshchilov & Hutter 2019), in place.

    Args:
        decay: `w <- w - rate decay w` in every step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def update(self, params: Parameters, gradients: Parameters, rate: float) -> None:
        """One step at a learning rate."""
        for path in gradients:
            if path.endswith("kernel"):
                params[path] *= 1 - rate * self.decay
        super().update(params, gradients, rate)


def make_optimizer(name: str, decay: float = 0.0) -> Sgd | Adam:
    """The optimiser of this name.

    Args:
        name: "sgd", "adamw" or "adam".
        decay: of the kernels, of "adamw".

    Raises:
        ValueError: for a decay of another optimiser.
    """
    if decay and name != "adamw":
        raise ValueError(f"weight_decay belongs to 'adamw', got optimizer={name!r}")
    if name == "adamw":
        return AdamW(decay)
    return Sgd() if name == "sgd" else Adam()


def sides(params: Parameters, x: np.ndarray) -> tuple[bytes, ...]:
    """On which side of every kink the net stands: active units, places of the maxima."""
    positive, _ = relu(conv2d(x, params["conv1/kernel"], params["conv1/bias"])[0])
    pooled, _ = max_pool(positive)
    features = pooled.reshape(len(x), -1)
    hidden, _ = dense(features, params["dense1/kernel"], params["dense1/bias"])
    maxima = im2col(positive, 2, 2).reshape(-1, 4, positive.shape[3]).argmax(axis=1)
    return (positive > 0).tobytes(), maxima.tobytes(), (hidden > 0).tobytes()


def slope(
    params: Parameters, x: np.ndarray, labels: np.ndarray, path: str, place: int
) -> float | None:
    """Of the loss along one entry, by central differences; None where a kink lies between."""

    def moved(value: np.ndarray) -> Parameters:
        values = params[path].copy()
        values.flat[place] = value.item()
        return {**params, path: values}

    here = params[path].reshape(-1)[[place]]
    if sides(moved(here + H), x) != sides(moved(here - H), x):
        return None
    return numerical_gradient(
        lambda value: softmax_cross_entropy(apply(moved(value), x)[0], labels)[0], here, H
    ).item()


def against_differences(
    params: Parameters, x: np.ndarray, labels: np.ndarray
) -> dict[str, dict[str, float]]:
    """Backpropagation against numerical differentiation at random entries of every parameter.

    Returns:
        {path: {"error": largest difference, relative to the largest gradient, "entries": number
        compared, "kinks": number left out, because the loss has no derivative there}}.
    """
    rng = np.random.default_rng(0)
    _, _, gradients = loss_and_gradients(params, x, labels)
    found = {}
    for path, gradient in gradients.items():
        chosen = rng.permutation(gradient.size)[:ENTRIES]
        slopes = {place: slope(params, x, labels, path, place) for place in chosen}
        smooth_ones = {place: value for place, value in slopes.items() if value is not None}
        expected = gradient.ravel()[list(smooth_ones)]
        found[path] = {
            "error": largest_difference(np.array(list(smooth_ones.values())), expected),
            "entries": len(smooth_ones),
            "kinks": len(slopes) - len(smooth_ones),
        }
    return found


def against_jax(
    model: cj.Model, params: Parameters, x: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Largest relative difference from the JAX model: logits, loss, every gradient, in float64."""
    loss, logits, gradients = loss_and_gradients(params, x, labels)
    functions = model.functions()

    def objective(tree: Any, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = functions.apply(tree, {}, x)
        return cj.metrics.softmax_cross_entropy(outputs, labels).mean(), outputs

    with jax.enable_x64(True):
        derive = jax.jit(jax.value_and_grad(objective, has_aux=True))
        (expected, outputs), derived = derive(trees.unflatten(params), x, labels)
    found: dict[str, Any] = {"logits": logits, "loss": loss, **gradients}
    wanted = {"logits": outputs, "loss": expected, **trees.flatten(derived)}
    return {name: largest_difference(found[name], np.asarray(wanted[name])) for name in wanted}


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """`max |found - expected| / max |expected|`."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
