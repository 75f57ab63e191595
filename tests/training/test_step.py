"""The training step: masks, precision, freezing, averaging, and equality with Keras."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.core import trees
from cnnjax.data import Loader
from cnnjax.training import TrainState, make_eval_step, make_optimizer, make_train_step

Arrays = tuple[np.ndarray, np.ndarray]

# The first three losses of mnist_convnet, seed 0, digits, batch 32, RMSprop at 1e-3.
GOLDEN = (2.29659, 2.32466, 2.26294)


class Block(linen.Module):
    features: int

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = linen.Conv(self.features, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)
        return linen.relu(x)


class Blocks(linen.Module):
    """Two blocks with BatchNorm below names of their own, as a user would write them."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = Block(4, name="block1")(x, train)
        x = Block(4, name="block2")(x, train)
        return linen.Dense(3, name="logits")(x.mean(axis=(1, 2)))


class CallTimeSwitch(linen.Module):
    """BatchNorm that is told at its call."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Dense(4, name="dense")(x.reshape(x.shape[0], 144))
        x = linen.BatchNorm(momentum=0.5, name="norm")(x, use_running_average=not train)
        return linen.Dense(3, name="logits")(x)


class Counting(linen.Module):
    """A layer with a collection of its own that changes in training."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        seen = self.variable("counts", "seen", jnp.zeros, (), jnp.int32)
        if train:
            seen.value = seen.value + x.shape[0]
        return linen.Dense(4, name="dense")(x.reshape(x.shape[0], 144))


class Counted(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return linen.Dense(3, name="logits")(Counting(name="body")(x, train))


class Noisy(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Dense(32, name="dense")(x.reshape(x.shape[0], 144))
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(3, name="logits")(x)


def small(**arguments: Any) -> cj.Model:
    arguments = {"num_classes": 3, "units": (16,), **arguments}
    return cj.create_model("mlp", input_shape=(12, 12, 1), **arguments)


def batch_of(data: Arrays, start: int = 0, stop: int = 16) -> dict[str, np.ndarray]:
    images, labels = data
    return {
        "inputs": images[start:stop],
        "labels": labels[start:stop],
        "index": np.arange(start, stop, dtype=np.int32),
        "epoch": np.asarray(0, np.int32),
    }


def trained(
    model: cj.Model,
    batches: list[dict[str, np.ndarray]],
    *,
    optimizer: optax.GradientTransformation | None = None,
    frozen: tuple[str, ...] = (),
    average: float = 0.0,
    loss: Callable | None = None,
    **arguments: Any,
) -> tuple[list[TrainState], list[dict[str, float]]]:
    """States before and after each step, and the steps' sums."""
    optimizer = optimizer or optax.sgd(0.1)
    step = jax.jit(make_train_step(model, loss, optimizer, frozen, average=average, **arguments))
    state = TrainState.create(model, optimizer, frozen=frozen, average=average > 0)
    states, sums = [state], []
    for batch in batches:
        state, one = step(state, batch)
        states.append(state)
        sums.append({k: float(v) for k, v in one.items()})
    return states, sums


def close(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-7) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)


def test_a_step_is_the_gradient_of_the_mean_loss(squares: Arrays) -> None:
    model, batch = small(), batch_of(squares)
    states, sums = trained(model, [batch], optimizer=optax.sgd(0.5))

    def mean_loss(params: Any) -> jax.Array:
        p, x = params, batch["inputs"].reshape(16, 144).astype(np.float32) / 255
        hidden = jax.nn.relu(x @ p["dense1"]["kernel"] + p["dense1"]["bias"][None])
        z = hidden @ p["logits"]["kernel"] + p["logits"]["bias"][None]
        return -jnp.mean(jax.nn.log_softmax(z)[np.arange(16), batch["labels"]])

    value, gradient = jax.value_and_grad(mean_loss)(model.params)
    close(states[1].params, jax.tree.map(lambda p, g: p - 0.5 * g, model.params, gradient))
    assert sums[0]["loss"] / sums[0]["count"] == pytest.approx(float(value), rel=1e-5)
    assert int(states[1].step) == 1


def test_a_step_is_a_pure_function(squares: Arrays) -> None:
    model = cj.Model.from_module(Noisy(), (12, 12, 1))
    first, _ = trained(model, [batch_of(squares)] * 3)
    second, _ = trained(model, [batch_of(squares)] * 3)
    assert trees.tree_hash(first[-1].variables()) == trees.tree_hash(second[-1].variables())


def test_masked_examples_change_nothing(squares: Arrays) -> None:
    plain = batch_of(squares, 0, 10)
    padded = batch_of(squares, 0, 16)
    padded["inputs"] = np.where(np.arange(16)[:, None, None, None] < 10, padded["inputs"], 255)
    padded["mask"] = np.arange(16) < 10
    (_, a), sums_a = trained(small(), [plain])
    (_, b), sums_b = trained(small(), [padded])
    close(a.params, b.params)
    assert sums_a[0] == pytest.approx(sums_b[0], rel=1e-5)
    assert sums_b[0]["count"] == 10


def test_a_batch_of_padding_alone_changes_no_parameter(squares: Arrays) -> None:
    batch = {**batch_of(squares), "mask": np.zeros(16, bool)}
    (before, after), sums = trained(small(), [batch])
    assert trees.tree_hash(after.params) == trees.tree_hash(before.params)
    assert sums == [{"loss": 0.0, "accuracy": 0.0, "count": 0.0}]


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda logits, labels: jnp.mean(logits), r"\[\]"),
        (lambda logits, labels: logits, r"\[16, 3\]"),
        (lambda logits, labels: logits[:, :1], r"\[16, 1\]"),
    ],
    ids=["scalar", "logits", "column"],
)
def test_a_loss_of_another_shape_is_an_error(squares: Arrays, loss: Callable, shape: str) -> None:
    with pytest.raises(ValueError, match=rf"loss must return \[16\], got {shape}"):
        trained(small(), [batch_of(squares)], loss=loss)


def test_label_smoothing_by_hand(squares: Arrays) -> None:
    model, batch = small(), batch_of(squares)
    _, sums = trained(model, [batch], label_smoothing=0.3)
    log_p = np.asarray(jax.nn.log_softmax(model(model.spec.preprocess(batch["inputs"]))))
    target = np.full((16, 3), 0.1)
    target[np.arange(16), batch["labels"]] = 0.8
    assert sums[0]["loss"] == pytest.approx(-(target * log_p).sum(), rel=1e-5)
    assert sums[0]["accuracy"] == (log_p.argmax(axis=1) == batch["labels"]).sum()


@pytest.mark.parametrize(
    ("classes", "loss"),
    [(1, None), (3, cj.metrics.softmax_cross_entropy)],
    ids=["one-logit", "own-loss"],
)
def test_label_smoothing_is_for_the_softmax_loss_only(classes: int, loss: Any) -> None:
    with pytest.raises(ValueError, match="label_smoothing works with the default softmax loss"):
        make_train_step(small(num_classes=classes), loss, label_smoothing=0.1)


@pytest.mark.sample(1)
@pytest.mark.parametrize("module", [Blocks(), Noisy()], ids=["norm", "dropout"])
@pytest.mark.thorough
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(
    squares: Arrays, module: linen.Module
) -> None:
    model = cj.Model.from_module(module, (12, 12, 1))
    states, sums = trained(
        model,
        [batch_of(squares)] * 2,
        precision="bfloat16",
        optimizer=optax.adam(1e-3),
        average=0.9,
    )
    floats = [x for x in jax.tree.leaves(states[-1]) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    _, exact_sums = trained(model, [batch_of(squares)] * 2, optimizer=optax.adam(1e-3))
    assert sums[0]["loss"] == pytest.approx(exact_sums[0]["loss"], rel=0.05)
    assert sums[0]["loss"] != exact_sums[0]["loss"]


def test_bfloat16_is_what_the_layers_see(squares: Arrays) -> None:
    seen = []

    class Spy(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = x.reshape(x.shape[0], 144)
            kernel = self.param("kernel", linen.initializers.lecun_normal(), (144, 3))
            seen.append((x.dtype, kernel.dtype))
            return x @ kernel

    model = cj.Model.from_module(Spy(), (12, 12, 1))
    seen.clear()
    trained(model, [batch_of(squares)], precision="bfloat16")
    assert set(seen) == {(jnp.dtype("bfloat16"), jnp.dtype("bfloat16"))}


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("module", "frozen", "norm"),
    [
        (Blocks(), ("block1",), "block1/norm"),
        (Blocks(), ("block[1]*",), "block1/norm"),
        (Blocks(), ("*/norm", "block1/conv"), "block1/norm"),
        (CallTimeSwitch(), ("dense", "norm"), "norm"),
    ],
)
def test_frozen_layers_stay_bitwise_with_their_statistics(
    squares: Arrays, module: linen.Module, frozen: tuple[str, ...], norm: str
) -> None:
    model = cj.Model.from_module(module, (12, 12, 1))
    batches = [batch_of(squares, i, i + 16) for i in (0, 16, 32)]
    states, _ = trained(
        model, batches, frozen=frozen, optimizer=optax.adamw(1e-2, weight_decay=0.1)
    )
    before, after = (trees.flatten(s.variables()) for s in (states[0], states[-1]))

    def held(path: str) -> bool:
        return any(trees.matches(path.split("/", 1)[1], pattern) for pattern in frozen)

    still = {k for k in before if held(k)}
    assert {f"batch_stats/{norm}/mean", f"batch_stats/{norm}/var"} <= still
    assert trees.tree_hash({k: before[k] for k in still}) == trees.tree_hash(
        {k: after[k] for k in still}
    )
    for path in before.keys() - still:
        assert not np.array_equal(before[path], after[path]), f"{path} did not change"


@pytest.mark.sample(1)
@pytest.mark.parametrize(("frozen", "seen"), [((), 32), (("body",), 0), (("body/dense",), 32)])
def test_collections_of_ones_own_are_kept_up_to_date_unless_frozen(
    squares: Arrays, frozen: tuple[str, ...], seen: int
) -> None:
    model = cj.Model.from_module(Counted(), (12, 12, 1))
    states, _ = trained(model, [batch_of(squares)] * 2, frozen=frozen)
    counts = states[-1].state["counts"]["body"]["seen"]
    assert (int(counts), counts.dtype) == (seen, jnp.int32)


def test_an_unfrozen_norm_updates_its_statistics_as_flax_does(squares: Arrays) -> None:
    model = cj.Model.from_module(CallTimeSwitch(), (12, 12, 1))
    states, _ = trained(model, [batch_of(squares)])
    x = batch_of(squares)["inputs"].reshape(16, 144).astype(np.float32) / 255
    y = x @ np.asarray(model.params["dense"]["kernel"])
    statistics = states[1].state["batch_stats"]["norm"]
    np.testing.assert_allclose(statistics["mean"], 0.5 * y.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.5 + 0.5 * y.var(axis=0), rtol=1e-4)


@pytest.mark.sample(1)
@pytest.mark.parametrize("module", [Blocks(), CallTimeSwitch()], ids=["attribute", "argument"])
@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "free"])
def test_only_a_frozen_norm_makes_an_example_independent_of_its_batch(
    squares: Arrays, module: linen.Module, freeze: bool
) -> None:
    model = cj.Model.from_module(module, (12, 12, 1))
    norms = ("norm",) if isinstance(module, CallTimeSwitch) else ("block1/norm", "block2/norm")
    only_first = np.arange(16) == 0
    one = {**batch_of(squares), "mask": only_first}
    other = {**one, "inputs": np.concatenate([one["inputs"][:1], 255 - one["inputs"][1:]])}
    losses = []
    for batch in (one, other):
        _, sums = trained(model, [batch], frozen=norms if freeze else ())
        losses.append(sums[0]["loss"])
    assert (losses[0] == pytest.approx(losses[1], rel=1e-6)) is freeze


@pytest.mark.thorough
def test_a_frozen_norm_runs_on_its_running_averages(squares: Arrays) -> None:
    model = cj.Model.from_module(Blocks(), (12, 12, 1))
    states, _ = trained(model, [batch_of(squares)] * 3)
    model = model.replace(variables=states[-1].variables())
    batch = batch_of(squares)
    _, sums = trained(model, [batch], frozen=("*/norm",))
    evaluated = make_eval_step(model)(model.variables, batch)
    assert sums[0]["loss"] == pytest.approx(float(evaluated["loss"]), rel=1e-5)


def test_frozen_patterns_that_match_nothing_offer_the_nearest() -> None:
    model = cj.Model.from_module(Blocks(), (12, 12, 1))
    with pytest.raises(ValueError, match=r"frozen='blok1/conv' names no .*'block1/conv'"):
        TrainState.create(model, optax.sgd(0.1), frozen=("blok1/conv",))


def flops_and_products(frozen: tuple[str, ...]) -> tuple[float, int]:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(64, 64, 64))
    step = make_train_step(model, None, optax.sgd(0.1), frozen)
    state = TrainState.create(model, optax.sgd(0.1), frozen=frozen)
    batch = {"inputs": np.zeros((32, 12, 12, 1), np.uint8), "labels": np.zeros(32, np.int32)}
    lowered = jax.jit(step).lower(state, batch)
    products = str(jax.make_jaxpr(step)(state, batch)).count("dot_general")
    return lowered.compile().cost_analysis()["flops"], products


def test_no_gradient_is_computed_for_the_frozen_part() -> None:
    all_flops, all_products = flops_and_products(())
    head_flops, head_products = flops_and_products(("dense*",))
    # Forward 4 products; backward 4 for the weights and 3 for the inputs, or 1 for the head alone.
    assert (all_products, head_products) == (11, 5)
    assert head_flops < 0.5 * all_flops


@pytest.mark.thorough
def test_an_optimiser_that_clips_by_the_global_norm_sees_trainable_gradients_only(
    squares: Arrays,
) -> None:
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    states, _ = trained(small(), [batch_of(squares)], optimizer=optimizer, frozen=("dense1",))
    moved = jax.tree.map(lambda a, b: a - b, states[1].params, states[0].params)
    assert float(optax.tree.norm(moved)) == pytest.approx(1e-3, rel=1e-3)


def test_the_average_by_hand(squares: Arrays) -> None:
    batches = [batch_of(squares, i, i + 16) for i in range(0, 80, 16)]
    states, _ = trained(small(), batches, average=0.3)
    by_hand = np.asarray(states[0].params["logits"]["kernel"], np.float64)
    # min(0.3, t / (t + 9)) for t = 1, 2, ...: the first ones are below 0.3.
    for decay, state in zip([1 / 10, 2 / 11, 3 / 12, 0.3, 0.3], states[1:], strict=True):
        by_hand = decay * by_hand + (1 - decay) * np.asarray(state.params["logits"]["kernel"])
        np.testing.assert_allclose(state.average["logits"]["kernel"], by_hand, rtol=1e-5)
    evaluated = states[-1].variables()["params"]["logits"]["kernel"]
    np.testing.assert_array_equal(evaluated, states[-1].average["logits"]["kernel"])


def test_the_average_does_not_change_the_training(squares: Arrays) -> None:
    plain, _ = trained(small(), [batch_of(squares)] * 3)
    averaged, _ = trained(small(), [batch_of(squares)] * 3, average=0.9)
    close(plain[-1].params, averaged[-1].params)
    assert plain[-1].average == {}


def test_dropout_is_new_at_every_step_and_for_every_seed(squares: Arrays) -> None:
    model = cj.Model.from_module(Noisy(), (12, 12, 1))
    none = optax.set_to_zero()
    step = jax.jit(make_train_step(model, optimizer=none))
    losses = []
    for seed in (0, 1):
        state = TrainState.create(model, none, seed=seed)
        for _ in range(3):
            state, sums = step(state, batch_of(squares))
            losses.append(float(sums["loss"]))
    assert len(set(losses)) == 6


def test_augmentation_depends_on_epoch_and_example_not_on_the_place_in_the_batch(
    squares: Arrays,
) -> None:
    batch = batch_of(squares)
    turned = {k: v if v.ndim == 0 else v[::-1].copy() for k, v in batch.items()}
    later = {**batch, "epoch": np.asarray(1, np.int32)}
    shift = Augment(width_shift=3, height_shift=3)
    losses = [trained(small(), [b], augment=shift)[1][0]["loss"] for b in (batch, turned, later)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-4)
    assert losses[0] != pytest.approx(trained(small(), [batch])[1][0]["loss"], rel=1e-4)


def test_augmentation_may_be_any_function_of_key_and_image(squares: Arrays) -> None:
    batch = batch_of(squares)
    _, sums = trained(small(), [batch], augment=lambda key, image: 255.0 - image)
    _, wanted = trained(small(), [{**batch, "inputs": 255 - batch["inputs"]}])
    assert sums[0]["loss"] == pytest.approx(wanted[0]["loss"], rel=1e-5)


def test_one_logit_takes_the_sigmoid_loss(squares: Arrays) -> None:
    model = small(num_classes=1)
    batch = {**batch_of(squares), "labels": (np.arange(16) % 2).astype(np.int32)}
    _, sums = trained(model, [batch])
    z = np.asarray(model(model.spec.preprocess(batch["inputs"])))[:, 0].astype(np.float64)
    sign = 2 * batch["labels"] - 1
    assert sums[0]["loss"] == pytest.approx(np.log1p(np.exp(-sign * z)).sum(), rel=1e-5)
    assert sums[0]["accuracy"] == (sign * z > 0).sum()


def test_an_eval_step_sums_over_unmasked_examples(squares: Arrays) -> None:
    model = small()
    batch = {**batch_of(squares), "mask": np.arange(16) < 5}
    sums = make_eval_step(model)(model.variables, batch)
    short = make_eval_step(model)(model.variables, batch_of(squares, 0, 5))
    assert jax.tree.map(float, sums) == pytest.approx(jax.tree.map(float, short), rel=1e-5)
    assert float(sums["count"]) == 5


def digits_batches(steps: int) -> list[dict[str, np.ndarray]]:
    batches = Loader(cj.data.load("digits").train, 32, shuffle=True, seed=0).epoch(0)
    return [batch for batch, _ in zip(batches, range(steps), strict=False)]


def losses_on_digits(
    model: cj.Model, steps: int, optimizer_name: str = "rmsprop"
) -> tuple[list[float], TrainState]:
    optimizer = make_optimizer(TrainingConfig(optimizer=optimizer_name), steps)
    states, sums = trained(model, digits_batches(steps), optimizer=optimizer)
    return [one["loss"] / one["count"] for one in sums], states[-1]


def test_golden_first_steps() -> None:
    losses, _ = losses_on_digits(cj.create_model("mnist_convnet", seed=0), 3)
    assert losses == pytest.approx(GOLDEN, abs=1e-4), (
        f"The first losses of a seeded training became {[round(x, 5) for x in losses]}. Update "
        "GOLDEN only for a change that is meant to alter results (initialisation, order of the "
        "data, preprocessing, digits, optimiser), and say so in the commit: results reported "
        "before it can then no longer be reproduced."
    )


def keras_convnet(model: cj.Model) -> Any:
    """The MNIST convnet by hand in Keras, with our weights."""
    import keras
    from keras import layers

    twin = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", name="conv3"),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="dense1"),
            layers.Dense(10, activation="softmax", name="logits"),
        ]
    )
    for name, weights in model.params.items():
        # Copies: Keras' step donates its weights.
        twin.get_layer(name).set_weights([np.array(weights[leaf]) for leaf in ("kernel", "bias")])
    twin.compile(keras.optimizers.RMSprop(), "sparse_categorical_crossentropy")
    return twin


@pytest.mark.thorough
def test_ten_steps_of_the_convnet_equal_keras() -> None:
    model = cj.create_model("mnist_convnet", seed=3)
    losses, state = losses_on_digits(model, 10, "rmsprop_keras3")
    theirs = []
    with jax.numpy_rank_promotion("allow"):
        twin = keras_convnet(model)
        for batch in digits_batches(10):
            twin.reset_metrics()
            images = batch["inputs"].astype(np.float32) / 255
            theirs.append(float(twin.train_on_batch(images, batch["labels"])))
    # RMSprop's first step divides each gradient by its own size, so that one within rounding of
    # zero moves its weight either way; the first losses show the step, later ones that as well.
    assert losses[:4] == pytest.approx(theirs[:4], rel=1e-5)
    assert losses == pytest.approx(theirs, rel=1e-3)
    for name, weights in state.params.items():
        for leaf in ("kernel", "bias"):
            before, ours = np.array(model.params[name][leaf]), np.array(weights[leaf])
            moved = np.abs(ours - before).mean()
            apart = np.median(np.abs(ours - np.array(getattr(twin.get_layer(name), leaf).value)))
            assert moved > 1e-3, f"{name}/{leaf} did not learn"
            assert apart < 0.05 * moved, f"{name}/{leaf} went another way than in Keras"
