"""mixup and CutMix: images, shares, labels, and the loss of the training step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import cnnjax as cj
from cnnjax import metrics
from cnnjax.augment import Augment, for_batch, mix
from cnnjax.augment.config import AugmentConfig
from cnnjax.core import rng
from cnnjax.training import TrainState, make_train_step

KEY = rng.stream(0, "augment")
Arrays = tuple[np.ndarray, np.ndarray]

jitted = jax.jit(mix, static_argnums=0)


def image_list(count: int = 12, shape: tuple[int, ...] = (6, 9, 2)) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (count, *shape)).astype(np.float32)


def mixed(
    images: np.ndarray, epoch: int = 0, index: Any = None, **settings: float
) -> tuple[np.ndarray, ...]:
    index = np.arange(len(images)) if index is None else index
    found = jitted(
        AugmentConfig(**settings), KEY, jnp.int32(epoch), jnp.asarray(index, jnp.int32),
        jnp.asarray(images), jnp.asarray(index, jnp.int32) * 10,
    )  # fmt: skip
    return tuple(np.asarray(f) for f in found)


def test_mixup_is_the_sum_of_both_by_their_shares():
    images = image_list()
    found, partners, share = mixed(images, mixup=0.4)
    weight = share[:, None, None, None]
    expected = weight * images + (1 - weight) * np.roll(images, -1, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert partners.tolist() == np.roll(np.arange(12) * 10, -1).tolist()
    assert len(set(share.tolist())) == 12


@pytest.mark.thorough
@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_mixup_draws_from_the_beta_distribution(alpha):
    share = mixed(np.zeros((3000, 1, 1, 1), np.float32), mixup=alpha)[2]
    assert 0 <= share.min() <= share.max() <= 1
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_pastes_a_box_of_the_partner_and_counts_what_is_left():
    images = image_list(60)
    found, _, share = mixed(images, cutmix=1.0)
    own, others = (found == images).all(-1), (found == np.roll(images, -1, axis=0)).all(-1)
    assert (own ^ others).all()
    np.testing.assert_allclose(own.mean((1, 2)), share, rtol=1e-6)
    for box in others:
        rows, columns = box.any(1), box.any(0)
        assert (box == rows[:, None] & columns[None, :]).all()
        for line in (rows, columns):  # without a gap
            assert abs(np.diff(line.astype(int))).sum() <= 2
    assert 0.4 < share.mean() < 0.9


@pytest.mark.thorough
def test_cutmix_draws_shares_as_its_authors_do():
    generator, (height, width) = np.random.default_rng(0), (32, 48)

    def theirs() -> float:
        """`rand_bbox` of github.com/clovaai/CutMix-PyTorch."""
        side = np.sqrt(1 - generator.beta(1, 1))
        cut_h, cut_w = int(height * side), int(width * side)
        y, x = generator.integers(height), generator.integers(width)
        rows = np.clip([y - cut_h // 2, y + cut_h // 2], 0, height)
        columns = np.clip([x - cut_w // 2, x + cut_w // 2], 0, width)
        return 1 - np.diff(rows)[0] * np.diff(columns)[0] / (height * width)

    share = mixed(np.zeros((1500, height, width, 1), np.float32), cutmix=1.0)[2]
    assert stats.ks_2samp(share, [theirs() for _ in range(1500)]).pvalue > 1e-3


@pytest.mark.thorough
def test_with_both_each_example_has_one_of_them():
    images = image_list(80)
    found, _, share = mixed(images, mixup=1.0, cutmix=1.0)
    blends, pastes = mixed(images, mixup=1.0), mixed(images, cutmix=1.0)
    blended = (found == blends[0]).all((1, 2, 3)) & (share == blends[2])
    pasted = (found == pastes[0]).all((1, 2, 3)) & (share == pastes[2])
    assert (blended | pasted).all()
    assert 20 < blended.sum() < 60


def test_a_mix_depends_on_epoch_and_example_not_on_the_place_in_the_batch():
    images, index = image_list(6), np.array([4, 17, 3, 99, 8, 0])
    first = mixed(images, 2, index, mixup=0.7)
    again = mixed(np.roll(images, 2, axis=0), 2, np.roll(index, 2), mixup=0.7)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_allclose(np.roll(a, 2, axis=0), b, rtol=1e-6)
    assert (mixed(images, 3, index, mixup=0.7)[2] != first[2]).all()


def test_dtype_is_kept():
    images = np.round(image_list()).astype(np.uint8)
    found, _, share = mixed(images, mixup=0.4)
    assert (found.dtype, share.dtype) == (np.uint8, np.float32)
    precise = mixed(images.astype(np.float32), mixup=0.4)[0]
    np.testing.assert_array_equal(found, np.round(precise))


def test_nothing_to_mix_is_an_error():
    with pytest.raises(ValueError, match="mix needs mixup or cutmix above 0, got 0 for both"):
        mixed(image_list(), mixup=0.0)


def small(num_classes: int = 3) -> cj.Model:
    return cj.create_model("mlp", units=(4,), input_shape=(12, 12, 1), num_classes=num_classes)


def batch_of(arrays: Arrays, count: int = 16) -> dict[str, np.ndarray]:
    images, labels = arrays
    index = np.arange(count, dtype=np.int32)
    return {
        "inputs": images[:count], "labels": labels[:count], "index": index,
        "epoch": np.asarray(3, np.int32), "mask": np.arange(count) < count - 3,
    }  # fmt: skip


def sums_of(model: cj.Model, batch: dict[str, np.ndarray], **settings: Any) -> dict[str, float]:
    optimizer = optax.set_to_zero()
    step = jax.jit(make_train_step(model, optimizer=optimizer, **settings))
    _, sums = step(TrainState.create(model, optimizer), batch)
    return {name: float(value) for name, value in sums.items()}


def square_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.sum((logits - labels[:, None].astype(jnp.float32)) ** 2, axis=-1)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("classes", "smoothing", "loss", "kind"),
    [
        (3, 0.0, None, "mixup"),
        (3, 0.2, None, "cutmix"),
        (1, 0.0, None, "cutmix"),
        (3, 0.0, square_loss, "mixup"),
    ],
    ids=["softmax", "smoothed", "sigmoid", "own"],
)
@pytest.mark.thorough
def test_the_steps_loss_is_that_of_both_labels(squares, classes, smoothing, loss, kind):
    model, augment = small(classes), Augment(width_shift=1, rotation=10, **{kind: 1.0})
    batch = batch_of((squares[0], np.minimum(squares[1], 1) if classes == 1 else squares[1]))
    found = sums_of(model, batch, augment=augment, loss=loss, label_smoothing=smoothing)

    key = rng.named(jax.random.key(0), "augment")
    which = (key, batch["epoch"], jnp.asarray(batch["index"]))
    images = jax.jit(for_batch, static_argnums=0)(augment, *which, batch["inputs"])
    labels = jnp.asarray(batch["labels"])
    images, partners, share = jitted(augment, *which, images, labels)
    logits = model(model.spec.preprocess(images))
    function = loss or metrics.cross_entropy

    def target(labels: jax.Array) -> jax.Array:
        return metrics.smooth_labels(labels, classes, smoothing) if smoothing else labels

    losses = share * function(logits, target(labels))
    losses += (1 - share) * function(logits, target(partners))
    assert found["loss"] == pytest.approx(float(losses[:13].sum()), rel=1e-4)
    assert found["accuracy"] == float(metrics.correct(logits, labels)[:13].sum())
    assert found["count"] == 13


@pytest.mark.thorough
def test_a_mixed_training_learns(squares, tmp_path):
    config = cj.TrainingConfig(
        epochs=8, batch_size=32, learning_rate=0.01, augment=Augment(mixup=0.2, cutmix=1.0)
    )
    model = cj.create_model("mlp", units=(16,), input_shape=(12, 12, 1), num_classes=3)
    data = cj.data.Splits(cj.data.from_arrays(*squares), cj.data.from_arrays(*squares))
    run = cj.fit(model, data, config, directory=tmp_path / "run", verbose=False)
    assert run.metrics["val_accuracy"] > 0.8
