"""The parts of the fast recipe: whitening, views, alternating flips, Muon, and a short training."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnnjax as cj
from experiments import cifar10_fast
from experiments._fast_net import (
    WHITE,
    FastNet,
    identity_like,
    muon,
    normalised,
    optimizer,
    orthogonal,
    single_view,
    whitened,
)

pytestmark = pytest.mark.thorough


def images(count: int = 12) -> np.ndarray:
    """Smooth ones, whose neighbours are alike as those of photos are."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 9, 9, 3))
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, 2:34, 2:34]
    return np.clip(fine + generator.normal(0, 8, fine.shape), 0, 255).astype(np.uint8)


@functools.cache
def model() -> cj.Model:
    net = FastNet((8, 8, 8))
    made = cj.Model.from_module(net, (32, 32, 3), preprocessing=normalised)
    return whitened(made, images())


def test_the_first_layer_makes_patches_of_the_images_white():
    kernel = np.asarray(model().params["whiten"]["kernel"], np.float64)
    x = np.asarray(normalised(jnp.asarray(images(), jnp.float32)), np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)
    outputs = patches @ kernel.reshape(12, WHITE)
    moments = outputs[:, :12].T @ outputs[:, :12] / len(outputs)
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-4)
    assert 0.2 < np.diag(moments).min() <= np.diag(moments).max() < 1.0001
    np.testing.assert_array_equal(outputs[:, 12:], -outputs[:, :12])


def test_evaluation_is_the_mean_of_six_views_of_which_two_count_twice():
    x = normalised(jnp.asarray(images(2), jnp.float32))
    alone = single_view(model())
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    views = [x, padded[:, :32, :32], padded[:, 2:, 2:]]
    mirrored = [0.5 * (alone(v) + alone(v[:, :, ::-1])) for v in map(jnp.asarray, views)]
    expected = 0.5 * mirrored[0] + 0.25 * (mirrored[1] + mirrored[2])
    np.testing.assert_allclose(model()(x), expected, rtol=1e-4, atol=1e-5)


def test_every_image_is_mirrored_in_every_other_epoch():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 4, 5, 1)), jnp.float32)
    batches = [
        {"inputs": x, "index": jnp.arange(40), "epoch": jnp.int32(epoch)} for epoch in range(3)
    ]
    first, second, third = (cifar10_fast.alternating(batch, 0) for batch in batches)
    as_it_is = np.array([np.array_equal(one, other) for one, other in zip(first, x, strict=True)])
    assert 8 < as_it_is.sum() < 32
    np.testing.assert_array_equal(second, first[:, :, ::-1])
    np.testing.assert_array_equal(third, first)


def test_muon_steps_along_a_matrix_near_the_orthogonal_one_and_keeps_the_norm():
    generator = np.random.default_rng(0)
    gradient = generator.normal(size=(3, 3, 4, 16)).astype(np.float32)
    left, _, right = np.linalg.svd(gradient.reshape(36, 16), full_matrices=False)
    near = np.asarray(orthogonal(jnp.asarray(gradient.reshape(36, 16))))
    assert np.linalg.svd(near, compute_uv=False).min() > 0.3
    assert np.linalg.svd(near, compute_uv=False).max() < 1.6
    alike = np.sum(near * (left @ right)) / np.linalg.norm(near) / 16**0.5
    assert alike > 0.95
    kernel = jnp.asarray(generator.normal(size=(3, 3, 4, 16)), jnp.float32)
    rule = muon(optax.constant_schedule(0.0), 0.6)
    updates, _ = rule.update([jnp.asarray(gradient)], rule.init([kernel]), [kernel])
    np.testing.assert_allclose(jnp.linalg.norm(kernel + updates[0]), 4.0, rtol=1e-5)
    handed = identity_like(jax.random.key(0), (3, 3, 4, 16))
    np.testing.assert_array_equal(handed[1, 1, :, :4], np.eye(4))


def test_a_short_training_learns_and_leaves_the_whitening_as_it_is():
    labels = np.arange(64, dtype=np.int32) % 2
    pixels = np.where(labels[:, None, None, None] == 0, images(64), 255 - images(64) // 3)
    data = cj.data.Splits(cj.data.from_arrays(pixels.astype(np.uint8), labels))
    config = cj.TrainingConfig(epochs=6, batch_size=32, frozen=("whiten/kernel",), monitor=None)
    run = cj.fit(
        model(), data, config, optimizer=optimizer(32), objective=cifar10_fast.objective(0),
        verbose=False,
    )  # fmt: skip
    assert run.history["loss"][-1] < run.history["loss"][0]
    before, after = (m.params["whiten"] for m in (model(), run.model))
    np.testing.assert_array_equal(after["kernel"], before["kernel"])
    assert not np.array_equal(after["bias"], before["bias"])
