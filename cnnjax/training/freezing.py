"""What is frozen: an optax partition of the parameters, and the proof that it did not move."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.core import trees
from cnnjax.core.text import plain, without_address

Tree = dict[str, Any]

_TRAINED, _FROZEN = "trained", "frozen"  # labels of the partition


def freeze(
    optimizer: optax.GradientTransformation,
    patterns: Sequence[str],
    params: Tree,
    state: Mapping[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimiser of all parameters that leaves some as they are: `optax.partition` by patterns.

    What is trained gets the optimiser, which keeps no state for the rest and sees
    `optax.MaskedNode()` in its place; the rest gets `optax.set_to_zero`. Gradients of frozen leaves
    are not looked at, so that XLA drops their computation in a jitted step, in which frozen leaves
    stay to the bit; they may also be `optax.MaskedNode()` themselves. The zeros are negative ones,
    which leave -0.0 as it is also where nothing is jitted.

    Args:
        optimizer: any optax transformation.
        patterns: of layers or parameters, as `TrainingConfig.frozen` has them.
        params: {layer: {weight: array}}, of which the names count.
        state: the model's further collections, whose layers patterns may name as well.

    Returns:
        A transformation of the whole tree. Its `update` hands on further arguments that the
        optimiser takes; value_fn and grad_fn get parameters with `optax.MaskedNode()` for frozen.

    Raises:
        ValueError: if a pattern names nothing, with the nearest names, or nothing is left to train.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mlp", units=(8,))
    >>> params, inputs = model.params, jnp.ones((4, 28, 28, 1))
    >>> optimizer = cj.training.freeze(optax.adam(1e-3), ("dense1",), params)
    >>> opt_state = optimizer.init(params)
    >>> def loss(params):
    ...     return jnp.mean(model.functions().apply(params, model.state, inputs) ** 2)
    >>> @jax.jit
    ... def step(params, opt_state):
    ...     updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
    ...     return optax.apply_updates(params, updates), opt_state
    >>> after, opt_state = step(params, opt_state)
    >>> [bool((after[layer]["kernel"] == params[layer]["kernel"]).all()) for layer in params]
    [True, False]
    """
    check_transformation(optimizer)
    held = frozen_parameters(params, state or {}, patterns, "patterns")
    return partition(optimizer, held, params)


def partition(
    optimizer: optax.GradientTransformation, held: Set[str], params: Tree
) -> optax.GradientTransformationExtraArgs:
    """`freeze`, by the paths of what is frozen."""
    labels = trees.map_flat(lambda path, _: _FROZEN if path in held else _TRAINED, params)
    return optax.partition(
        {_TRAINED: _with_known_arguments(optimizer), _FROZEN: _minus_zero()},
        labels,
        mask_compatible_extra_args=True,
    )


def refreeze(
    opt_state: optax.OptState, optimizer: optax.GradientTransformation, params: Tree
) -> optax.OptState:
    """The first state of an optimiser that goes on where one with other layers frozen ended.

    Leaves trained before and now keep their moments; those of leaves set free begin as in
    `optimizer.init`. What counts steps, as schedules and corrections of the moments' start do,
    begins anew too, since what is set free has no past. For layers that go on Adam's first steps
    are therefore a third to twice as long as they were. Of optimisers whose correction enlarges a
    first moment alone (`optax.adamax`, `radam`, `adan`, `ema` with debias) they are ten times as
    long, and `optax.amsgrad` stays slow: begin with `optimizer.init` for these.

    Args:
        opt_state: of an optimiser made by `freeze`, e.g. `Run.opt_state`.
        optimizer: made by `freeze` of one of the same kind; rates may be other ones.
        params: the parameters, whole.

    Returns:
        In place of `optimizer.init(params)`; it may share arrays with opt_state.

    Raises:
        ValueError: if the two are of other kinds, or parameters have other shapes than then.

    >>> params = {"base": {"kernel": jnp.ones(3)}, "head": {"kernel": jnp.ones(2)}}
    >>> first = freeze(optax.trace(0.9), ("base",), params)
    >>> _, opt_state = first.update(params, first.init(params), params)
    >>> second = freeze(optax.trace(0.9), (), params)
    >>> [leaf.tolist() for leaf in jax.tree.leaves(refreeze(opt_state, second, params))]
    [[0.0, 0.0, 0.0], [1.0, 1.0]]
    """
    fresh = optimizer.init(params)
    wanted: Any = jax.tree.structure(fresh, is_leaf=_is_hole)
    if wanted != jax.tree.structure(opt_state, is_leaf=_is_hole):
        raise ValueError(
            "opt_state is of another optimiser or of other layers than those to train: give the "
            "state of one made by the same function, e.g. Run.opt_state of the run before"
        )
    form: Any = jax.tree.structure(params)

    def is_moment(node: Any) -> bool:
        return jax.tree.structure(node, is_leaf=_is_hole) == form

    def moment(path: Any, new: Any, old: Any) -> Any:
        if _is_hole(new) or _is_hole(old):
            return new
        (was, now) = ((list(jnp.shape(leaf)), jnp.result_type(leaf).name) for leaf in (old, new))
        if was != now:
            name = trees.join(str(key.key) for key in path)
            raise ValueError(f"opt_state has {name} of {was[1]}{was[0]}, which is {now[1]}{now[0]}")
        return old

    def carried(new: Any, old: Any) -> Any:
        if not is_moment(new):
            return new
        return jax.tree_util.tree_map_with_path(moment, new, old, is_leaf=_is_hole)

    return jax.tree.map(carried, fresh, opt_state, is_leaf=is_moment)


def frozen_parameters(
    params: Tree, state: Mapping[str, Any], patterns: Sequence[str], argument: str = "frozen"
) -> set[str]:
    """Paths of the parameters that patterns freeze.

    Args:
        params, state: of a model.
        patterns: of layers that stay as they are.
        argument: what to call them in an error.

    Raises:
        ValueError: if a pattern names neither parameters nor statistics, or nothing is left.
    """
    flat = trees.leaves(params)
    # A normalisation without scale and offset has statistics only.
    others = (path for tree in state.values() for path in trees.leaves(tree))
    held = trees.select({**flat, **dict.fromkeys(others)}, patterns, argument) & set(flat)
    if held == set(flat):
        raise ValueError(f"{argument}={tuple(patterns)!r} leaves no parameter to train")
    return held


def frozen_by(opt_state: Any) -> set[str]:
    """Paths of the parameters that the optimiser of a state leaves as they are.

    Raises:
        ValueError: for the state of an optimiser that is not made by `freeze`.
    """
    parts = getattr(opt_state, "inner_states", {})
    if _FROZEN not in parts:
        raise ValueError(
            "opt_state must be one of TrainState.create, or of an optimiser made by freeze, got "
            f"a {type(opt_state).__name__}"
        )
    tree = parts[_FROZEN].inner_state
    return {path for path, leaf in trees.leaves(tree).items() if leaf is None}


def trained_part(params: Tree, held: Set[str]) -> Tree:
    """Parameters with `optax.MaskedNode()`, a node without leaves, in place of those held."""
    return trees.map_flat(lambda path, leaf: optax.MaskedNode() if path in held else leaf, params)


def whole(trained: Tree, params: Tree) -> Tree:
    """A trained part, with the leaves of all parameters where it has none: the very arrays."""
    return jax.tree.map(
        lambda leaf, kept: kept if _is_hole(leaf) else leaf, trained, params, is_leaf=_is_hole
    )


def check_transformation(optimizer: Any) -> None:
    """Refuse what is no optax transformation.

    Raises:
        ValueError: for anything without `init` and `update`, as a function that makes one.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(
            "optimizer must be an optax transformation, e.g. optax.adam(1e-3), got "
            f"{plain(without_address(str(optimizer)))}"
        )


def _is_hole(node: Any) -> bool:
    """Where a tree of the parameters' form has no leaf: of another part of the partition."""
    return node is None or isinstance(node, optax.MaskedNode)


def _minus_zero() -> optax.GradientTransformation:
    """`optax.set_to_zero`, whose zeros change nothing: 0.0 added to -0.0 would be 0.0.

    Its state holds no array, and tells by its form what is frozen.
    """
    zero = optax.set_to_zero()

    def init(params: optax.Params) -> optax.OptState:
        return jax.tree.map(lambda _: None, params)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        zeros, _ = zero.update(updates, optax.EmptyState(), params)
        return jax.tree.map(jnp.negative, zeros), state

    return optax.GradientTransformation(init, update)


def _with_known_arguments(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """An optimiser whose `update` may be offered more than it takes."""
    known = inspect.signature(optimizer.update).parameters.values()
    names = {p.name for p in known}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in known)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **offered: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        taken = {k: v for k, v in offered.items() if takes_all or k in names}
        return optimizer.update(updates, state, params, **taken)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
