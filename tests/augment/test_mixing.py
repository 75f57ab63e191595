"""mixup and CutMix: images, shares, labels, and the loss of the training step."""

from __future__ import annotations

import functools
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
from cnnjax.augment.mixing import draw_mix, mix_pair
from cnnjax.core import rng
from cnnjax.metrics.losses import smooth_labels
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


def test_a_batch_is_mixed_in_one_way_with_itself_backwards():
    config = AugmentConfig(mixup=1, cutmix=1, mix_per="batch", mix_probability=0.9)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 9, 11, 2)), jnp.float32)
    labels, key = jnp.arange(6), jax.random.key(0)
    kinds = set()
    for epoch in range(12):
        mixed, partners, share = jitted(config, key, jnp.int32(epoch), labels + 3, images, labels)
        assert partners.tolist() == [5, 4, 3, 2, 1, 0]
        assert len(set(share.tolist())) == 1
        left = float(share[0])
        blended = left * images + (1 - left) * images[::-1]
        pasted = np.isclose(mixed, images).all(3) | np.isclose(mixed, images[::-1]).all(3)
        kind = "none" if left == 1 else "blend" if np.allclose(mixed, blended, atol=1e-6) else "box"
        assert kind != "box" or pasted.all()
        kinds.add(kind)
    assert {"blend", "box"} <= kinds


def test_mixed_batches_and_their_loss_are_those_of_timm():
    timm: Any = pytest.importorskip("timm.data.mixup", reason="timm comes with the extra 'bench'")
    losses: Any = pytest.importorskip("timm.loss")
    torch: Any = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    images = generator.normal(size=(6, 15, 21, 3)).astype(np.float32)
    labels = np.array([0, 3, 1, 2, 3, 0], np.int32)
    logits = generator.normal(size=(6, 4)).astype(np.float32)
    both = {"mixup": 0.8, "cutmix": 1.0, "mix_per": "batch"}
    for seed in range(8):
        config = AugmentConfig(**both)
        drawn = draw_mix(config, jax.random.key(seed), images.shape[1:])
        ours = jax.vmap(lambda a, b, drawn=drawn: mix_pair(drawn, a, b))(images, images[::-1])
        theirs = timm.Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=4)
        cuts = not bool(drawn.blends)
        theirs._params_per_batch = lambda drawn=drawn, cuts=cuts: (float(drawn.blend), cuts)
        rows, columns = (np.flatnonzero(np.asarray(drawn.box).any(axis)) for axis in (1, 0))
        box = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) else (0, 0, 0, 0)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(timm, "rand_bbox", lambda *_, box=box, **__: box)
            tensor = torch.as_tensor(images).permute(0, 3, 1, 2).clone()
            mixed, targets = theirs(tensor, torch.as_tensor(labels).long())
        np.testing.assert_allclose(ours, mixed.permute(0, 2, 3, 1).numpy(), atol=1e-6)
        share = float(drawn.left)
        smooth = (smooth_labels(jnp.asarray(y), 4, 0.1) for y in (labels, labels[::-1]))
        first, second = (metrics.cross_entropy(jnp.asarray(logits), y) for y in smooth)
        expected = losses.SoftTargetCrossEntropy()(torch.as_tensor(logits), targets)
        np.testing.assert_allclose(
            np.mean(share * first + (1 - share) * second), expected.numpy(), rtol=1e-5
        )


def test_the_box_for_a_share_and_a_centre_is_that_of_timm():
    timm: Any = pytest.importorskip("timm.data.mixup", reason="timm comes with the extra 'bench'")
    config = AugmentConfig(cutmix=1.0, mix_per="batch")
    for seed in range(20):
        key = jax.random.key(seed)
        drawn = draw_mix(config, key, (15, 21, 3))
        _, beta, place = jax.random.split(key, 3)
        share = float(jax.random.beta(beta, jnp.float32(1), jnp.float32(1)))
        keys = jax.random.split(place)
        centre = [int(jax.random.randint(k, (), 0, n)) for k, n in zip(keys, (15, 21), strict=True)]
        with pytest.MonkeyPatch.context() as patched:
            # It draws the row and then the column.
            drawing = functools.partial(lambda given, *_, **__: next(given), iter(centre))
            patched.setattr(np.random, "randint", drawing)
            (top, bottom, left, right), left_over = timm.cutmix_bbox_and_lam((15, 21), share)
        box = np.zeros((15, 21), bool)
        box[top:bottom, left:right] = True
        assert np.array_equal(drawn.box, box)
        np.testing.assert_allclose(drawn.left, left_over, rtol=1e-6)
