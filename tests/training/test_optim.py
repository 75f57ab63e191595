"""Optimisers step as Keras' do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.config import TrainingConfig
from cnnjax.core import trees
from cnnjax.models.builder import build
from cnnjax.models.graph import weighted_layers
from cnnjax.training import learning_rate_factors, make_optimizer

STEPS = 12


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "kernel": rng.normal(size=(4, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
    }


def gradients(step: int) -> dict[str, np.ndarray]:
    """Random ones of every size from 1e-12 to 10: the small ones show where epsilon stands."""
    rng = np.random.default_rng(100 + step)
    return {
        k: (rng.normal(size=v.shape) * 10.0 ** rng.integers(-12, 2, v.shape)).astype(np.float32)
        for k, v in parameters().items()
    }


def our_steps(optimizer: optax.GradientTransformation) -> list[dict[str, np.ndarray]]:
    params: Any = jax.tree.map(jnp.asarray, parameters())
    state = optimizer.init(params)
    taken = []
    for step in range(STEPS):
        grads = jax.tree.map(jnp.asarray, gradients(step))
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        taken.append(jax.tree.map(np.asarray, params))
    return taken


def keras_steps(optimizer: Any) -> list[dict[str, np.ndarray]]:
    import keras

    with jax.numpy_rank_promotion("allow"):
        variables = {k: keras.Variable(v, name=k) for k, v in parameters().items()}
        optimizer.build(list(variables.values()))
        taken = []
        for step in range(STEPS):
            grads = gradients(step)
            optimizer.apply([jnp.asarray(grads[k]) for k in variables])
            taken.append({k: np.array(v.value) for k, v in variables.items()})
    return taken


def assert_same_steps(ours: list[dict], theirs: list[dict]) -> None:
    before = parameters()
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for name in a:
            # The change of a step, so that a wrong epsilon is not hidden below the weights.
            got, wanted = a[name] - before[name], b[name] - before[name]
            np.testing.assert_allclose(
                got, wanted, rtol=2e-4, atol=1e-6, err_msg=f"{name}, step {step + 1}"
            )


def keras_optimizer(name: str, **arguments: Any) -> Callable[[], Any]:
    def make() -> Any:
        import keras

        return getattr(keras.optimizers, name)(**arguments)

    return make


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (TrainingConfig(optimizer="rmsprop_keras3"), keras_optimizer("RMSprop")),
        (
            TrainingConfig(optimizer="rmsprop_keras3", learning_rate=0.05),
            keras_optimizer("RMSprop", learning_rate=0.05),
        ),
        (TrainingConfig(optimizer="adam"), keras_optimizer("Adam")),
        (
            TrainingConfig(optimizer="adam", learning_rate=0.05),
            keras_optimizer("Adam", learning_rate=0.05),
        ),
        (
            TrainingConfig(optimizer="sgd", learning_rate=0.01),
            keras_optimizer("SGD", learning_rate=0.01),
        ),
        (
            TrainingConfig(optimizer="sgd", learning_rate=0.01, momentum=0.9),
            keras_optimizer("SGD", learning_rate=0.01, momentum=0.9),
        ),
    ],
    ids=["rmsprop_keras3", "rmsprop_keras3-fast", "adam", "adam-fast", "sgd", "sgd-momentum"],
)
def test_steps_are_those_of_keras(config: TrainingConfig, theirs: Callable[[], Any]) -> None:
    assert_same_steps(our_steps(make_optimizer(config, STEPS)), keras_steps(theirs()))


@pytest.mark.parametrize("name", ["sgd", "rmsprop_keras3", "adam"])
def test_steps_of_a_changing_rate_are_those_of_keras(name: str) -> None:
    import keras

    momentum = 0.9 if name == "sgd" else 0.0
    config = TrainingConfig(
        optimizer=name, learning_rate=0.05, schedule="cosine", momentum=momentum
    )
    rate = keras.optimizers.schedules.CosineDecay(0.05, STEPS)
    kinds = {"sgd": "SGD", "rmsprop_keras3": "RMSprop", "adam": "Adam"}
    arguments = {"momentum": momentum} if name == "sgd" else {}
    theirs = keras_optimizer(kinds[name], learning_rate=rate, **arguments)()
    assert_same_steps(our_steps(make_optimizer(config, STEPS)), keras_steps(theirs))


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6, 1e-9])
def test_rmsprop_follows_the_formula_of_keras_2_in_float64(size: float) -> None:
    config = TrainingConfig(optimizer="rmsprop", learning_rate=0.01)
    optimizer = make_optimizer(config, STEPS)
    ours: Any = jax.tree.map(jnp.asarray, parameters())
    wanted = {name: np.asarray(value, np.float64) for name, value in parameters().items()}
    squares = {name: np.zeros_like(value) for name, value in wanted.items()}
    state = optimizer.init(ours)
    for step in range(STEPS):
        grads = {k: np.asarray(g * np.float32(size)) for k, g in gradients(step).items()}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
        ours = optax.apply_updates(ours, updates)
        for name, gradient in grads.items():
            g = gradient.astype(np.float64)
            squares[name] = 0.9 * squares[name] + 0.1 * g * g
            wanted[name] -= 0.01 * g / (np.sqrt(squares[name]) + 1e-7)
            np.testing.assert_allclose(ours[name], wanted[name], rtol=2e-4, atol=1e-6)


def test_rmsprop_is_that_of_pytorch() -> None:
    torch: Any = pytest.importorskip("torch", reason="torch comes with the extra 'bench'")
    weights = {name: torch.tensor(value) for name, value in parameters().items()}
    theirs = torch.optim.RMSprop(list(weights.values()), lr=0.01, alpha=0.9, eps=1e-7)
    taken = []
    for step in range(STEPS):
        for name, gradient in gradients(step).items():
            weights[name].grad = torch.tensor(gradient)
        theirs.step()
        taken.append({name: value.numpy().copy() for name, value in weights.items()})
    config = TrainingConfig(optimizer="rmsprop", learning_rate=0.01)
    assert_same_steps(our_steps(make_optimizer(config, STEPS)), taken)


def test_decay_of_keras_2_is_a_schedule_of_ones_own() -> None:
    import keras

    rate = keras.optimizers.schedules.InverseTimeDecay(0.05, 1, 0.5)
    ours = optax.chain(
        optax.scale_by_rms(decay=0.9, eps=1e-7),
        optax.scale_by_learning_rate(lambda step: 0.05 / (1 + 0.5 * step)),
    )
    theirs = keras_optimizer("RMSprop", learning_rate=rate)()
    assert_same_steps(our_steps(ours), keras_steps(theirs))


def test_adamw_steps_are_those_of_keras_with_biases_left_out() -> None:
    config = TrainingConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.3)
    theirs = keras_optimizer("AdamW", learning_rate=0.01, weight_decay=0.3)()
    theirs.exclude_from_weight_decay(var_names=["bias"])
    assert_same_steps(our_steps(make_optimizer(config, STEPS)), keras_steps(theirs))


@pytest.mark.parametrize("name", ["rmsprop", "rmsprop_keras3", "adam"])
def test_tiny_gradients_move_as_epsilon_1e7_of_keras_lets_them(name: str) -> None:
    gradient = np.float32(1e-9)
    optimizer = make_optimizer(TrainingConfig(optimizer=name, learning_rate=1.0), 1)
    params = {"kernel": jnp.zeros((1, 1))}
    updates, _ = optimizer.update(
        {"kernel": jnp.full((1, 1), gradient)}, optimizer.init(params), params
    )
    if name == "rmsprop":  # g / (sqrt(0.1) g + eps)
        wanted = gradient / (np.sqrt(0.1) * gradient + 1e-7)
    elif name == "rmsprop_keras3":  # g / sqrt(0.1 g^2 + eps)
        wanted = gradient / np.sqrt(0.1 * gradient**2 + 1e-7)
    else:  # sqrt(1 - b2) / (1 - b1) * 0.1 g / (sqrt(0.001) g + eps)
        wanted = np.sqrt(0.001) * gradient / (np.sqrt(0.001) * gradient + 1e-7)
    assert float(updates["kernel"][0, 0]) == pytest.approx(-wanted, rel=1e-4)


def updates_without_gradient(config: TrainingConfig) -> dict[str, np.ndarray]:
    params = {
        "conv": {"kernel": jnp.full((3, 3, 1, 2), 2.0), "bias": jnp.full((2,), 2.0)},
        "norm": {"scale": jnp.full((2,), 2.0)},
        "dense": {"kernel": jnp.full((4, 2), 2.0), "bias": jnp.full((2,), 2.0)},
    }
    optimizer = make_optimizer(config, 10)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    return {
        f"{layer}/{name}": np.asarray(value)
        for layer, weights in updates.items()
        for name, value in weights.items()
    }


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["rmsprop", "rmsprop_keras3", "adam", "adamw", "sgd"])
def test_only_kernels_are_decayed(name: str) -> None:
    config = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    updates = updates_without_gradient(config)
    for path, update in updates.items():
        if path.endswith("/kernel"):
            assert (update < 0).all(), path
        else:
            assert (update == 0).all(), path


def test_adamw_decay_is_decoupled_from_the_gradient() -> None:
    config = TrainingConfig(optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    update = updates_without_gradient(config)["dense/kernel"]
    np.testing.assert_allclose(update, -0.1 * 0.5 * 2.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["rmsprop", "adam", "sgd"])
def test_l2_of_the_others_is_part_of_the_gradient(name: str) -> None:
    momentum = 0.9 if name == "sgd" else 0.0
    config = TrainingConfig(optimizer=name, momentum=momentum)
    plain = make_optimizer(config, STEPS)
    decayed = make_optimizer(replace(config, weight_decay=0.25), STEPS)
    a: Any = jax.tree.map(jnp.asarray, parameters())
    b = a
    state_a, state_b = plain.init(a), decayed.init(b)
    for step in range(STEPS):
        grads = jax.tree.map(jnp.asarray, gradients(step))
        by_hand = {"kernel": grads["kernel"] + 0.25 * a["kernel"], "bias": grads["bias"]}
        updates, state_a = plain.update(by_hand, state_a, a)
        a = optax.apply_updates(a, updates)
        updates, state_b = decayed.update(grads, state_b, b)
        b = optax.apply_updates(b, updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_the_optimizer_follows_the_schedule() -> None:
    config = TrainingConfig(optimizer="sgd", learning_rate=0.6, schedule="one_cycle")
    optimizer = make_optimizer(config, 8)
    params = {"kernel": jnp.zeros((1, 1))}
    state, taken = optimizer.init(params), []
    for _ in range(8):
        updates, state = optimizer.update({"kernel": jnp.ones((1, 1))}, state, params)
        taken.append(-float(updates["kernel"][0, 0]))
    np.testing.assert_allclose(taken, [0.0, 0.3, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-5)


@pytest.mark.parametrize("name", ["rmsprop", "rmsprop_keras3", "adam", "adamw", "sgd"])
def test_zero_gradients_without_decay_move_nothing(name: str) -> None:
    updates = updates_without_gradient(TrainingConfig(optimizer=name))
    assert all((update == 0).all() for update in updates.values())


# Rates of groups of layers


def net() -> cj.Model:
    """conv1, conv2, conv3, dense1, logits."""
    return cj.create_model("mnist_convnet", input_shape=(18, 18, 1))


def pretended_gradients(params: Any, step: int) -> Any:
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)


def three_steps(optimizer: optax.GradientTransformation, params: Any) -> Any:
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(3):
        updates, state = update(pretended_gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["rmsprop", "rmsprop_keras3", "adam", "adamw", "sgd"])
@pytest.mark.thorough
def test_every_group_is_stepped_as_by_an_optimiser_of_its_own_rate(name: str) -> None:
    config = TrainingConfig(
        optimizer=name,
        learning_rate=0.1,
        momentum=0.9 * (name == "sgd"),
        weight_decay=0.1,
        schedule="cosine",
        layer_decay=0.5,
        rate_factors=(("conv1", 3.0), ("conv*", 0.1), ("logits/bias", 2.0)),
    )
    factors = {
        "logits": 1.0, "dense1": 0.5, "conv3": 0.25 * 0.1, "conv2": 0.125 * 0.1,
        "conv1": 0.0625 * 3.0, "bias": 2.0,
    }  # fmt: skip
    alone = replace(config, layer_decay=1.0, rate_factors=())
    explicit = optax.multi_transform(
        {
            group: make_optimizer(replace(alone, learning_rate=0.1 * factor), 3)
            for group, factor in factors.items()
        },
        trees.map_flat(
            lambda path, _: "bias" if path == "logits/bias" else path.split("/")[0], net().params
        ),
    )
    ours = three_steps(make_optimizer(config, 3, net()), net().params)
    theirs = three_steps(explicit, net().params)
    for path, leaf in trees.flatten(ours).items():
        moved = leaf - trees.flatten(net().params)[path]
        wanted = trees.flatten(theirs)[path] - trees.flatten(net().params)[path]
        np.testing.assert_allclose(moved, wanted, rtol=1e-4, atol=1e-7, err_msg=path)


@pytest.mark.thorough
def test_factors_of_a_backbone_fall_with_the_distance_from_the_output() -> None:
    model = cj.Model.abstract(*build("mobilenet", alpha=0.25))
    factors = learning_rate_factors(TrainingConfig(layer_decay=0.9), model)
    layers = weighted_layers(model)
    assert set(factors) == set(trees.flatten(model.params))
    for i, layer in enumerate(layers):
        for path in (p for p in factors if p.startswith(f"{layer}/")):
            assert factors[path] == pytest.approx(0.9 ** (len(layers) - 1 - i))
    assert factors["conv_preds/kernel"] == 1.0
    assert factors["conv_pw_13_bn/gamma"] == factors["conv_pw_13_bn/beta"] == pytest.approx(0.9)


def test_frozen_layers_count_in_the_distance_but_have_no_rate() -> None:
    config = TrainingConfig(layer_decay=0.5, frozen=("conv3", "dense1"))
    factors = learning_rate_factors(config, net())
    assert {path.split("/")[0] for path in factors} == {"conv1", "conv2", "logits"}
    assert factors["conv2/kernel"] == 0.125


def test_nested_layers_and_parameters_of_the_module_itself_have_rates() -> None:
    class Scaled(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            scale = self.param("scale", linen.initializers.ones, (1, 1))
            x = Inner(name="inner")(x.reshape(x.shape[0], -1))
            return linen.Dense(2, name="logits")(x) * scale

    class Inner(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return linen.Dense(4, name="wide")(x)

    model = cj.Model.from_module(Scaled(), (3, 3, 1))
    config = TrainingConfig(layer_decay=0.5, rate_factors={"inner": 0.1})
    assert learning_rate_factors(config, model) == {
        "scale": 1.0, "logits/kernel": 0.5, "logits/bias": 0.5,
        "inner/wide/kernel": 0.025, "inner/wide/bias": 0.025,
    }  # fmt: skip
    make_optimizer(config, 1, model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"rate_factors": (("conv4", 0.1),)},
            r"rate_factors='conv4' names no trained parameter\. Did you mean 'conv",
        ),
        (
            {"rate_factors": (("conv1", 0.1),), "frozen": ("conv1",)},
            r"rate_factors='conv1' names no trained parameter\. Did you mean 'conv[23]'",
        ),
    ],
)
def test_a_pattern_that_names_nothing_that_is_trained_is_refused(
    settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_optimizer(TrainingConfig(**settings), 1, net())
    images = np.zeros((4, 18, 18, 1), np.uint8)
    with pytest.raises(ValueError, match=message):
        cj.fit(net(), (images, np.zeros(4, int)), TrainingConfig(batch_size=4, **settings))


@pytest.mark.parametrize(
    "settings", [{"rate_factors": (("conv1", 0.1),)}, {"layer_decay": 0.9}, {"clip_norm": 1.0}]
)
def test_a_given_optimiser_does_not_quietly_replace_them(settings: dict) -> None:
    (name,) = settings
    images = np.zeros((4, 18, 18, 1), np.uint8)
    with pytest.raises(ValueError, match=rf"{name}=.* changes the configured optimiser, but"):
        cj.fit(
            net(), (images, np.zeros(4, int)), TrainingConfig(batch_size=4, **settings),
            optimizer=optax.sgd(0.1),
        )  # fmt: skip
    if name != "clip_norm":
        with pytest.raises(ValueError, match="rate_factors and layer_decay need the model"):
            make_optimizer(TrainingConfig(**settings), 1)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["rmsprop", "sgd"])
def test_clipping_comes_first(name: str) -> None:
    config = TrainingConfig(optimizer=name, clip_norm=0.5, weight_decay=0.25)
    clipped, plain = make_optimizer(config, 1), make_optimizer(replace(config, clip_norm=None), 1)
    params: Any = jax.tree.map(jnp.asarray, parameters())
    grads: Any = jax.tree.map(lambda p: 3.0 * jnp.ones_like(p), params)
    norm = float(np.sqrt(9.0 * sum(p.size for p in params.values())))
    scaled = jax.tree.map(lambda g: g * (0.5 / norm), grads)
    ours, _ = clipped.update(grads, clipped.init(params), params)
    theirs, _ = plain.update(scaled, plain.init(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)


def test_by_default_the_optimiser_is_what_it_was() -> None:
    config = TrainingConfig(optimizer="sgd", momentum=0.9)
    plain, params = make_optimizer(config, 1), net().params
    for model in (None, net()):
        state = make_optimizer(config, 1, model).init(params)
        assert jax.tree.structure(state) == jax.tree.structure(plain.init(params))
