"""A model as one function from what it is given to its answer, and the facts of a file of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np

from cnnjax.core.runtime import versions
from cnnjax.core.text import plain
from cnnjax.models.model import Model
from cnnjax.models.modules import Variables
from cnnjax.models.spec import ModelSpec
from cnnjax.nn import conv_engine

# Sizes of an example that may be any, by its rank.
_SIZES = {3: ("h", "w"), 2: ("t",), 1: ("t",)}

# What JAX does not take for the name of a size.
_OPERATIONS = ("_", "floordiv", "max", "min", "mod")

_EXAMPLES = (3, 1)  # of the batches that a file of any batch size is tried with

Dtype = Literal["float32", "uint8"]


@dataclass(frozen=True)
class Inference:
    """What is exported of a model.

    Args:
        model: of any task.
        batch: name of the size that may be any, or a number.
        logits: whether outputs are those of the module, and not what the task makes of them.
        dtype: of inputs that are not token ids.
        preprocessing: whether inputs are what `predict` takes, and not what the module takes.
        least: smallest of sizes that may be any, where the model takes smaller ones.
    """

    model: Model
    batch: str | int = "b"
    logits: bool = False
    dtype: Dtype = "float32"
    preprocessing: bool = True
    least: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "uint8"):
            raise ValueError(f"dtype of inputs must be 'float32' or 'uint8', got {self.dtype!r}")
        if self.dtype == "uint8" and not self.preprocessing:
            raise ValueError(
                "dtype='uint8' is for pixels, and without preprocessing inputs are what becomes of "
                "them, float32: leave one of the two out"
            )
        if isinstance(self.batch, str):
            usable = self.batch.isidentifier() and self.batch not in _OPERATIONS
        else:
            usable = type(self.batch) is int and self.batch >= 1
        if not usable:
            raise ValueError(
                f"batch must be a name, or a whole number >= 1, got {plain(repr(self.batch))}"
            )
        if self.batch in ("h", "w", "t"):
            raise ValueError(f"batch={self.batch!r} is how another size is called: take 'b'")

    def __call__(self, variables: Variables, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, of inputs by name."""
        spec = self.model.spec
        given: Any = dict(inputs) if spec.parts else next(iter(inputs.values()))
        if self.preprocessing:
            given = spec.preprocess(given, check=False)
        outputs = self.model.static.evaluate(variables, given)
        if self.answers:
            outputs = spec.task.activation(outputs)
        return dict(outputs) if isinstance(outputs, Mapping) else {self.output_name: outputs}

    @property
    def answers(self) -> bool:
        """Whether outputs are what the task makes of those of the module."""
        return not self.logits and self.model.spec.num_classes > 0

    @property
    def output_name(self) -> str:
        """Of a single output: what it is."""
        spec = self.model.spec
        if spec.num_classes == 0:
            return "features"
        if spec.task.name == "values":
            return "values"
        return "probabilities" if self.answers else "logits"

    @property
    def parts(self) -> dict[str, ModelSpec]:
        """The facts about each input, by its name."""
        spec = self.model.spec
        if spec.parts:
            return spec.parts
        kind = "tokens" if spec.inputs.tokens else "images" if spec.takes_images else "inputs"
        return {kind: spec}

    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, with symbols for what may be any, and dtypes of the inputs by name."""
        names: list[str] = [self.batch] if isinstance(self.batch, str) else []
        rules, shapes = [], {}
        for part_name, part in self.parts.items():
            of_part = f"{part_name}_" if len(self.parts) > 1 else ""
            free = iter(_SIZES.get(len(part.input_shape), ()))
            shape: list[str | int] = [self.batch]
            for size in part.input_shape:
                shape.append(size if size is not None else of_part + next(free, f"s{len(shape)}"))
                if size is None:
                    names.append(str(shape[-1]))
                    rules.append(f"{shape[-1]} >= {max(part.min_size, self.least)}")
            shapes[part_name] = shape
        symbols: dict[Any, Any] = dict(zip(names, _symbols(names, rules), strict=True))
        return {
            name: jax.ShapeDtypeStruct([symbols.get(n, n) for n in shape], self._dtype_of(name))
            for name, shape in shapes.items()
        }

    def outputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, with symbols, and dtypes of the outputs by name."""
        with tracing():
            return dict(jax.eval_shape(self.__call__, self.model.variables, self.inputs()))

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        """Inputs to try a file with, of different sizes where these may be any."""
        rng = np.random.default_rng(0)
        counts = _EXAMPLES if isinstance(self.batch, str) else (self.batch,)
        for number, count in enumerate(counts):
            arrays = {}
            for name, part in self.parts.items():
                shape = [
                    n if size is not None else n + n // 2 * number
                    for size, n in zip(part.input_shape, part.sample_shape, strict=True)
                ]
                arrays[name] = _random(rng, part, (count, *shape), self.preprocessing)
                arrays[name] = arrays[name].astype(self._dtype_of(name))
            yield arrays

    def facts(self) -> dict[str, Any]:
        """What stands in a file beside the program."""
        spec = self.model.spec
        told = spec.facts()
        names = ("name", "task", "resize", "crop", "interpolation", "paper", "weights")
        return {
            "cnnjax": versions()["cnnjax"],
            "model": told["name"],
            **{name: told[name] for name in names[1:] if told[name]},
            "inputs": {
                name: {
                    "shape": [str(n) if not isinstance(n, int) else n for n in one.shape],
                    "dtype": str(one.dtype),
                    "values": _values_of(self.parts[name], self.preprocessing),
                }
                for name, one in self.inputs().items()
            },
            **({"least_size": max(spec.min_size, self.least)} if spec.takes_any_size else {}),
            "outputs": self.output_name if not isinstance(spec.output_shape, Mapping) else "named",
            "preprocessing": told["preprocessing"],
            "preprocessing_inside": self.preprocessing,
            "class_names": spec.label_names,
            **({"vocabulary": spec.vocabulary.words} if spec.vocabulary else {}),
        }

    def _dtype_of(self, name: str) -> str:
        return "int32" if self.parts[name].inputs.tokens else self.dtype


def at_size(model: Model, input_shape: Sequence[int] | Mapping[str, Sequence[int]]) -> Model:
    """A model of any size as one of a single size, with the same weights.

    Raises:
        ValueError: for a shape that the model does not take.
    """
    spec = model.spec
    shape: Any = (
        {name: tuple(one) for name, one in input_shape.items()}
        if isinstance(input_shape, Mapping)
        else tuple(input_shape)
    )
    if not spec.takes(shape):
        raise ValueError(
            f"input_shape={input_shape} is none that {spec.name} takes: {spec.input_shape}"
        )
    return model.replace(spec=replace(spec, input_shape=shape))


@contextmanager
def tracing() -> Iterator[None]:
    """Every layer as one operation, in float32, on whatever device."""
    with conv_engine("plain"), jax.default_matmul_precision("float32"):
        yield


def _symbols(names: Sequence[str], rules: Sequence[str]) -> Sequence[Any]:
    from jax import export

    return export.symbolic_shape(",".join(names), constraints=rules) if names else ()


def _random(
    rng: np.random.Generator, part: ModelSpec, shape: tuple[int, ...], raw: bool
) -> np.ndarray:
    if part.inputs.tokens:
        return rng.integers(0, part.vocabulary_size or 2, shape)
    if raw and part.inputs.pixels:
        return rng.integers(0, 256, shape)
    return rng.uniform(-1, 1, shape)


def _values_of(part: ModelSpec, raw: bool) -> str:
    if part.inputs.tokens:
        return "token ids"
    if raw and part.inputs.pixels:
        return "pixels in [0, 255], channels last"
    return "as the data have them" if raw else "preprocessed"
