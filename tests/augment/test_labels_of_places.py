"""Labels that name places in an image do not move with it: what moves it is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.core import rng
from cnnjax.training import TrainState, make_train_step

MOVING: list[dict[str, Any]] = [
    {"horizontal_flip": True},
    {"vertical_flip": True},
    {"width_shift": 1},
    {"height_shift": 0.1},
    {"crop_padding": 1},
    {"rotation": 10},
    {"shear": 5},
    {"resized_crop": (0.1, 1)},
    {"zoom": 0.1},
    {"zoom": (1, 1.2)},
    {"cutmix": 1.0},
]


class Net(linen.Module):
    """Logits of any number, in any form."""

    outputs: tuple[int, ...]

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Dense(int(np.prod(self.outputs)))(x.reshape(x.shape[0], -1))
        return x.reshape(-1, *self.outputs)


def fit(task: str, augment: Any) -> cj.Run:
    """One step of a net whose labels are of the kind."""
    images = np.random.default_rng(0).integers(0, 256, (4, 4, 6, 1), dtype=np.uint8)
    outputs, labels = {
        "captcha": ((3, 2), np.zeros((4, 3), np.int32)),
        "pixels": ((24,), np.zeros((4, 24), np.float32)),
    }[task]
    kind = "positions" if task == "captcha" else "values"
    model = cj.Model.from_module(Net(outputs), (4, 6, 1), task=kind)
    data = cj.data.Dataset(images, labels, (), task)
    config = cj.TrainingConfig(epochs=1, batch_size=4, augment=augment, monitor=None)
    return cj.fit(model, data, config, verbose=False)


@pytest.mark.parametrize("settings", MOVING, ids=str)
def test_what_moves_the_image_is_refused_for_labels_by_position(settings: dict) -> None:
    (name,) = settings
    wanted = rf"augment with {name}=.* moves the image, but its label is a class at each of"
    with pytest.raises(ValueError, match=wanted):
        fit("captcha", Augment(**settings))


def test_it_is_refused_for_a_value_of_each_pixel_too() -> None:
    with pytest.raises(
        ValueError,
        match=r"horizontal_flip=True, rotation=5 .*but its label is a value of each pixel",
    ):
        fit("pixels", Augment(rotation=5, horizontal_flip=True))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "augment",
    [
        Augment(brightness=(0.9, 1.1)),
        Augment(channel_shift=5),
        Augment(zoom=(1, 1), mixup=0.2),
        lambda key, image: image[:, ::-1],  # the caller knows
        None,
    ],
)
@pytest.mark.parametrize("task", ["captcha", "pixels"])
def test_what_leaves_every_pixel_in_its_place_is_not(task: str, augment: Any) -> None:
    fit(task, augment)


@pytest.mark.parametrize("task", ["classes", "values"])
def test_labels_of_the_whole_image_bear_everything(task: str) -> None:
    everything = Augment(**{k: v for settings in MOVING for k, v in settings.items()})
    model = cj.Model.from_module(Net((4,)), (4, 6, 1), task=task)
    label = np.zeros(2, np.int32) if task == "classes" else np.zeros((2, 4), np.float32)
    batch = {
        "inputs": np.zeros((2, 4, 6, 1), np.uint8),
        "labels": label,
        "index": np.arange(2),
        "epoch": np.int32(0),
    }
    step = make_train_step(model, optimizer=optax.sgd(0.1), augment=everything)
    jax.eval_shape(step, TrainState.create(model, optax.sgd(0.1)), batch)


def test_a_step_of_ones_own_with_a_map_of_labels_is_refused() -> None:
    model = cj.Model.from_module(Net((24,)), (4, 6, 1))
    augment = Augment(height_shift=1)

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits, labels.reshape(len(labels), -1)).mean(1)

    state = TrainState.create(model, optax.sgd(0.1))
    batch = {
        "inputs": np.zeros((2, 4, 6, 1), np.uint8),
        "labels": np.zeros((2, 4, 6), np.float32),
        "index": np.arange(2),
        "epoch": np.int32(0),
    }
    step = make_train_step(model, loss, optax.sgd(0.1), augment=augment)
    with pytest.raises(ValueError, match=r"height_shift=1 moves .* a value at each of 4x6 places"):
        jax.eval_shape(step, state, batch)


@pytest.mark.thorough
def test_mixup_mixes_the_labels_of_every_position() -> None:
    """The objective against the sum by hand."""
    model = cj.Model.from_module(Net((3, 2)), (4, 6, 1), task="positions")
    images = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 1), dtype=np.uint8)
    labels = np.array([[0, 1, 0], [1, 1, 0]], np.int32)
    augment, index = Augment(mixup=1.0), np.arange(2)
    state = TrainState.create(model, optax.sgd(0.1), seed=3)
    step = make_train_step(model, optimizer=optax.sgd(0.1), augment=augment)
    after, _ = step(
        state, {"inputs": images, "labels": labels, "index": index, "epoch": jnp.int32(0)}
    )
    key = rng.named(jax.random.wrap_key_data(state.key), "augment")
    mixed, partners, share = cj.augment.mix(
        augment, key, jnp.int32(0), index, jnp.float32(images), labels
    )

    def loss(params: Any) -> jax.Array:
        z = jax.nn.log_softmax(model.module.apply({"params": params}, mixed / 255))
        own, other = (jnp.take_along_axis(z, y[..., None], 2)[..., 0] for y in (labels, partners))
        return -(share[:, None] * own + (1 - share[:, None]) * other).sum(1).mean()

    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, jax.grad(loss)(state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.params, wanted)
