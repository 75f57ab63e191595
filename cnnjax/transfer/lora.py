"""Fine-tuning by low-rank adapters: a model with them, and one that they are merged into."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from cnnjax.core import rng, trees
from cnnjax.core.checks import whole_number
from cnnjax.core.text import suggest
from cnnjax.models import Model
from cnnjax.models.adapters import Adapters, matrix_shape, without_adapters
from cnnjax.models.given_model import check_model


def lora(
    model: Model,
    patterns: Sequence[str],
    rank: int,
    *,
    alpha: float | None = None,
    seed: int = 0,
) -> Model:
    """A model with low-rank adapters on some of its kernels, which computes the same at first.

    The model computes with `W + alpha / rank * A B` in place of a kernel W, which is taken as a
    matrix [inputs of one output, outputs]: [kh kw Ci, Co] of a convolution, [Ci, Co] of a dense
    layer, [kh kw, C M] of a depthwise convolution. A is random and B zero, so that training begins
    at the model as it is. It is the parameters that are transformed, not the layers: any module
    will do, and every layer keeps its name. Train the adapters, and the head if there is a new
    one, with the rest frozen: `TrainingConfig(frozen=cj.transfer.base_layers(model))`. A step
    computes no less for it; the optimiser keeps less.

    Args:
        model: any; give it its new head first.
        patterns: of layers or kernels, as `TrainingConfig.frozen` has them, e.g. ("conv_pw_*",).
            Of a layer all parameters of two axes or more get adapters.
        rank: of the product, >= 1, at most the smaller side of each matrix.
        alpha: > 0; the factor is alpha / rank, so that the rate need not follow the rank. None: the
            rank, a factor of 1.
        seed: of the matrices A, in [0, 2^32).

    Returns:
        A model with the parameters "LAYER/KERNEL_lora_a" and "..._lora_b" beside each kernel; it is
        trained, saved, loaded, resumed and explained as any other.

    Raises:
        ValueError: if a pattern names nothing (offers the nearest names) or no kernel, if the rank
            is too large for one, or the model has adapters already.

    References:
        Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022
        (arXiv:2106.09685), section 4.1.

    >>> import cnnjax as cj
    >>> model = lora(cj.create_model("mnist_convnet"), ("conv[23]",), rank=4)
    >>> model.params["conv2"]["kernel_lora_a"].shape, model.params["conv2"]["kernel_lora_b"].shape
    ((288, 4), (4, 64))
    """
    check_model(model)
    if model.spec.adapters is not None:
        raise ValueError(
            f"{model.spec.name} has adapters already: cj.transfer.merged(model) makes them a part "
            "of its kernels"
        )
    rank = whole_number("rank", rank)
    alpha = rank if alpha is None else alpha
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a finite number > 0, got {alpha!r}")
    adapters = Adapters(_kernels(model, patterns, rank), rank, float(alpha))
    params = adapters.initial(model.params, rng.stream(seed, "parameters"))
    spec = dataclasses.replace(model.spec, adapters=adapters)
    return model.replace(variables={**model.variables, "params": params}, spec=spec)


def merged(model: Model) -> Model:
    """The model without adapters, which are added to its kernels.

    Args:
        model: of `lora`, trained or not.

    Returns:
        A plain model of the same layers as before `lora`, with the same outputs to rounding.

    Raises:
        ValueError: for a model without adapters.

    >>> import cnnjax as cj
    >>> adapted = lora(cj.create_model("mnist_convnet"), ("conv*",), rank=4)
    >>> sorted(merged(adapted).params["conv1"])
    ['bias', 'kernel']
    """
    check_model(model)
    if model.spec.adapters is None:
        raise ValueError(f"{model.spec.name} has no adapters to merge: cj.transfer.lora makes them")
    return without_adapters(model)


def _kernels(model: Model, patterns: Sequence[str], rank: int) -> tuple[str, ...]:
    """Paths of the kernels that patterns name."""
    params = trees.leaves(model.params)
    matrices = {path: leaf for path, leaf in params.items() if leaf.ndim > 1}
    chosen: set[str] = set()
    trees.select(params, patterns, "patterns")  # refuses what names nothing
    for pattern in patterns:
        named = trees.select(params, (pattern,), "patterns")
        if not named & matrices.keys():
            layers = dict.fromkeys(path.rpartition("/")[0] for path in matrices)
            raise ValueError(
                f"patterns={pattern!r} names only {', '.join(sorted(named)[:3])}, which are no "
                f"kernels. {suggest(pattern, layers, 'layers with kernels')}"
            )
        chosen |= named & matrices.keys()
    if not chosen:
        raise ValueError(f"patterns must name layers to adapt, e.g. ('conv*',), got {patterns!r}")
    for path in sorted(chosen):
        _check_rank(path, matrices[path], rank)
    return tuple(sorted(chosen))


def _check_rank(path: str, kernel: Any, rank: int) -> None:
    rows, columns = matrix_shape(path, kernel.shape)
    if rank > min(rows, columns):
        raise ValueError(
            f"rank={rank} is more than {path!r} can have, which is {rows}x{columns} as a matrix: "
            "take a lower rank, or patterns without it"
        )
