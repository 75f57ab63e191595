"""What tokens attend to: the weights of attention layers, and what becomes of them over depth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array

from cnnjax.core import trees
from cnnjax.explain.inputs import checked_images, checked_inputs
from cnnjax.explain.layer_gradients import as_heat
from cnnjax.explain.tokens import Grid, rearrangement
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables


def attention_maps(
    model: Model, inputs: Any, layers: Sequence[str] | None = None
) -> dict[str, Array]:
    """The weights with which each token of attention layers takes values from the others.

    Args:
        model: with layers of `linen.MultiHeadDotProductAttention` or `linen.SelfAttention`, with
            any `attention_fn` that is linear in the values.
        inputs: preprocessed, as `model(...)` takes them.
        layers: names or patterns of such layers; None takes all.

    Returns:
        {layer: [N, heads, T, S]}, of T tokens that attend to S, in the order of the calls; a layer
        that is called several times, as in `nn.scan`, has an entry per call: "blocks/attend@0".

    Raises:
        ValueError: for a model without such layers, or a name that is none (offers the nearest).

    >>> class Net(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x):
    ...         layer = linen.MultiHeadDotProductAttention(num_heads=2, name="attend")
    ...         return linen.Dense(3, name="logits")(layer(x.reshape(len(x), 16, 4)).mean(1))
    >>> model = Model.from_module(Net(), (4, 4, 4))
    >>> attention_maps(model, np.zeros((5, 4, 4, 4), np.float32))["attend"].shape
    (5, 2, 16, 16)
    """
    given = checked_inputs(model, inputs)
    static, root = model.static, model.spec.name
    known = _attention_layers(static, root, model.variables, given)
    if not known:
        raise ValueError(
            f"{root} calls no linen.MultiHeadDotProductAttention or linen.SelfAttention, whose "
            "weights could be read"
        )
    patterns = [layers] if isinstance(layers, str) else layers
    chosen = set(known) if patterns is None else trees.select(known, patterns, "layers", "layer")
    wanted = tuple(name for name in known if name in chosen)
    weights = _weights(static, root, wanted, model.variables, given)
    maps: dict[str, Array] = {}
    for name in wanted:
        calls = weights[name]
        maps |= {name: calls[0]} if len(calls) == 1 else _numbered(name, calls)
    return maps


def attention_rollout(
    model: Model, images: Array | np.ndarray, to_map: Sequence[int] | None = None
) -> Array:
    """Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928): where attention comes from.

    The product over the layers, from the first on, of `(mean over heads of A + I) / 2`: how much of
    each first token is in each last one, as if tokens were only mixed. It knows of no class.

    Args:
        model: of images, all of whose attention layers have the same tokens, as a ViT's.
        images: preprocessed inputs, [N, H, W, C] floating.
        to_map: (rows, columns, first tokens skipped), as in `grad_cam`.

    Returns:
        float32 [N, H, W] in [0, 1]: what is in the class token, the first one, where the grid
        leaves it out; else the mean over the tokens.

    Raises:
        ValueError: as `attention_maps`; for layers of other tokens, or where the grid cannot be
            told.
    """
    inputs = checked_images(model, images)
    maps = attention_maps(model, inputs)
    shapes = {name: each.shape[-2:] for name, each in maps.items()}
    name, (count, _) = next(iter(shapes.items()))
    if set(shapes.values()) != {(count, count)}:
        raise ValueError(
            f"the attention layers of {model.spec.name} have other tokens, {shapes}: a rollout "
            "follows the same tokens through all layers"
        )
    size = (inputs.shape[1], inputs.shape[2])
    grid = rearrangement(to_map, name, (1, count, 1), size)
    if not isinstance(grid, Grid):
        raise ValueError(f"to_map must be (rows, columns, first tokens skipped), got {to_map!r}")
    rollout = _rollout(list(maps.values()))
    rows = rollout[:, 0] if grid.skipped else rollout.mean(axis=1)
    heat, _ = as_heat(grid(rows[..., None])[..., 0], size)
    return heat


def _numbered(name: str, calls: Sequence[Array]) -> dict[str, Array]:
    return {f"{name}@{i}": weights for i, weights in enumerate(calls)}


@jax.jit
def _rollout(maps: list[Array]) -> Array:
    """[N, T, T], what each token after the last layer has of each before the first."""
    unit = jnp.eye(maps[0].shape[-1], dtype=maps[0].dtype)[None]
    mixed = [(each.mean(axis=1) + unit) / 2 for each in maps]
    return functools.reduce(lambda before, now: now @ before, mixed)


def _attention_layers(
    static: Static, root: str, variables: Variables, inputs: Any
) -> tuple[str, ...]:
    """Paths of the attention layers in the order of their first calls; nothing is computed."""
    paths: dict[str, None] = {}

    def noted(visit: taps.Visit) -> Any:
        if isinstance(visit.module, linen.MultiHeadDotProductAttention):
            paths[visit.path] = None
        return visit.proceed()

    jax.eval_shape(
        lambda v, x: taps.run(static, v, x, root=root, edit=noted).outputs, variables, inputs
    )
    return tuple(paths)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _weights(
    static: Static, root: str, wanted: tuple[str, ...], variables: Variables, inputs: Any
) -> dict[str, list[Array]]:
    """Of each layer the weights of each of its calls, [N, heads, T, S]."""

    def looked(visit: taps.Visit) -> Any:
        return _with_weights(visit) if visit.path in wanted else visit.proceed()

    return taps.run(static, variables, inputs, root=root, read=wanted, edit=looked).layers


def _with_weights(visit: taps.Visit) -> taps.Kept:
    """A call of an attention layer, of which the weights are read in the place of the output."""
    module, weights = visit.module, []
    attend = module.attention_fn

    @functools.wraps(attend)  # the layer looks at its arguments
    def watched(query: Array, key: Array, value: Array, *args: Any, **kwargs: Any) -> Array:
        def of(values: Array) -> Array:
            return attend(query, key, values, *args, **kwargs)

        weights.append(_weights_of(of, value))
        return of(value)

    object.__setattr__(module, "attention_fn", watched)
    try:
        output = visit.proceed()
    finally:
        object.__setattr__(module, "attention_fn", attend)
    return taps.Kept(output, weights[-1])


def _weights_of(attend: Callable[[Array], Array], value: Array) -> Array:
    """What attention makes of unit vectors: its weights, [..., heads, T, S].

    Args:
        attend: linear, of values [..., S, heads, D] to [..., T, heads, D].
        value: the values, whose shape it may insist on; so many units are asked at once.
    """
    count, depth = value.shape[-3], value.shape[-1]
    units = jnp.eye(count, -(-count // depth) * depth, dtype=value.dtype)[:, None]
    parts = [
        attend(jnp.broadcast_to(units[..., start : start + depth], value.shape))
        for start in range(0, count, depth)
    ]
    return jnp.moveaxis(jnp.concatenate(parts, axis=-1)[..., :count], -2, -3)
