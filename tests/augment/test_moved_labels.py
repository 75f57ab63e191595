"""Labels of pixels move with their image: against SciPy, and pixel by pixel."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from scipy import ndimage
from test_parity import ONE_BY_ONE, matrices

import cnnjax as cj
from cnnjax.augment import Augment, Chain, Parameters, for_batch, move_labels, transform_labels
from cnnjax.core import rng
from cnnjax.training import TrainState, make_train_step

LABELS = np.random.default_rng(0).integers(0, 5, (17, 30), dtype=np.int32)
WHICH = (jax.random.key(3), jnp.int32(1), jnp.arange(4))
# Nothing is interpolated, so that an image of labels must come out as the labels do.
WHOLE: list[dict[str, Any]] = [
    {"horizontal_flip": True, "vertical_flip": True},
    {"width_shift": 3, "height_shift": 2},
    {"crop_padding": 2, "horizontal_flip": True},
    {"crop_padding": 2, "fill_mode": "reflect", "width_shift": 1},
]


@pytest.mark.sample(2)
@pytest.mark.parametrize("mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("parameters", ONE_BY_ONE, ids=str)
def test_the_nearest_label_is_that_of_scipy(mode: str, parameters: dict[str, float]) -> None:
    rotation, linear, shift = matrices(parameters)
    middle = np.array(LABELS.shape[::-1]) / 2 - 0.5
    offset = (middle - linear @ middle + rotation @ shift)[::-1]
    scipys = "grid-constant" if mode == "constant" else mode
    wanted = ndimage.affine_transform(
        LABELS, linear[::-1, ::-1], offset, order=0, mode=scipys, cval=-1
    )
    config = Augment(fill_mode=mode, rotation=1)
    found = transform_labels(config, jnp.asarray(LABELS), Parameters(**parameters), -1)
    assert found.dtype == jnp.int32
    differing = np.asarray(found) != wanted
    if mode == "constant":  # SciPy takes what lies within half a pixel of a border, we do not
        differing &= np.asarray(found) >= 0
        assert ((np.asarray(found) < 0) >= (wanted < 0)).all()
    assert differing.mean() < 0.005  # where two pixels are equally near


@pytest.mark.sample(1)
@pytest.mark.parametrize("settings", WHOLE, ids=str)
def test_labels_go_where_their_pixels_go(settings: dict[str, Any]) -> None:
    labels = np.random.default_rng(1).integers(0, 9, (4, 6, 8), dtype=np.uint8)
    augment = Chain((Augment(**settings), lambda key, image: image + 0, Augment(**settings)))
    for one in (Augment(**settings), augment):
        images = for_batch(one, *WHICH, jnp.asarray(labels[..., None]))
        moved = move_labels(one, *WHICH, jnp.asarray(labels), -1)
        np.testing.assert_array_equal(images[..., 0], moved)
        assert (np.asarray(moved) != labels).any()


def test_what_is_uncovered_has_no_label_and_light_changes_none() -> None:
    labels = jnp.ones((4, 6, 8), jnp.uint8)
    moved = move_labels(Augment(width_shift=3, fill_mode="constant"), *WHICH, labels, -1)
    images = for_batch(
        Augment(width_shift=3, fill_mode="constant", fill_value=7), *WHICH, labels[..., None]
    )
    np.testing.assert_array_equal(moved == -1, images[..., 0] == 7)
    assert (moved == -1).any()
    light = Augment(brightness=(0.5, 2), channel_shift=20, mixup=0.3)
    np.testing.assert_array_equal(move_labels(light, *WHICH, labels, -1), labels)
    turned = move_labels(Augment(rotation=90, fill_mode="constant"), *WHICH, labels, -1)
    assert set(np.unique(turned)) == {-1, 1}
    several = jnp.stack([labels, labels * 2], axis=-1)
    both = move_labels(Augment(width_shift=3), *WHICH, several, None)
    assert both.shape == several.shape


class Pixels(linen.Module):
    """Two logits a pixel."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linen.Conv(2, (1, 1), use_bias=True)(x)


@pytest.mark.thorough
def test_a_step_trains_on_the_moved_labels() -> None:
    """The accuracy of a net that knows the label of a pixel from its value stays 1."""
    model = cj.Model.from_module(Pixels(), (4, 6, 1), task="dense")
    params = {"Conv_0": {"kernel": jnp.full((1, 1, 1, 2), jnp.array([-1.0, 1.0])),
                         "bias": jnp.array([0.5, -0.5])}}  # fmt: skip
    model = model.replace(variables={"params": params})
    labels = np.random.default_rng(0).integers(0, 2, (3, 4, 6), dtype=np.int32)
    batch = {
        "inputs": np.uint8(255 * labels[..., None]), "labels": labels, "index": np.arange(3),
        "epoch": np.int32(0),
    }  # fmt: skip
    augment = Augment(
        horizontal_flip=True, width_shift=1, crop_padding=1, fill_mode="constant", fill_value=255
    )
    state = TrainState.create(model, optax.sgd(0.0), seed=1)
    for one in (augment, Augment(vertical_flip=True, height_shift=1, rotation=0.001)):
        step = jax.jit(make_train_step(model, optimizer=optax.sgd(0.0), augment=one))
        assert float(step(state, batch)[1]["accuracy"]) == pytest.approx(3, abs=1e-6)


@pytest.mark.thorough
def test_mixup_mixes_the_losses_of_moved_labels() -> None:
    model = cj.Model.from_module(Pixels(), (4, 6, 1), task="dense")
    rows = np.random.default_rng(0)
    images = rows.integers(0, 256, (3, 4, 6, 1), dtype=np.uint8)
    labels = rows.integers(-1, 2, (3, 4, 6), dtype=np.int32)
    augment, index = Augment(mixup=1.0, horizontal_flip=True), np.arange(3)
    state = TrainState.create(model, optax.sgd(0.1), seed=3)
    step = make_train_step(model, optimizer=optax.sgd(0.1), augment=augment)
    batch = {"inputs": images, "labels": labels, "index": index, "epoch": jnp.int32(0)}
    _, sums = step(state, batch)
    which = (rng.named(jax.random.wrap_key_data(state.key), "augment"), jnp.int32(0), index)
    moved = move_labels(augment, *which, jnp.asarray(labels), -1)
    changed = for_batch(augment, *which, jnp.asarray(images))
    mixed, partners, share = cj.augment.mix(augment, *which, changed, moved)
    outputs = model(mixed / 255)
    loss = cj.metrics.pixels_cross_entropy
    wanted = share * loss(outputs, moved) + (1 - share) * loss(outputs, partners)
    assert float(sums["loss"]) == pytest.approx(float(wanted.sum()), rel=1e-5)


def test_what_labels_of_pixels_cannot_follow_is_refused() -> None:
    model = cj.Model.from_module(Pixels(), (4, 6, 1), task="dense")
    with pytest.raises(ValueError, match=r"cutmix=1.0 pastes boxes, and the labels of the task"):
        make_train_step(model, augment=Augment(cutmix=1.0))

    def loss(outputs: jax.Array, depth: jax.Array) -> jax.Array:
        return jnp.abs(outputs[..., 0] - depth).mean((1, 2))

    depth = cj.Task(
        "depth", loss, {"error": loss}, outputs=("N", "H", "W", "K"), labels=("N", "H", "W"),
        label_kind="floating", of_classes=False,
    )  # fmt: skip
    model = cj.Model.from_module(Pixels(), (4, 6, 1), task=depth)
    make_train_step(model, augment=Augment(rotation=5))
    with pytest.raises(ValueError, match=r"fill_mode='constant' uncovers pixels, .* \(Task.ignor"):
        make_train_step(model, augment=Augment(rotation=5, fill_mode="constant"))
    small = cj.Model.from_module(Half(), (4, 6, 1), task="dense")
    with pytest.raises(ValueError, match=r"rotation=5 moves .* a value at each of 2x3 places"):
        make_train_step(small, augment=Augment(rotation=5))


class Half(linen.Module):
    """Two logits for each patch of 2x2 pixels."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linen.Conv(2, (2, 2), strides=2)(x)
