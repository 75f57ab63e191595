"""Freezing by optax in loops of one's own, of odd leaves, and an optimiser's state that goes on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from jax.extend.core import jaxprs_in_params
from optax import contrib

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.runs import RunError
from cnnjax.training import TrainState, freeze, make_train_step, refreeze

Arrays = tuple[np.ndarray, np.ndarray]

# Zero and minus zero, infinities, denormals, and NaN of payloads, two of them signalling.
ODD = np.array(
    [0, 1 << 31, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x7FC01234, 0xFFC00001, 0x7F800001],
    np.uint32,
).view(np.float32)


def odd_leaves() -> dict[str, jax.Array]:
    """Of all widths; a cast would quieten a signalling NaN, hence by their bits."""
    halves = (ODD.view(np.uint32) >> 16).astype(np.uint16)
    return {
        "single": jnp.asarray(ODD),
        "brain": jax.lax.bitcast_convert_type(jnp.asarray(halves), jnp.bfloat16),
        "half": jax.lax.bitcast_convert_type(
            jnp.asarray([0, 1 << 15, 0x7C00, 1, 0x8001, 0x7E12, 0x7C01], jnp.uint16), jnp.float16
        ),
        "whole": jnp.asarray([0, -(2**31), 2**31 - 1, 16_777_217], jnp.int32),
    }


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# In a loop of optax alone


def parameters() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    floats = {k: v for k, v in odd_leaves().items() if k != "whole"}
    return {
        "base/one": {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), **floats},
        "head": {
            "bias": jnp.asarray(rng.normal(size=2), jnp.float32),
            "kernel": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        },
    }


def squares_of(params: Any) -> jax.Array:
    x = jnp.linspace(-1.0, 1.0, 15).reshape(5, 3) @ params["base/one"]["kernel"]
    return jnp.mean((x @ params["head"]["kernel"] + params["head"]["bias"][None] - 1.0) ** 2)


def loop(optimizer: Any, params: Any, loss: Callable, wrap: Callable = jax.jit) -> Any:
    def step(params: Any, opt_state: Any) -> Any:
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for _ in range(3):
        params, opt_state = wrap(step)(params, opt_state)
    return params


def is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


OPTIMIZERS = {
    "adam": optax.adam(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0, momentum=0.9)),
    "decayed": optax.adamw(0.1, weight_decay=0.5, mask=is_kernel),
    "labels": optax.partition({True: optax.adam(0.1), False: optax.sgd(0.1)}, is_kernel),
    "hyperparams": optax.inject_hyperparams(optax.rmsprop)(0.1),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rest_is_trained_as_if_there_were_nothing_else(name: str) -> None:
    params = parameters()
    after = loop(freeze(OPTIMIZERS[name], ("base*",), params), params, squares_of)

    def of_head(head: Any) -> jax.Array:
        return squares_of({**params, "head": head})

    alone = loop(OPTIMIZERS[name], params["head"], of_head)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after["head"], alone)
    assert bits(after["base/one"]) == bits(params["base/one"])
    assert bits(after["head"]) != bits(params["head"])


def test_minus_zero_stays_also_where_nothing_is_compiled() -> None:
    params = {"base": jnp.asarray([0.0, -0.0]), "head": jnp.ones(2)}
    after = loop(
        freeze(optax.sgd(0.1), ("base",), params), params, lambda p: p["head"].sum(), lambda f: f
    )
    assert bits(after["base"]) == bits(params["base"])


def test_no_state_is_kept_and_no_gradient_needed_for_what_is_frozen() -> None:
    params = parameters()
    optimizer = freeze(optax.adam(0.1), ("base~1one",), params)
    state = optimizer.init(params)
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(state)) == 2 * 10 + 1
    gradients = jax.tree.map(jnp.ones_like, params)
    hidden = {**gradients, "base/one": dict.fromkeys(params["base/one"], optax.MaskedNode())}
    updates, _ = optimizer.update(hidden, state, params)
    wanted, _ = optimizer.update(gradients, state, params)
    assert bits(updates["head"]) == bits(wanted["head"])
    assert not jax.tree.leaves(updates["base/one"])


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("heads",), r"^patterns='heads' names no parameter\. Did you mean 'head'\?$"),
        (("*",), r"^patterns=\('\*',\) leaves no parameter to train$"),
        ("head", r"^patterns must be a tuple of patterns, got the string 'head'$"),
    ],
)
def test_patterns_that_cannot_be_are_refused(patterns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(optax.sgd(0.1), patterns, parameters())


def test_only_an_optax_transformation_can_be_frozen() -> None:
    with pytest.raises(ValueError, match=r"^optimizer must be an optax transformation"):
        freeze(optax.sgd, ("head",), parameters())  # type: ignore[arg-type]


def test_patterns_may_name_layers_that_have_statistics_only() -> None:
    params, state = {"head": jnp.ones(2)}, {"batch_stats": {"norm": {"mean": jnp.zeros(2)}}}
    with pytest.raises(ValueError, match=r"^patterns='norm' names no parameter"):
        freeze(optax.sgd(0.1), ("norm",), params)
    optimizer = freeze(optax.sgd(0.1), ("norm",), params, state)
    assert float(loop(optimizer, params, lambda p: p["head"].sum())["head"][0]) < 1


# In our step


class Odd(linen.Module):
    """A net with leaves that gradients do not know, and one of a size of its own."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        for name, leaf in odd_leaves().items():
            self.param(name, lambda _, leaf=leaf: leaf)
        x = linen.Dense(7, name="base")(x.reshape(x.shape[0], -1))
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(2, name="head")(x)


FROZEN = ("single", "brain", "half", "whole", "base", "norm/bias", "norm/var")


@functools.cache
def net() -> cj.Model:
    return cj.Model.from_module(Odd(), (3, 3, 1))


def batch(count: int = 6) -> dict[str, np.ndarray]:
    images = np.random.default_rng(1).integers(0, 256, (count, 3, 3, 1), dtype=np.uint8)
    return {"inputs": images, "labels": np.arange(count, dtype=np.int32) % 2}


def parts(frozen: tuple[str, ...] = FROZEN, optimizer: Any = None, **settings: Any) -> Any:
    optimizer = optimizer or optax.adam(0.1)
    state = TrainState.create(net(), optimizer, frozen=frozen, average=True)
    return state, make_train_step(net(), None, optimizer, frozen, average=0.5, **settings)


def kept(variables: Any) -> dict[str, bytes]:
    return {
        path: np.asarray(leaf).tobytes()
        for path, leaf in trees.flatten(variables).items()
        if any(trees.matches(path.partition("/")[2], pattern) for pattern in FROZEN)
    }


@pytest.mark.sample(1)
@pytest.mark.parametrize("how", ["jit", "donated", "scan", "vmap", "bfloat16"])
def test_every_bit_of_what_is_frozen_stays(how: str) -> None:
    state, step = parts(precision="bfloat16" if how == "bfloat16" else "float32")
    before, one = state.variables(), batch()
    wanted = kept(before)
    assert len(wanted) == 8
    if how == "scan":
        many = jax.tree.map(lambda leaf: np.stack([leaf] * 3), one)
        after, _ = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, many)
    elif how == "vmap":
        states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
        states, _ = jax.jit(jax.vmap(step, in_axes=(0, None)))(states, one)
        after = jax.tree.map(lambda leaf: leaf[1], states)
    else:
        run = jax.jit(step, donate_argnums=0 if how == "donated" else ())
        after, _ = run(state, one)
        after, _ = run(after, one)
    assert kept(after.variables()) == wanted
    flat, old = trees.flatten(after.variables()), trees.flatten(net().variables)
    moved = {p for p in flat if np.asarray(flat[p]).tobytes() != np.asarray(old[p]).tobytes()}
    assert moved == {
        "params/head/bias", "params/head/kernel", "params/norm/scale", "batch_stats/norm/mean",
    }  # fmt: skip
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_nothing_of_the_size_of_a_frozen_kernel_is_computed() -> None:
    def computed(frozen: tuple[str, ...]) -> set[str]:
        state, step = parts(frozen)
        found = set()

        def look(jaxpr: Any) -> None:
            for equation in jaxpr.eqns:
                if any(getattr(v.aval, "shape", ()) == (9, 7) for v in equation.outvars):
                    found.add(equation.primitive.name)
                for inner in jaxprs_in_params(equation.params):
                    look(inner)

        look(jax.make_jaxpr(step)(state, batch()).jaxpr)
        return found

    assert computed(FROZEN) == {"stop_gradient"}
    assert "sqrt" in computed(FROZEN[:4])  # of Adam


def test_statistics_alone_can_be_frozen() -> None:
    state, step = parts(("norm/mean", "norm/var", "brain", "half", "whole", "single"))
    after, _ = jax.jit(step)(state, batch())
    assert bits(after.state) == bits(state.state)
    assert bits(after.params["norm"]) != bits(state.params["norm"])


@pytest.mark.thorough
def test_an_optimiser_of_the_callers_that_freezes_itself_trains_in_fit(squares: Arrays) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = cj.TrainingConfig(epochs=1, batch_size=32, monitor=None)
    own = freeze(optax.adam(0.1), ("dense1",), model.params)
    one = cj.fit(model, squares, config, optimizer=own, verbose=False)
    frozen = cj.TrainingConfig(epochs=1, batch_size=32, monitor=None, frozen=("dense1",))
    two = cj.fit(model, squares, frozen, optimizer=optax.adam(0.1), verbose=False)
    assert one.parameter_hash == two.parameter_hash


SEARCH = optax.scale_by_backtracking_linesearch(3)
SECOND_ORDER = {
    "polyak": optax.polyak_sgd(),
    "sam": contrib.sam(
        optax.sgd(0.1), optax.chain(contrib.normalize(), optax.sgd(0.05)), opaque_mode=True
    ),
    "lbfgs": optax.lbfgs(memory_size=2, linesearch=SEARCH),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_optimisers_that_ask_for_more_ask_about_the_trained_part(name: str) -> None:
    optimizer = SECOND_ORDER[name]
    frozen = (*(p for p in FROZEN if not p.startswith("norm")), "norm")
    state, step = parts(frozen, optimizer)
    step, one, model = jax.jit(step), batch(), net()
    inputs = model.spec.preprocess(one["inputs"])

    def loss(head: Any) -> jax.Array:
        params = {**model.params, "head": head}
        logits = model.functions().apply(params, model.state, inputs)
        return cj.metrics.softmax_cross_entropy(logits, jnp.asarray(one["labels"])).mean()

    head, opt_state = model.params["head"], optimizer.init(model.params["head"])
    for _ in range(2):
        state, _ = step(state, one)
        value, grad = jax.value_and_grad(loss)(head)
        more = {
            "lbfgs": {"value": value, "grad": grad, "value_fn": loss},
            "sam": {"grad_fn": lambda params, _: jax.grad(loss)(params)},
            "polyak": {"value": value},
        }[name]
        updates, opt_state = optimizer.update(grad, opt_state, head, **more)
        head = optax.apply_updates(head, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        state.params["head"], head,
    )  # fmt: skip


def test_a_state_of_an_optimiser_that_is_not_frozen_is_explained() -> None:
    state, step = parts()
    other = TrainState(**{**vars(state), "opt_state": optax.adam(0.1).init(state.params)})
    with pytest.raises(ValueError, match=r"^opt_state must be one of TrainState\.create, .* tuple"):
        step(other, batch())


# What goes on


def test_moments_go_on_where_both_train_and_begin_anew_elsewhere() -> None:
    params = {k: {"kernel": jnp.ones(n)} for k, n in (("a", 1), ("b", 2), ("c", 3))}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 5))
    first = freeze(optimizer, ("a",), params)
    opt_state = first.init(params)
    for _ in range(2):
        _, opt_state = first.update(params, opt_state, params)
    second = freeze(optimizer, ("c",), params)
    fresh, on = second.init(params), refreeze(opt_state, second, params)
    assert jax.tree.structure(on) == jax.tree.structure(fresh)
    (scaled, rate) = on.inner_states["trained"].inner_state
    (before, _) = opt_state.inner_states["trained"].inner_state
    assert bits(scaled.mu["b"]) == bits(before.mu["b"])
    assert bits(scaled.nu["b"]) == bits(before.nu["b"])
    assert bits(scaled.mu["a"]) == bits({"kernel": np.zeros(1, np.float32)})
    assert isinstance(scaled.mu["c"]["kernel"], optax.MaskedNode)
    # What counts steps begins anew: the schedule, and the correction of the moments' start.
    assert (int(scaled.count), int(rate.count)) == (0, 0)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_of_all_kinds_go_on_and_train(name: str) -> None:
    params = parameters()
    first = freeze(OPTIMIZERS[name], ("base*", "head/bias"), params)
    second = freeze(OPTIMIZERS[name], ("base*",), params)
    gradients = jax.tree.map(jnp.ones_like, params)
    _, opt_state = first.update(gradients, first.init(params), params)
    on = refreeze(opt_state, second, params)
    assert jax.tree.map(jnp.shape, on) == jax.tree.map(jnp.shape, second.init(params))
    again, _ = second.update(gradients, on, params)
    anew, _ = second.update(gradients, second.init(params), params)
    assert bits(again["head"]["kernel"]) != bits(anew["head"]["kernel"])


def test_hyperparameters_are_those_of_the_new_optimiser() -> None:
    params = parameters()
    slow, fast = (
        freeze(optax.inject_hyperparams(optax.sgd)(rate, momentum=0.9), ("base*",), params)
        for rate in (0.1, 10.0)
    )
    on = refreeze(slow.init(params), fast, params)
    rates = on.inner_states["trained"].inner_state.hyperparams
    assert float(rates["learning_rate"]) == 10.0


@pytest.mark.parametrize(
    ("before", "shape", "message"),
    [
        (optax.sgd(0.1, momentum=0.9), 2, "opt_state is of another optimiser or of other layers"),
        (optax.adam(0.1), 3, r"opt_state has head/kernel of float32\[3\], which is float32\[2\]$"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(before: Any, shape: int, message: str) -> None:
    def params(size: int) -> dict[str, Any]:
        return {"base": {"kernel": jnp.ones(4)}, "head": {"kernel": jnp.ones(size)}}

    opt_state = freeze(before, ("base",), params(shape)).init(params(shape))
    after = freeze(optax.adam(0.1), (), params(2))
    with pytest.raises(ValueError, match=message):
        refreeze(opt_state, after, params(2))
    with pytest.raises(ValueError, match="opt_state is of another optimiser or of other layers"):
        refreeze(optax.adam(0.1).init(params(2)), after, params(2))


# Two stages of fit


def small() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))


def stage(model: cj.Model, data: Any, **settings: Any) -> cj.Run:
    given = {k: settings.pop(k) for k in ("opt_state", "directory") if k in settings}
    if not isinstance(settings.get("optimizer", ""), str):
        given["optimizer"] = settings.pop("optimizer")
    config = cj.TrainingConfig(**{"epochs": 1, "monitor": None, **settings})
    return cj.fit(model, data, config, verbose=False, **given)


@pytest.mark.thorough
def test_a_second_stage_steps_with_the_first_ones_moments(squares: Arrays) -> None:
    data = squares[0][:24], squares[1][:24]
    settings = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "batch_size": 24}
    first = stage(small(), data, frozen=("dense1",), **settings)
    second = stage(first.model, data, opt_state=first.opt_state, **settings)
    anew = stage(first.model, data, **settings)
    old, new = (trees.flatten(run.model.params) for run in (anew, second))
    moved = {p: np.asarray(b) - np.asarray(a) for (p, a), (_, b) in zip(
        trees.flatten(small().params).items(), trees.flatten(first.model.params).items(),
        strict=True,
    )}  # fmt: skip
    # By hand: a step of momentum is 0.9 times the last one longer, and of dense1 there is none.
    for path in new:
        np.testing.assert_allclose(new[path] - old[path], 0.9 * moved[path], rtol=1e-3, atol=1e-6)
    assert bits(new["dense1/kernel"]) == bits(old["dense1/kernel"])
    assert np.abs(moved["logits/kernel"]).max() > 1e-4


@pytest.mark.thorough
def test_the_state_is_that_of_the_best_epoch_also_of_a_resumed_run(
    squares: Arrays, tmp_path: Path
) -> None:
    parts = cj.data.as_splits(squares).with_validation(0.25)
    settings = {"monitor": "loss", "learning_rate": 0.5, "optimizer": "adam", "batch_size": 24}
    run = stage(small(), parts, epochs=4, directory=tmp_path / "run", **settings)
    per_epoch = int(run.history["step"][0])
    assert run.best_epoch < 4

    def steps(one: cj.Run) -> int:
        return int(one.opt_state.inner_states["trained"].inner_state[2].steps)

    assert steps(run) == run.best_epoch * per_epoch
    again = stage(small(), parts, epochs=4, directory=tmp_path / "run", resume=True, **settings)
    assert bits(again.opt_state) == bits(run.opt_state)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(again.opt_state))


def test_a_run_is_resumed_and_reproduced_with_the_state_it_began_with(
    squares: Arrays, tmp_path: Path
) -> None:
    settings = {"optimizer": "adam", "batch_size": 32}
    first = stage(small(), squares, frozen=("dense1",), **settings)
    began = {"opt_state": first.opt_state, "directory": tmp_path / "run", **settings}
    second = stage(first.model, squares, **began)
    again = stage(first.model, squares, **began, resume=True)
    assert again.parameter_hash == second.parameter_hash
    del began["opt_state"]
    with pytest.raises(RunError, match=r"other settings .*opt_state"):
        stage(first.model, squares, **began, resume=True)
    with pytest.raises(RunError, match=r"with the Run\.opt_state of another run as its opt_state"):
        cj.reproduce(tmp_path / "run", squares, first.model, verbose=False)
    found = cj.reproduce(
        tmp_path / "run", squares, first.model, opt_state=first.opt_state, verbose=False
    )
    assert found.same
    assert not any("opt_state" in line for line in found.circumstances)


def test_moments_go_on_under_other_settings_of_the_same_optimiser(squares: Arrays) -> None:
    params = small().params

    def made(**settings: Any) -> optax.GradientTransformation:
        return freeze(cj.training.make_optimizer(cj.TrainingConfig(**settings), 4), (), params)

    adam, sgd = {"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9}
    _, old = made(**adam).update(params, made(**adam).init(params), params)
    for changes in ({"clip_norm": 1.0}, {"weight_decay": 0.1}, {"schedule": "cosine"}):
        on = refreeze(old, made(**adam, **changes), params)
        assert bits(on.inner_states["trained"].inner_state[2].mu) == bits(
            old.inner_states["trained"].inner_state[2].mu
        )
    with pytest.raises(ValueError, match="momentum in both or in neither"):
        refreeze(made(**sgd).init(params), made(optimizer="sgd"), params)


@pytest.mark.thorough
def test_a_random_key_in_an_optimisers_state_goes_on(squares: Arrays, tmp_path: Path) -> None:
    optimizer = optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(3)), optax.sgd(0.1))
    parts = cj.data.as_splits(squares).with_validation(0.25)
    settings = {"optimizer": optimizer, "monitor": "loss", "directory": tmp_path / "one"}
    first = stage(small(), parts, **settings)
    second = {**settings, "directory": tmp_path / "two", "opt_state": first.opt_state}
    assert stage(first.model, parts, **second).parameter_hash != first.parameter_hash
