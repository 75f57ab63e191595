"""Are the backbones equal to Keras' own? Layer by layer, from one weight file, with no download.

Keras builds its model on its JAX backend; its weights and batch-norm statistics are randomised and
saved to a file, which cnnjax loads. The same random image then goes through both, in float32 at
the highest precision, and the outputs of every layer are compared. The relative difference is the
largest absolute one over the largest value of the layer.

Command:   python -m experiments.parity [--model resnet50], with Keras: pip install -e ".[test]"

Reported:  equal to rounding, within 1e-4.

Ours:      at the default sizes 3e-7 (MobileNet) to 2e-6 (VGG16); a minute or two a family.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import cnnjax as cj
from cnnjax.cli import command

FAMILIES = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "inception_v3": "InceptionV3",
    "xception": "Xception",
    "mobilenet": "MobileNet",
}
FORMATS = ("weights.h5", "h5", "keras")


@dataclass(frozen=True)
class Config:
    """Options of the report."""

    model: Literal["vgg16", "vgg19", "resnet50", "inception_v3", "xception", "mobilenet"] | None = (
        None
    )
    """Which family; None reports all."""
    size: tuple[int, int] | None = None
    """Height and width of the image; None takes the model's default."""
    include_top: bool = True
    """With the head; its logits are compared, Keras' softmax is left out."""
    alpha: float = 1.0
    """Width of mobilenet."""
    format: Literal["weights.h5", "h5", "keras"] = "weights.h5"
    """Of the file through which the weights go."""
    tolerance: float = 1e-4
    """Largest relative difference."""
    seed: int = 0
    """Of weights and image."""
    every_layer: bool = True
    """Print a line per layer, else only the worst."""


@dataclass(frozen=True)
class Line:
    """One layer: the largest difference, absolute and relative to the layer's largest value."""

    layer: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


@dataclass(frozen=True)
class Pair:
    """A model of Keras and ours with the same weights."""

    keras: Any
    ours: cj.Model
    arguments: dict[str, Any] = field(default_factory=dict)


def main(config: Config) -> None:
    """Report the families; exit status 1 if a layer differs by more than the tolerance."""
    failed = False
    for name in [config.model] if config.model else FAMILIES:
        arguments: dict[str, Any] = {"include_top": config.include_top}
        if name == "mobilenet":
            arguments["alpha"] = config.alpha
        pair = twins(name, config.size, config.format, config.seed, **arguments)
        lines = compare(pair, config.seed)
        _print(pair, lines, config)
        # Written so that NaN fails.
        failed |= not all(line.relative <= config.tolerance for line in lines)
    if failed:
        raise SystemExit(1)


def twins(
    name: str,
    size: tuple[int, int] | None = None,
    file_format: str = "weights.h5",
    seed: int = 0,
    **arguments: Any,
) -> Pair:
    """Keras' model with random weights and statistics, and ours from the file that it saves.

    Args:
        name: of the family.
        size: (H, W) of the inputs; None takes the default.
        file_format: one of `FORMATS`.
        seed: of weights and statistics.
        arguments: `include_top`, `pooling`, `alpha`, as in `cj.create_model`.
    """
    keras = _keras()
    keras.utils.clear_session()  # automatic names count from the start again
    keras.utils.set_random_seed(seed)
    build = getattr(keras.applications, FAMILIES[name])
    shape = (*size, 3) if size else cj.models.BUILDERS[name].input_shape
    model = build(weights=None, classifier_activation=None, input_shape=shape, **arguments)
    randomise(model, seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.{file_format}"
        save_weights(model, path)
        ours = cj.create_model(name, input_shape=shape, weights=path, **arguments)
    return Pair(model, ours, arguments)


def save_weights(model: Any, path: Path) -> None:
    """Let Keras write a .weights.h5, .keras or legacy .h5 file."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        import h5py
        from keras.src.legacy.saving import legacy_h5_format

        # As old versions of Keras wrote them; the new one refuses to, but has the function.
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)


def randomise(model: Any, seed: int) -> None:
    """Give every weight that starts as zeros or ones random values, so that none can hide."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.name
        if name in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, shape))
        elif name in ("beta", "bias", "moving_mean"):
            variable.assign(generator.normal(0, 0.1, shape))


def compare(pair: Pair, seed: int = 0, batch: int = 1) -> list[Line]:
    """The outputs of every layer, in Keras' order of the layers.

    Raises:
        ValueError: if the layers of the two models are not the same by name and order.
    """
    names = [layer.name for layer in pair.keras.layers]
    if list(pair.ours.layer_names) != names:
        raise ValueError(f"{pair.ours.spec.name} has other layers than Keras': {names}")
    x = images(pair.ours, batch, seed)
    keras = _keras()
    every = keras.Model(pair.keras.inputs, [layer.output for layer in pair.keras.layers])
    # Keras adds biases of another rank, which a strict setting of JAX would refuse.
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        theirs = every.stateless_call(*_state(every), x, training=False)[0]
        ours = cj.explain.activations(pair.ours, x)
    return [
        difference(name, ours[name], reference)
        for name, reference in zip(names, theirs, strict=True)
    ]


@dataclass(frozen=True)
class Training:
    """Differences in training mode."""

    outputs: list[Line]
    statistics: list[Line]
    gradient: Line


def compare_training(pair: Pair, seed: int = 0, batch: int = 4) -> Training:
    """Outputs with the batch's statistics, the moving ones after it, a first-layer gradient.

    Args:
        pair: models without dropout that return one array.
        seed: of the images.
        batch: number of images.
    """
    x = images(pair.ours, batch, seed)
    trainable, state = _state(pair.keras)
    functions, first = pair.ours.functions(), next(iter(pair.keras.trainable_variables))

    def theirs(trainable: Any) -> tuple[jax.Array, Any]:
        y, updated = pair.keras.stateless_call(trainable, state, x, training=True)
        return jnp.mean(jnp.square(y)), (y, updated)

    def ours(params: Any) -> tuple[jax.Array, Any]:
        y, updated = functions.apply_train(params, pair.ours.state, x, jax.random.key(seed))
        return jnp.mean(jnp.square(y)), (y, updated)

    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        (_, (y, updated)), gradients = jax.jit(jax.value_and_grad(theirs, has_aux=True))(trainable)
        (_, (z, our_state)), ours_gradients = jax.jit(jax.value_and_grad(ours, has_aux=True))(
            pair.ours.params
        )
    statistics = [
        difference(variable.path, _statistic(our_state, variable.path), value)
        for variable, value in zip(pair.keras.non_trainable_variables, updated, strict=True)
        if "moving" in variable.path
    ]
    layer, name = first.path.split("/")[-2:]
    return Training(
        [difference("output", z, y)],
        statistics,
        difference(first.path, ours_gradients[layer][name], gradients[0]),
    )


def _statistic(state: Any, path: str) -> Any:
    layer, name = path.split("/")[-2:]
    return state["batch_stats"][layer][name]


def images(model: cj.Model, batch: int, seed: int) -> jax.Array:
    """Random inputs in [-1, 1], [batch, H, W, 3]."""
    generator = np.random.default_rng(seed + 1)
    return jnp.asarray(generator.uniform(-1, 1, (batch, *model.spec.input_shape)), jnp.float32)


def difference(layer: str, ours: Any, theirs: Any) -> Line:
    """How far two arrays of one shape are apart."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{layer} has the shape {a.shape}, Keras' has {b.shape}")
    absolute = float(np.abs(a - b).max())
    return Line(layer, a.shape[1:], absolute, absolute / max(float(np.abs(b).max()), 1e-30))


def _print(pair: Pair, lines: list[Line], config: Config) -> None:
    worst = max(lines, key=lambda line: np.nan_to_num(line.relative, nan=np.inf))
    shape = "x".join(map(str, pair.ours.spec.input_shape))
    print(f"\n{pair.ours.spec.name} {pair.arguments}, input {shape}, through .{config.format}")
    if config.every_layer:
        width = max(len(line.layer) for line in lines)
        print(f"{'layer':{width}}  {'output':>14}  {'absolute':>9}  {'relative':>9}")
        for line in lines:
            shape = "x".join(map(str, line.shape))
            mark = "" if line.relative <= config.tolerance else "  <- beyond the tolerance"
            numbers = f"{line.absolute:9.1e}  {line.relative:9.1e}"
            print(f"{line.layer:{width}}  {shape:>14}  {numbers}{mark}")
    found = f"{worst.relative:.1e} in {worst.layer}"
    print(f"{len(lines)} layers, the largest relative difference {found}")


def _state(model: Any) -> tuple[list[Any], list[Any]]:
    return (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )


def _keras() -> Any:
    """Keras on its JAX backend."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise ValueError("the comparison needs Keras on JAX: set KERAS_BACKEND=jax")
    return keras


if __name__ == "__main__":
    command(main, Config, "parity")
