"""Low-rank adapters: matrices whose product is added to a kernel of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.core import rng, trees
from cnnjax.core.reading import check_form

# After the name of the kernel: the matrix from its inputs, and the one to its outputs.
ENDINGS = ("_lora_a", "_lora_b")

# Its last axis counts kernels of one channel, so that its matrix is [kh kw, C M].
_DEPTHWISE = "depthwise_kernel"


@dataclass(frozen=True)
class Adapters:
    """Which kernels of a model have a low-rank product added to them (Hu et al. 2021, LoRA).

    A kernel [..., Ci, Co] is taken as a matrix W of as many rows as one output has inputs, kh kw Ci
    of a convolution, and Co columns; the model computes with `W + alpha / rank * A B`, A being
    [rows, rank] and B [rank, columns]. That is what a convolution of the same size to `rank` maps
    and a 1x1 convolution of these to Co would add to the outputs. A kernel [kh, kw, C, M] of a
    depthwise convolution is the matrix [kh kw, C M].

    A and B stand beside the kernel in the parameters: "conv1/kernel_lora_a", "conv1/kernel_lora_b".

    Args:
        weights: paths of the kernels, e.g. "conv1/kernel".
        rank: of the product, >= 1.
        alpha: > 0; `alpha / rank` is its factor.
    """

    weights: tuple[str, ...]
    rank: int
    alpha: float

    @classmethod
    def read(cls, values: dict[str, Any]) -> Adapters:
        """Those that a file describes.

        Raises:
            ValueError: if it describes none.
        """
        check_form(values, {"weights": [str], "rank": int, "alpha": float}, "adapters")
        return cls(tuple(values["weights"]), values["rank"], values["alpha"])

    def initial(self, params: Mapping[str, Any], key: Array) -> dict[str, Any]:
        """Parameters with the adapters at their start: A uniform in +-1/sqrt(rows), B zero.

        Args:
            params: {layer: {weight: array}}, of which the shapes count.
            key: of the matrices A.

        Returns:
            The parameters, the very arrays, and the adapters beside them.
        """
        flat = trees.flatten(params)
        for path in self.weights:
            rows, columns = matrix_shape(path, flat[path].shape)
            bound, dtype = 1 / math.sqrt(rows), flat[path].dtype
            first = rng.named(rng.named(key, "adapters"), path)
            names = [path + ending for ending in ENDINGS]
            flat[names[0]] = jax.random.uniform(first, (rows, self.rank), dtype, -bound, bound)
            flat[names[1]] = jnp.zeros((self.rank, columns), dtype)
        return trees.unflatten(flat)

    def merged(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters without adapters, whose kernels are `W + alpha / rank * A B`.

        Args:
            params: with adapters beside the kernels.
        """
        flat = trees.flatten(params)
        for path in self.weights:
            kernel = flat[path]
            a, b = (flat.pop(path + ending).astype(jnp.float32) for ending in ENDINGS)
            product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
            change = (self.alpha / self.rank) * product.reshape(kernel.shape)
            flat[path] = (kernel + change).astype(kernel.dtype)
        return trees.unflatten(flat)


def without_adapters(model: Any) -> Any:
    """A `Model` whose adapters are added to its kernels; itself where it has none."""
    adapters = model.spec.adapters
    if adapters is None:
        return model
    variables = {**model.variables, "params": adapters.merged(model.params)}
    spec = dataclasses.replace(model.spec, adapters=None)
    return dataclasses.replace(model, variables=variables, spec=spec)


def matrix_shape(path: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a kernel as a matrix.

    >>> matrix_shape("conv1/kernel", (3, 3, 16, 32))
    (144, 32)
    >>> matrix_shape("conv_dw_1/depthwise_kernel", (3, 3, 16, 1))
    (9, 16)
    """
    inner = 2 if path.rpartition("/")[2] == _DEPTHWISE else 1
    return math.prod(shape[:-inner]), math.prod(shape[-inner:])


def is_adapter(path: str) -> bool:
    """Whether a path is that of an adapter.

    >>> is_adapter("conv1/kernel_lora_a"), is_adapter("conv1/kernel")
    (True, False)
    """
    return path.endswith(ENDINGS)
