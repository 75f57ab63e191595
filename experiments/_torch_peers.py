"""A model of torchvision or timm beside ours, with the same weights, through their file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models.graph import trace
from cnnjax.models.pretrained.matching import Target
from cnnjax.models.pretrained.torch_layers import SCALES, as_ours, module_arguments
from cnnjax.models.torch_names import TorchNames
from cnnjax.weights.torch_state import torch_weights
from experiments.parity import DEEP, Line, difference, gradient_differences

# Arguments of ours by which nothing is random in training.
_RANDOM = ("dropout", "stochastic_depth")

# Their modules whose outputs have the channels last.
_CHANNELS_LAST = ("Linear", "LayerNorm")

# More than this many images would only take longer.
_BATCH = 2


@dataclass(frozen=True)
class Twins:
    """Their net and ours, with the table that names its layers."""

    theirs: Any
    ours: cj.Model
    table: TorchNames


def table_of(name: str, source: str) -> TorchNames | None:
    """The table of a model for a library; None where it has none."""
    tables = cj.models.BUILDERS[name].foreign
    return next((table for table in tables if table.source == source), None)


def twins(name: str, source: str, size: tuple[int, int], ending: str, seed: int = 0) -> Twins:
    """Their model with random weights and statistics, and ours from the file that they save.

    Args:
        name: of the model here.
        source: "torchvision" or "timm".
        size: (H, W) of the inputs.
        ending: of the file: "pth" or "safetensors".
        seed: of weights and statistics.
    """
    import torch

    table = table_of(name, source)
    assert table is not None
    torch.manual_seed(seed)
    theirs = built(table.model or name, source).eval()
    _randomise(theirs, seed)
    builder = cj.models.BUILDERS[name]
    quiet: dict[str, Any] = {argument: 0.0 for argument in _RANDOM if argument in builder.arguments}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.{ending}"
        if ending == "pth":
            torch.save(theirs.state_dict(), path)
        else:
            from safetensors.torch import save_model

            save_model(theirs, str(path))
        ours = cj.create_model(name, weights=path, input_shape=(*size, 3), **quiet)
    return Twins(theirs, ours, table)


def built(model: str, source: str) -> Any:
    """A net of torchvision or timm by its name there."""
    if source == "timm":
        import timm

        return timm.create_model(model, pretrained=False)
    import torchvision

    # Its own initialisation takes a minute, and is replaced.
    quick = {"init_weights": False} if model in ("inception_v3", "googlenet") else {}
    return torchvision.models.get_model(model, weights=None, **quick)


def _randomise(net: Any, seed: int) -> None:
    """Give every weight that starts as zeros or ones random values, so that none can hide."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    # As beside Keras: factors near 1 let the values of many branches grow without bounds.
    gain = 0.5 if sum(name.endswith("running_var") for name, _ in net.named_buffers()) > DEEP else 1
    with torch.no_grad():
        for name, array in [*net.named_parameters(), *net.named_buffers()]:
            last = name.rpartition(".")[2]
            if not array.dtype.is_floating_point:
                continue
            if last in ("bias", "running_mean"):
                array.normal_(0, 0.1, generator=generator)
            elif last == "running_var" or array.numel() == max(array.shape, default=1):
                array.uniform_(0.5, 1.5, generator=generator)
                array.mul_(gain if last == "weight" else 1)


def compare(pair: Twins, seed: int = 0) -> list[Line]:
    """The outputs of every layer that has a name in both, in our order.

    Raises:
        ValueError: if a layer of ours with weights has no name there.
    """
    import torch

    x = _images(pair.ours, 1, seed)
    names = _layers(pair)
    with _listening(pair.theirs, names) as heard, torch.no_grad():
        pair.theirs(_as_theirs(x))
    with jax.default_matmul_precision("highest"):
        ours = cj.explain.activations(pair.ours, jnp.asarray(x))
    calls = {call.name: call.module for call in trace(pair.ours)}
    lines = []
    for layer, output in heard.items():
        activation = getattr(calls[layer], "activation", None)
        theirs = output if activation is None else np.asarray(activation(jnp.asarray(output)))
        mine = np.asarray(ours[layer])
        lines.append(difference(layer, mine, theirs.reshape(mine.shape)))
    shapes = Target.of(pair.ours).shapes
    missing = {layer for layer in shapes if set(shapes[layer]) - set(SCALES)} - set(heard)
    if missing:
        raise ValueError(f"{pair.table.source} has no output for {', '.join(sorted(missing))}")
    order = list(pair.ours.layer_names)
    return sorted(lines, key=lambda line: order.index(line.layer))


def _layers(pair: Twins) -> dict[str, str]:
    """{their module: our layer}; of two modules that make one layer the last."""
    arguments = module_arguments(pair.ours.module)
    modules: dict[str, None] = {}
    for key in pair.theirs.state_dict():
        module, _, weight = key.rpartition(".")
        if weight not in SCALES:  # which are no module there: the next layer shows them
            modules[module] = None
    known = Target.of(pair.ours).shapes
    named = pair.table.ours(modules, arguments)
    last: dict[str, str] = {}
    for theirs, ours in named.items():
        last[ours if ours in known else ours.rpartition("/")[0]] = theirs
    return {theirs: ours for ours, theirs in last.items() if ours in known}


class _listening:
    """Their modules' outputs by our names, as long as it is open."""

    def __init__(self, net: Any, names: dict[str, str]):
        self.net, self.names = net, names
        self.heard: dict[str, np.ndarray] = {}
        self.hooks: list[Any] = []

    def __enter__(self) -> dict[str, np.ndarray]:
        for name, module in self.net.named_modules():
            if name in self.names:
                # timm's normalisations have the activation inside.
                act = getattr(module, "act", None)
                hook = self._note(self.names[name], type(module).__name__ in _CHANNELS_LAST)
                if act is not None and hasattr(module, "running_mean"):
                    self.hooks.append(act.register_forward_pre_hook(lambda _, x, h=hook: h(x[0])))
                else:
                    self.hooks.append(module.register_forward_hook(lambda _, __, y, h=hook: h(y)))
        return self.heard

    def _note(self, name: str, last: bool) -> Callable[[Any], None]:
        def note(output: Any) -> None:
            array = output.detach().clone().numpy()
            self.heard[name] = array if last or array.ndim != 4 else array.transpose(0, 2, 3, 1)

        return note

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()


def compare_training(pair: Twins, seed: int = 0) -> dict[str, Line]:
    """A step in training mode in float64: outputs, statistics and the gradients of all weights.

    PyTorch keeps the unbiased variance, which is n / (n - 1) times Keras' and ours: it is compared
    after that factor is taken off.

    Returns:
        the largest difference of each kind that the model has.
    """
    with jax.enable_x64(True):
        x = _images(pair.ours, _BATCH, seed).astype(np.float64)
        output, statistics, gradients = _our_step(pair.ours, x, seed)
        theirs = _their_step(pair, x, seed)
        kinds = {
            "output": [difference("output", output, theirs["output"])],
            "statistics": [difference(k, statistics[k], v) for k, v in theirs["state"].items()],
            "gradients": gradient_differences(gradients, theirs["gradients"]),
        }
    return {k: max(v, key=lambda line: line.relative) for k, v in kinds.items() if v}


def _our_step(model: cj.Model, x: np.ndarray, seed: int) -> tuple[Any, Any, Any]:
    functions = model.functions()
    params, state = (
        jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), tree)
        for tree in (model.params, model.state)
    )

    def loss(params: Any) -> tuple[jax.Array, Any]:
        y, updated = functions.apply_train(params, state, jnp.asarray(x), jax.random.key(seed))
        return jnp.mean(y * _weights(y.shape, seed)), (y, updated)

    with jax.default_matmul_precision("highest"):
        gradients, (y, updated) = jax.jit(jax.grad(loss, has_aux=True))(params)
    return y, trees.flatten(updated.get("batch_stats", {})), trees.flatten(gradients)


def _their_step(pair: Twins, x: np.ndarray, seed: int) -> dict[str, Any]:
    """Their output, and by our paths and in our layouts their statistics and gradients."""
    import torch

    net = pair.theirs.double().train()
    counts: dict[str, float] = {}
    before = {k: v.clone() for k, v in net.named_buffers() if k.endswith("running_var")}
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Dropout) or hasattr(module, "drop_prob"):
            module.p = module.drop_prob = 0.0
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
        if hasattr(module, "running_var"):
            module.register_forward_pre_hook(
                lambda _, x, n=name: counts.update({n: x[0].numel() / x[0].shape[1]})
            )
    y = net(_as_theirs(x))
    y = getattr(y, "logits", y)  # Inception's comes with that of another head
    (y * torch.from_numpy(_weights(tuple(y.shape), seed))).mean().backward()
    state = {}
    for name, buffer in net.named_buffers():
        module, _, kind = name.rpartition(".")
        if kind == "running_var":
            momentum, n = net.get_submodule(module).momentum, counts.get(module, 0)
            if n > 1:
                batch = (buffer - (1 - momentum) * before[name]) / momentum * (n - 1) / n
                state[name] = ((1 - momentum) * before[name] + momentum * batch).numpy()
        elif kind == "running_mean" and module in counts:
            state[name] = buffer.numpy()
    gradients = {k: p.grad.numpy() for k, p in net.named_parameters() if p.grad is not None}
    y = y.detach().numpy()
    return {"output": y, "state": _ours(pair, state), "gradients": _ours(pair, gradients)}


def _ours(pair: Twins, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of theirs by our paths, in our layouts; in single precision, as files are read."""
    kept = {k: v for k, v in arrays.items() if not pair.table.is_unused(k)}
    if not kept:
        return {}
    stored = torch_weights(Path("step"), kept)
    target = Target.of(pair.ours)
    ours = as_ours(stored, pair.table, target, module_arguments(pair.ours.module))
    return {
        f"{layer.name}/{weight}": array
        for layer in ours.layers
        for weight, array in layer.arrays.items()
    }


def _images(model: cj.Model, batch: int, seed: int) -> np.ndarray:
    shape = (batch, *model.spec.input_shape)
    return np.random.default_rng(seed + 1).uniform(-1, 1, shape).astype(np.float32)


def _as_theirs(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Of the loss, a random weighted sum."""
    return np.random.default_rng(seed + 2).normal(size=shape)
