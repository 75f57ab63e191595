"""`cj.export`: a model as a file that runs without cnnjax, tried before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.core.checks import shape_text
from cnnjax.core.places import expanded
from cnnjax.core.storage import write_file
from cnnjax.core.text import first_sentence
from cnnjax.models.adapters import without_adapters
from cnnjax.models.given_model import check_model
from cnnjax.models.model import Model
from cnnjax.models.runtimes.inference import Dtype, Inference, at_size, tracing
from cnnjax.models.runtimes.stablehlo import run_stablehlo, write_stablehlo

# Largest difference of a file's outputs from the model's, relative to the largest output.
_TOLERANCE = 1e-5

# Pixels a side, where JAX cannot trace a model of any size for smaller ones too.
_LEAST = 32

Run = Callable[[Path, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class OtherOutputs(ValueError):
    """A file that was written and does not compute what the model computes."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path: of the file.
        inputs, outputs: {name: "float32 [b, 28, 28, 1]"}.
        difference: the largest of its outputs from the model's, relative to the largest output.
        runtime: what it was run with.
    """

    path: Path
    inputs: dict[str, str]
    outputs: dict[str, str]
    difference: float
    runtime: str

    def __str__(self) -> str:
        given, got = (
            ", ".join(f"{name} {one}" for name, one in side.items())
            for side in (self.inputs, self.outputs)
        )
        size = self.path.stat().st_size / 2**20
        return (
            f"{self.path}: {size:,.1f} MiB, {given} -> {got}; run again by {self.runtime}: largest "
            f"relative difference {self.difference:.1e}"
        )


def export(
    model: Model,
    path: str | Path,
    *,
    batch: str | int = "b",
    logits: bool = False,
    dtype: Dtype = "float32",
    preprocessing: bool = True,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
) -> Exported:
    """Write a model as a file that other programs run without cnnjax.

    Preprocessing and weights are inside, and so are class names and other facts: in `metadata.json`
    of a .stablehlo file, in the `metadata_props` of an .onnx file. The file is run before it takes
    its place, by JAX or onnxruntime, and its outputs are compared with the model's. docs/export.md
    has an example of a program for each.

    Args:
        model: of any task; adapters are merged into its kernels.
        path: ends with ".stablehlo" (for JAX, on CPU, GPU and TPU) or ".onnx" (for onnxruntime and
            others; needs the extra `export`).
        batch: name of the number of examples, which may be any; or a number >= 1.
        logits: give the outputs of the module, and not what `predict` makes of them
            (probabilities, of most tasks).
        dtype: of the inputs: "float32", or "uint8" for pixels; token ids are int32.
        preprocessing: take what `predict` takes, images [N, H, W, C] in [0, 255] of the model's
            size; False: take what the module takes.
        input_shape: the size of a model that takes any; None keeps that, where it can be traced.

    Returns:
        The file, its inputs and outputs, and the largest relative difference.

    Raises:
        ValueError: for another ending, an operation that ONNX or this converter does not have, a
            size that must be given, or weights of 2 GB and more in ONNX.
        OtherOutputs: if the outputs differ by more than 1e-5 of the largest (probabilities by more
            than 1e-5 of the largest logit); nothing is written.
    """
    check_model(model)
    path = expanded(path)
    if input_shape is not None:
        model = at_size(model, input_shape)
    inference = Inference(without_adapters(model), batch, logits, dtype, preprocessing)
    write, run, runtime = _format(path)
    differences = []

    def write_and_compare(beside: Path) -> None:
        write(inference, beside)
        differences.append(_compare(inference, beside, run))

    inference, outputs = _traced(inference)
    inputs = inference.inputs()
    write_file(path, write_and_compare)
    return Exported(path, _texts(inputs), _texts(outputs), differences[0], runtime)


def _format(path: Path) -> tuple[Callable[[Inference, Path], None], Run, str]:
    """How a file of this ending is written and run, and by what."""
    if path.suffix == ".stablehlo":
        return write_stablehlo, run_stablehlo, f"jax {jax.__version__}"
    if path.suffix == ".onnx":
        from cnnjax.models.runtimes.onnx_file import run_onnx, runtime, write_onnx

        return write_onnx, run_onnx, runtime()
    raise ValueError(f"path must end with .stablehlo or .onnx, got {path}")


def _traced(inference: Inference) -> tuple[Inference, dict[str, jax.ShapeDtypeStruct]]:
    """What is exported, for sizes that can be traced, and its outputs.

    Whether a window fits JAX cannot tell of any size, and can of those that are not very small.
    """
    spec = inference.model.spec
    if not spec.takes_any_size:
        return inference, inference.outputs()
    for each in (inference, replace(inference, least=_LEAST)):
        try:
            return each, each.outputs()
        except Exception as error:  # the code is another's, and may raise anything
            failure = error
    raise ValueError(
        f"{spec.name} cannot be traced for any size ({first_sentence(failure)}): give input_shape, "
        f"e.g. {spec.sample_shape}"
    ) from failure


def _compare(inference: Inference, path: Path, run: Run) -> float:
    """The largest relative difference over several inputs."""
    # The error of logits, relative to the largest of them, is that of probabilities themselves.
    before = replace(inference, logits=True)
    reference = jax.jit(
        lambda variables, inputs: [f(variables, inputs) for f in (inference, before)]
    )
    differences, allowed = [0.0], _TOLERANCE
    for inputs in inference.samples():
        with tracing():  # the engines that are fast on CPUs round otherwise
            wanted, logits = reference(inference.model.variables, inputs)
        got = run(path, inputs)
        differences += [relative_difference(got[n], np.asarray(wanted[n])) for n in wanted]
        if inference.answers:
            largest_logit = max(float(np.abs(one).max()) for one in logits.values())
            allowed = max(allowed, _TOLERANCE * largest_logit)
    largest = float(np.max(differences))  # NaN where one is
    if not largest <= allowed:
        raise OtherOutputs(
            f"the exported {inference.model.spec.name} differs from the model by {largest:.1e} of "
            f"its largest output, more than {allowed:.0e}: nothing was written"
        )
    return largest


def relative_difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest absolute difference, relative to the largest value; NaN or infinity of other shapes.

    >>> relative_difference(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    0.5
    """
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return float("inf")
    other = got != wanted  # infinities, too, may be the same
    if not other.any():
        return 0.0
    scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)) or 1.0
    return float(np.abs(got[other].astype(np.float64) - wanted[other]).max()) / scale


def _texts(arrays: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{one.dtype} [{shape_text(one.shape)}]" for name, one in arrays.items()}
