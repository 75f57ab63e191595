"""In which precision a step computes, on which kind of device."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.config import GENERATORS, PRECISIONS
from cnnjax.core.target import PRODUCTS
from cnnjax.models import Functions, Model
from cnnjax.models.half import in_bfloat16
from cnnjax.training.freezing import Tree

_MEANINGS = {
    ("tf32", "cpu"): "float32, since CPUs have no TF32",
    (
        "tf32",
        "gpu",
    ): "products in TensorFloat-32 where the GPU has it, sums and the rest in float32",
    ("tf32", "tpu"): "products as three of bfloat16, sums and the rest in float32",
    ("float32", "tpu"): "float32, products as six of bfloat16",
}


def check_precision(precision: Any) -> None:
    """Refuse what is no precision.

    Raises:
        ValueError: for an unknown one.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def check_generator(generator: Any) -> None:
    """Refuse what is no generator of random numbers.

    Raises:
        ValueError: for an unknown one.
    """
    if generator not in GENERATORS:
        raise ValueError(f"generator must be one of {', '.join(GENERATORS)}, got {generator!r}")


def products_in(precision: str) -> contextlib.AbstractContextManager:
    """Matrix products and convolutions inside the `with` block have a precision.

    Args:
        precision: as in `TrainingConfig`.
    """
    return jax.default_matmul_precision(PRODUCTS[precision])


def meaning(precision: str, platform: str) -> str:
    """What a precision is on a kind of device, for the record.

    Args:
        precision: as in `TrainingConfig`.
        platform: "cpu", "gpu" or "tpu".

    >>> meaning("tf32", "cpu")
    'float32, since CPUs have no TF32'
    >>> meaning("bfloat16", "gpu")
    'bfloat16, parameters and their updates in float32'
    """
    usual = {"float32": "float32", "tf32": "as the device takes TF32"}
    usual["bfloat16"] = "bfloat16, parameters and their updates in float32"
    return _MEANINGS.get((precision, platform), usual[precision])


def in_precision(model: Model, frozen: Sequence[str], precision: str) -> Functions:
    """A model's functions that compute in a precision; their outputs are float32.

    Args:
        model: its architecture.
        frozen: patterns of layers that stay as they are.
        precision: as in `TrainingConfig`.
    """
    if precision == "bfloat16":
        return in_bfloat16(model, frozen)
    functions = model.functions(frozen)

    def apply(params: Tree, state: Tree, inputs: Any) -> Any:
        return _as_float32(functions.apply(params, state, inputs))

    def apply_train(params: Tree, state: Tree, inputs: Any, key: Array) -> tuple[Any, Tree]:
        outputs, new_state = functions.apply_train(params, state, inputs, key)
        return _as_float32(outputs), new_state

    return Functions(apply, apply_train, functions.preprocess)


def _as_float32(outputs: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs)
