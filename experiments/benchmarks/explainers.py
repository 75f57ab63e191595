"""Explanations in cnnjax and its peers: the same net, random weights, the same images."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.twins import peak_mib

SIZE = 224
LAYER = "conv_pw_13_relu"
_FILTERS_OF, _PATTERN, _STEPS = "block3_conv1", 64, 40


def measure_here(worker: str, count: int, rounds: int) -> None:
    """Explain in this process and print as JSON: per second, end of the first answer, memory.

    Args:
        worker: of `WORKERS`.
        count: of what is explained at once: images, filters.
        rounds: after the first one, which is not in the rates.
    """
    explain = WORKERS[worker](count)
    explain()
    ended = time.time()
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        explain()
        rates.append(count / (time.perf_counter() - began))
    print(json.dumps({"rates": rates, "ended": ended, "peak_mib": peak_mib()}))


def images(count: int) -> np.ndarray:
    """Random inputs, [count, 224, 224, 3]."""
    return np.random.default_rng(0).uniform(-1, 1, (count, SIZE, SIZE, 3)).astype(np.float32)


def cnnjax_grad_cam(count: int) -> Callable[[], Any]:
    """All images in one compiled program."""
    import cnnjax as cj

    cj.configure_runtime()
    net, batch = cj.create_model("mobilenet"), images(count)
    return lambda: np.asarray(cj.explain.grad_cam(net, batch, LAYER, 0))


def torch_grad_cam(count: int) -> Callable[[], Any]:
    """All images at once, with hooks."""
    net, batch = _torch_net(), _torch_images(images(count))
    return lambda: torch_heatmaps(net, LAYER, batch, 0)


def torch_grad_cam_one_by_one(count: int) -> Callable[[], Any]:
    """Image by image, with hooks."""
    net, batch = _torch_net(), _torch_images(images(count))
    return lambda: [torch_heatmaps(net, LAYER, image[None], 0) for image in batch]


def torch_heatmaps(net: Any, layer: str, batch: Any, target: int) -> np.ndarray:
    """Grad-CAM with hooks on a `TorchGraph`, whose weights need no gradient.

    A forward hook puts a leaf in place of the layer's output, so that the way back ends there.

    Args:
        net: a `TorchGraph`.
        layer: name of the layer.
        batch: [N, C, H, W].
        target: class number.

    Returns:
        [N, H, W] in [0, 1].
    """
    import torch
    from torch.nn import functional as F

    saved = []

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        saved.append(output.detach().requires_grad_())
        return saved[0]

    place = [call.name for call in net.calls].index(layer)
    handle = net.layers[place].register_forward_hook(hook)
    try:
        logits = net(batch)
    finally:
        handle.remove()
    (maps,) = saved
    (gradients,) = torch.autograd.grad(logits[:, target].sum(), maps)
    with torch.no_grad():
        heat = F.relu((maps * gradients.mean((2, 3), keepdim=True)).sum(1, keepdim=True))
        top = heat.amax((2, 3), keepdim=True)
        heat = heat / torch.where(top > 0, top, torch.ones_like(top))
        heat = F.interpolate(heat, batch.shape[2:], mode="bilinear", align_corners=False)
    return np.asarray(heat[:, 0].numpy())


def _torch_net() -> Any:
    from cnnjax.models import Model
    from cnnjax.models.builder import build
    from experiments.benchmarks.torch_graph import TorchGraph

    return TorchGraph(Model.abstract(*build("mobilenet"))).eval().requires_grad_(False)


def _torch_images(batch: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


def cnnjax_filters(count: int) -> Callable[[], Any]:
    """Patterns of all filters as one batch."""
    import cnnjax as cj

    cj.configure_runtime()
    net = cj.create_model("vgg19", include_top=False, input_shape=(_PATTERN, _PATTERN, 3))
    # Some filters of random weights are dead, which is worth a warning, but no less work.
    find = cj.explain.filters.find_patterns
    return lambda: find(net, _FILTERS_OF, range(count), _PATTERN, _STEPS).images


def keras_filters(count: int) -> Callable[[], Any]:
    """Patterns filter by filter; the step is compiled once, the filter's number its argument."""
    import jax

    step = jax.jit(_keras_step())
    return lambda: [_keras_pattern(step, number) for number in range(count)]


def keras_filters_compiled_each(count: int) -> Callable[[], Any]:
    """Patterns filter by filter, with a step of its own for each, as the book's loop has it."""
    import jax

    step = _keras_step()
    return lambda: [
        _keras_pattern(jax.jit(lambda x, _, n=number: step(x, n)), number)
        for number in range(count)
    ]


def _keras_step() -> Callable[[Any, Any], Any]:
    """(input, number of the filter) -> input, a step of gradient ascent on."""
    import jax
    import jax.numpy as jnp
    import keras

    size = (_PATTERN, _PATTERN, 3)
    net = keras.applications.VGG19(weights=None, include_top=False, input_shape=size)
    part = keras.Model(net.inputs, net.get_layer(_FILTERS_OF).output)
    weights = [v.value for v in part.trainable_variables]

    def step(x: Any, number: Any) -> Any:
        def loss(x: Any) -> Any:
            return jnp.mean(part.stateless_call(weights, [], x)[0][..., number])

        gradient = jax.grad(loss)(x)
        return x + gradient / (jnp.sqrt(jnp.mean(gradient**2)) + 1e-5)

    return step


def _keras_pattern(step: Callable[[Any, Any], Any], number: int) -> np.ndarray:
    size = (1, _PATTERN, _PATTERN, 3)
    x: Any = np.random.default_rng(number).uniform(size=size).astype(np.float32) * 20 + 128
    for _ in range(_STEPS):
        x = step(x, number)
    x = np.asarray(x[0])
    return np.clip((x - x.mean()) / (x.std() + 1e-5) * 0.1 + 0.5, 0, 1)


WORKERS: dict[str, Callable[[int], Callable[[], Any]]] = {
    "filters, cnnjax": cnnjax_filters,
    "filters, keras one by one": keras_filters,
    "filters, keras compiled each": keras_filters_compiled_each,
    "grad_cam, cnnjax": cnnjax_grad_cam,
    "grad_cam, torch": torch_grad_cam,
    "grad_cam, torch tuned allocator": torch_grad_cam,
    "grad_cam, torch one by one": torch_grad_cam_one_by_one,
}
