"""Are the backbones equal to Keras' own? Layer by layer, from one weight file, with no download.

Keras builds its model on its JAX backend; its weights and batch-norm statistics are randomised and
saved to a file, which cnnjax loads. The same random image then goes through both, in float32 at
the highest precision, and the outputs of every layer are compared. The relative difference is the
largest absolute one over the largest value of the layer. With `--training` a step in training mode
is compared: outputs, updated batch-norm statistics and the gradients of all kernels.

With `--peer torchvision` or `timm` the outputs of all layers with weights are compared with that
library's, through a .pth file, and a training step in float64 with gradients of all weights.

Command:   python -m experiments.parity [--model resnet50] [--training], with Keras:
           pip install -e ".[test]"
           python -m experiments.parity --peer torchvision --record docs/records/parity.json, with
           the extra bench; then python -m experiments.parity_page writes docs/parity.md

Reported:  equal to rounding, within 1e-4.

Ours:      at the default sizes 3e-7 (MobileNet) to 2e-6 (VGG16); a minute or two a family.
           A training step at the minimum size or little more: 1e-11 in float64.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core import trees
from cnnjax.core.places import Place
from cnnjax.core.table import table
from cnnjax.models.graph import weighted_layers

FORMATS = ("weights.h5", "h5", "keras")

# Arguments of Keras' nets without which they do nothing to their inputs, and nothing at random.
_PLAIN = {"include_preprocessing": False, "drop_connect_rate": 0.0}

# Normalisations in one net, from which on factors near 1 let values grow without bounds.
DEEP = 100

# Largest relative difference of a training step in float64.
EXACT = 1e-9

# Of the largest gradient: below, gradients in float64 are rounding.
_SCALE = 1e-9


@dataclass(frozen=True)
class Config:
    """Options of the report."""

    model: str | None = None
    """Which family; None reports all that the peer has."""
    peer: Literal["keras", "torchvision", "timm"] = "keras"
    """Beside which library; torchvision's and timm's nets go through .pth files."""
    size: tuple[int, int] | None = None
    """Height and width of the image; None takes the model's default, with --record or beside
    PyTorch an odd one."""
    record: Place | None = None
    """Note the largest difference of each block and of a training step in this file, from which
    `experiments.parity_page` makes the page; no layer is printed then."""
    include_top: bool = True
    """With the head; its logits are compared, Keras' softmax is left out. Not with --training."""
    missing: bool = False
    """Leave out what the record has already."""
    alpha: float = 1.0
    """Width of mobilenet."""
    format: Literal["weights.h5", "h5", "keras"] = "weights.h5"
    """Of the file through which the weights go."""
    tolerance: float = 1e-4
    """Largest relative difference; with --training it is 1e-9, in float64."""
    seed: int = 0
    """Of weights and image."""
    every_layer: bool = True
    """Print a line per layer, else only the worst."""
    training: bool = False
    """Instead of the layers, compare a training step without the top: in float64, and how each side
    rounds in float32."""


@dataclass(frozen=True)
class Line:
    """One layer: the largest difference, absolute and relative to the layer's largest value."""

    layer: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


@dataclass(frozen=True)
class Pair:
    """A model of Keras and ours with the same weights.

    Args:
        keras, ours: the models.
        arguments: with which both were built.
        rebuild: makes Keras' model anew, in float64 too; None takes that of `keras.applications`.
    """

    keras: Any
    ours: cj.Model
    arguments: dict[str, Any] = field(default_factory=dict)
    rebuild: Callable[[], Any] | None = None


def main(config: Config) -> None:
    """Report the families, or note them in a record; exit status 1 beyond the tolerance."""
    if config.record or config.peer != "keras":
        from experiments._parity_record import record

        return record(config)
    failed = False
    for name in [config.model] if config.model else families("keras"):
        arguments: dict[str, Any] = {"include_top": config.include_top}
        if config.training:
            arguments = {"include_top": False, "pooling": "avg"}
        if name == "mobilenet":
            arguments["alpha"] = config.alpha
        pair = twins(name, config.size, config.format, config.seed, **arguments)
        if config.training:
            exact = compare_training(pair, config.seed).worst()
            _print_training(pair, exact, *compare_rounding(pair, config.seed), config)
            lines, tolerance = list(exact.values()), EXACT
        else:
            lines, tolerance = compare(pair, config.seed), config.tolerance
            _print(pair, lines, config)
        # Written so that NaN fails.
        failed |= not all(line.relative <= tolerance for line in lines)
    if failed:
        raise SystemExit(1)


def families(peer: str) -> list[str]:
    """The registered models that a library has, by its tables of names, or Keras' own."""
    if peer == "keras":
        return [name for name in cj.models.BUILDERS if keras_class(name)]
    tables = {name: builder.foreign for name, builder in cj.models.BUILDERS.items()}
    return [name for name, own in tables.items() if any(peer == table.source for table in own)]


def keras_class(name: str) -> str:
    """What Keras calls a model: "ResNet50" for "resnet50"; "" where it has none."""
    known = {one.lower(): one for one in dir(_keras().applications) if one[0].isupper()}
    return known.get(name.replace("_", ""), "")


def odd_size(name: str) -> tuple[int, int]:
    """The smallest height and width of a model's inputs and a little more."""
    least = cj.models.BUILDERS[name].min_size
    return least + 1, least + 10


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
    _keras().utils.set_random_seed(seed)
    shape = (*size, 3) if size else cj.models.BUILDERS[name].input_shape
    model = _keras_model(name, shape, arguments)
    randomise(model, seed)
    normalised = any(type(layer).__name__ == "Normalization" for layer in model.layers)
    inputs = {"preprocessing": "unit"} if normalised else {}  # of mean 0 and variance 1
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.{file_format}"
        save_weights(model, path)
        ours = cj.create_model(
            name, input_shape=shape, weights=path, **(_plain_arguments(name) | inputs | arguments)
        )
    return Pair(model, ours, arguments)


def _plain_arguments(name: str) -> dict[str, Any]:
    """Arguments of ours by which nothing is random, nor done to the inputs."""
    builder = cj.models.BUILDERS[name]
    arguments: dict[str, Any] = {}
    if "stochastic_depth" in builder.arguments:
        arguments["stochastic_depth"] = 0.0
    if getattr(builder.module, "keras_rescaling", None):
        arguments["preprocessing"] = "none"
    return arguments


def _keras_model(name: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> Any:
    keras = _keras()
    keras.utils.clear_session()  # automatic names count from the start again
    build = getattr(keras.applications, keras_class(name))
    known = inspect.signature(build).parameters
    plain = {k: v for k, v in _PLAIN.items() if k in known}
    model = build(
        weights=None, classifier_activation=None, input_shape=shape, **{**plain, **arguments}
    )
    for layer in model.layers:  # what is preprocessing here, and cannot be left out there
        if type(layer).__name__ == "Rescaling":
            layer.scale, layer.offset = 1.0, 0.0
        if type(layer).__name__ == "Dropout":  # some of Keras' functions take no rate
            layer.rate = 0.0
    return model


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
    # Many branches whose statistics are not those of their inputs would add up until rounding
    # switches gates on and off.
    deep = sum(variable.name == "gamma" for variable in model.weights) > DEEP
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.name
        if "layer_scale" in variable.path:
            variable.assign(generator.uniform(0.1, 0.4, shape))
        elif name in ("gamma", "moving_variance"):
            gain = 0.5 if deep and name == "gamma" else 1.0
            variable.assign(gain * generator.uniform(0.5, 1.5, shape))
        elif name in ("beta", "bias", "moving_mean"):
            variable.assign(generator.normal(0, 0.1, shape))


def compare(pair: Pair, seed: int = 0, batch: int = 1) -> list[Line]:
    """The outputs of every layer that both have by one name, in Keras' order of the layers.

    Raises:
        ValueError: if Keras' model has not all layers of ours that have weights.
    """
    ours = set(pair.ours.layer_names)
    layers = [layer for layer in pair.keras.layers if layer.name in ours]
    names = [layer.name for layer in layers]
    nested = {layer.name for layer in pair.keras._flatten_layers()}
    if other := sorted(set(weighted_layers(pair.ours)) - nested):
        raise ValueError(f"{pair.ours.spec.name} has layers that Keras' has not: {other}")
    x = images(pair.ours, batch, seed)
    keras = _keras()
    every = keras.Model(pair.keras.inputs, [layer.output for layer in layers])
    # Keras adds biases of another rank, which a strict setting of JAX would refuse.
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        theirs = every.stateless_call(*_state(every), x, training=False)[0]
        outputs = cj.explain.activations(pair.ours, x)
    return [
        difference(name, outputs[name], reference)
        for name, reference in zip(names, theirs, strict=True)
    ]


@dataclass(frozen=True)
class Training:
    """Differences of a step in training mode."""

    outputs: list[Line]
    statistics: list[Line]
    """Moving means and variances after the step."""
    gradients: list[Line]
    """Of the loss, a random weighted sum of the outputs, with respect to every kernel."""

    def worst(self) -> dict[str, Line]:
        """The largest difference of each kind that the model has."""
        kinds = {
            "outputs": self.outputs,
            "statistics": self.statistics,
            "gradient of the first kernel": self.gradients[:1],
            "gradients of all kernels": self.gradients,
        }
        return {kind: _worst(lines) for kind, lines in kinds.items() if lines}


def compare_training(pair: Pair, seed: int = 0, batch: int = 4) -> Training:
    """A step in training mode, ours against Keras', in float64.

    Float32 cannot tell whether the two are equal. Normalising by the statistics of few values
    enlarges its rounding, some values then fall on the other side of ReLU's zero, and each switches
    a piece of the gradient on or off: up to a few per cent in the first layer of a deep net, in
    Keras no less than here (`compare_rounding`; with a smooth activation it is 4e-5 in ResNet50).

    Args:
        pair: models that return one array, without dropout.
        seed: of the images and of the loss.
        batch: number of images.
    """
    x = images(pair.ours, batch, seed)
    with _float64():
        double = _in_float64(pair)
        return _differences(_our_step(double, x, seed), _their_step(double, x, seed))


def compare_rounding(pair: Pair, seed: int = 0, batch: int = 4) -> tuple[Training, Training]:
    """How far that step in float32 is from Keras' in float64: ours, and Keras' own.

    Args:
        pair, seed, batch: as in `compare_training`.
    """
    x = images(pair.ours, batch, seed)
    ours, theirs = _our_step(pair, x, seed), _their_step(pair, x, seed)
    with _float64():
        truth = _their_step(_in_float64(pair), x, seed)
    return _differences(ours, truth), _differences(theirs, truth)


@dataclass(frozen=True)
class _Step:
    """What a step in training mode yields, by the paths of Keras' variables."""

    output: jax.Array
    statistics: dict[str, jax.Array]
    gradients: dict[str, jax.Array]


def _our_step(pair: Pair, x: jax.Array, seed: int) -> _Step:
    functions, state = pair.ours.functions(), pair.ours.state

    def loss(params: Any) -> tuple[jax.Array, Any]:
        y, updated = functions.apply_train(params, state, _as(x, params), jax.random.key(seed))
        return _loss(y, seed), (y, updated)

    gradients, (y, updated) = _gradients(loss, pair.ours.params)
    return _Step(y, trees.flatten(updated.get("batch_stats", {})), trees.flatten(gradients))


def _their_step(pair: Pair, x: jax.Array, seed: int) -> _Step:
    model = pair.keras
    trainable, state = _state(model)

    def loss(trainable: Any) -> tuple[jax.Array, Any]:
        y, updated = model.stateless_call(trainable, state, _as(x, trainable), training=True)
        return _loss(y, seed), (y, updated)

    gradients, (y, updated) = _gradients(loss, trainable)
    return _Step(
        y,
        {_short(v): a for v, a in zip(model.non_trainable_variables, updated, strict=True)},
        {_short(v): g for v, g in zip(model.trainable_variables, gradients, strict=True)},
    )


def _short(variable: Any) -> str:
    """Layer and weight, without the nets that the layer lies in."""
    return "/".join(variable.path.split("/")[-2:])


def _gradients(loss: Any, params: Any) -> Any:
    # Keras adds biases of another rank, which a strict setting of JAX would refuse.
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        return jax.jit(jax.grad(loss, has_aux=True))(params)


def _loss(y: jax.Array, seed: int) -> jax.Array:
    """A random weighted sum."""
    weights = np.random.default_rng(seed + 2).normal(size=y.shape)
    return jnp.mean(y * jnp.asarray(weights, y.dtype))


def _as(x: jax.Array, params: Any) -> jax.Array:
    return x.astype(jax.tree.leaves(params)[0].dtype)


def _differences(ours: _Step, reference: _Step) -> Training:
    return Training(
        [difference("output", ours.output, reference.output)],
        [
            difference(k, ours.statistics[k], v)
            for k, v in reference.statistics.items()
            if k in ours.statistics  # not the states of generators, nor those of its preprocessing
        ],
        [
            difference(k, ours.gradients[k], v)
            for k, v in reference.gradients.items()
            if k.endswith("kernel")
        ],
    )


@contextmanager
def _float64() -> Iterator[None]:
    """Both sides in float64; Keras' layers would else go down to float32 on JAX."""
    keras = _keras()
    from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE as rounded

    before = keras.config.floatx(), keras.config.dtype_policy(), dict(rounded)
    try:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        rounded["float64"] = "float64"
        with jax.enable_x64(True):
            yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
        rounded.update(before[2])


def _in_float64(pair: Pair) -> Pair:
    """The same models and weights, to be made and used within `_float64`."""
    name, shape = pair.ours.spec.name, pair.ours.spec.input_shape
    model = pair.rebuild() if pair.rebuild else _keras_model(name, shape, pair.arguments)
    model.set_weights(pair.keras.get_weights())
    variables = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), pair.ours.variables)
    return Pair(model, pair.ours.replace(variables=variables), pair.arguments)


def images(model: cj.Model, batch: int, seed: int) -> jax.Array:
    """Random inputs in [-1, 1], [batch, H, W, 3]."""
    generator = np.random.default_rng(seed + 1)
    return jnp.asarray(generator.uniform(-1, 1, (batch, *model.spec.input_shape)), jnp.float32)


def gradient_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Line]:
    """How far the gradients of all weights are apart.

    One that is zero but for rounding, as that of a bias in front of a normalisation, has no scale
    of its own: it is taken relative to a part of the largest gradient of the net.
    """
    least = _SCALE * max(float(np.abs(np.asarray(v)).max()) for v in theirs.values())
    return [difference(k, ours[k], v, least) for k, v in theirs.items()]


def difference(layer: str, ours: Any, theirs: Any, least: float = 1e-30) -> Line:
    """How far two arrays of one shape are apart, relative to the largest value or to `least`."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{layer} has the shape {a.shape}, Keras' has {b.shape}")
    absolute = float(np.abs(a - b).max())
    return Line(layer, a.shape[1:], absolute, absolute / max(float(np.abs(b).max()), least))


def _print(pair: Pair, lines: list[Line], config: Config) -> None:
    worst = _worst(lines)
    _print_title(pair, config)
    if config.every_layer:
        rows = [("layer", "output", "absolute", "relative", "")]
        for line in lines:
            shape = "x".join(map(str, line.shape))
            mark = "" if line.relative <= config.tolerance else "<- beyond the tolerance"
            rows.append((line.layer, shape, f"{line.absolute:.1e}", f"{line.relative:.1e}", mark))
        print(table(rows, "<>>><"))
    found = f"{worst.relative:.1e} in {worst.layer}"
    print(f"{len(lines)} layers, the largest relative difference {found}")


def _print_training(
    pair: Pair, exact: dict[str, Line], ours: Training, theirs: Training, config: Config
) -> None:
    _print_title(pair, config)
    rows: list[Sequence[str]] = [
        ("from Keras in float64", "ours, float64", "ours, float32", "Keras, float32")
    ]
    for kind, line in exact.items():
        errors = line, ours.worst()[kind], theirs.worst()[kind]
        rows.append((kind, *(f"{error.relative:.1e}" for error in errors)))
    print(table(rows))


def _print_title(pair: Pair, config: Config) -> None:
    shape = "x".join(map(str, pair.ours.spec.input_shape))
    print(f"\n{pair.ours.spec.name} {pair.arguments}, input {shape}, through .{config.format}")


def _worst(lines: list[Line]) -> Line:
    return max(lines, key=lambda line: np.nan_to_num(line.relative, nan=np.inf))


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
