"""Inputs of any size, of 16 bits, of any number of channels, and a preprocessing of one's own."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import Array

import cnnjax as cj

RNG = np.random.default_rng(0)
TINY = cj.TrainingConfig(epochs=2, batch_size=4, optimizer="adam", learning_rate=0.01)


class Pooled(linen.Module):
    """A convolution, the mean over space, three logits."""

    @linen.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = linen.relu(linen.Conv(4, (3, 3), name="conv")(x))
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(3, name="logits")(x.mean(axis=(1, 2)))


class Flat(linen.Module):
    """Logits of all pixels at once."""

    @linen.compact
    def __call__(self, x: Array) -> Array:
        return linen.Dense(3, name="logits")(x.reshape(len(x), -1))


class Words(linen.Module):
    """Two logits for token ids of any length."""

    @linen.compact
    def __call__(self, tokens: Array) -> Array:
        return linen.Dense(2)(linen.Embed(9, 4)(tokens).mean(axis=1))


def reflectance(counts: Array) -> Array:
    return counts / 10000


def images(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_a_pooled_net_takes_images_of_any_size_as_they_are(tmp_path: Path) -> None:
    model = cj.Model.from_module(Pooled(), (None, None, 2))
    assert "input of any size, here 64x64x2" in str(cj.summary(model))
    small, wide = images(6, 8, 9, 2), images(3, 7, 12, 2)
    run = cj.fit(model, (small, [0, 1, 2, 0, 1, 2]), TINY, directory=tmp_path / "r", verbose=False)
    trained = run.model
    mixed = [small[0], wide[0], small[1], wide[1]]
    probs = cj.predict(trained, mixed)
    for i, image in enumerate(mixed):
        wanted = jax.nn.softmax(trained(image[None] / np.float32(255)))
        np.testing.assert_allclose(probs[i], wanted[0], rtol=1e-4)
    np.testing.assert_allclose(cj.predict(trained, wide)[0], probs[1], rtol=1e-5)
    again = cj.load(tmp_path / "r", module=Pooled())
    assert again.spec == trained.spec
    assert again.spec.input_shape == (None, None, 2)
    np.testing.assert_array_equal(cj.predict(again, mixed), probs)
    assert cj.predict(trained, images(0, 8, 8, 2)).shape == (0, 3)
    assert cj.evaluate(trained, (wide, [0, 1, 2]))["loss"] > 0


@pytest.mark.thorough
def test_a_dense_net_answers_each_size_in_its_own() -> None:
    model = cj.create_model("unet", filters=(2, 3), input_shape=(None, None, 1), num_classes=3)
    assert model.spec.output_shape == (None, None, 3)
    assert cj.predict(model, images(2, 6, 9, 1)).shape == (2, 6, 9, 3)
    data = cj.data.from_arrays(images(4, 6, 8, 1), RNG.integers(0, 3, (4, 6, 8)))
    augment = cj.augment.Augment(horizontal_flip=True)
    config = cj.TrainingConfig(epochs=1, batch_size=4, augment=augment, monitor=None)
    run = cj.fit(model, data, config, verbose=False)
    outputs = run.model(data.inputs / np.float32(255))
    loss = float(cj.metrics.pixels_cross_entropy(outputs, data.labels).mean())
    assert cj.evaluate(run.model, data)["loss"] == pytest.approx(loss, rel=1e-5)
    with pytest.raises(ValueError, match=r"\[6, 8, 3\] and \[7, 8, 3\], which are no single array"):
        cj.predict(model, [images(6, 8, 1), images(7, 8, 1)])
    wrong = cj.data.Dataset(data.inputs, data.labels[:, :5])
    with pytest.raises(ValueError, match=r"needs integer \[N, 6, 8\] for its task 'dense'"):
        cj.evaluate(model, wrong)


def test_a_length_may_be_any_too() -> None:
    model = cj.Model.from_module(Words(), (None,), preprocessing="tokens")
    tokens = RNG.integers(0, 9, (4, 5), dtype=np.int32)
    np.testing.assert_allclose(cj.predict(model, tokens).sum(1), 1, rtol=1e-5)
    assert cj.predict(model, tokens[:, :3]).shape == (4, 2)


def test_a_net_that_needs_one_size_says_so() -> None:
    with pytest.raises(
        ValueError, match=r"\(\?, \?, 1\): Flat does not take any size, .*logits/ke"
    ):
        cj.Model.from_module(Flat(), (None, None, 1))
    with pytest.raises(ValueError, match=r"MLP does not take any size"):
        cj.create_model("mlp", input_shape=(None, None, 1))
    with pytest.raises(ValueError, match="must end in the number of channels"):
        cj.Model.from_module(Pooled(), (8, 8, None))
    model = cj.Model.from_module(Pooled(), (None, 8, 2))
    assert cj.predict(model, images(1, 5, 8, 2)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"takes images \[\?, 8, 2\].*images\[0\] is \[5, 7, 2\]"):
        cj.predict(model, images(1, 5, 7, 2))
    with pytest.raises(
        ValueError, match=r"Pooled takes inputs \[N, \?, 8, 2\], got \[1, 5, 7, 2\]"
    ):
        model(jnp.zeros((1, 5, 7, 2)))
    data = cj.data.from_arrays(images(2, 8, 7, 2), [0, 1])
    with pytest.raises(ValueError, match=r"shape \[8, 7, 2\], the model Pooled takes \[\?, 8, 2\]"):
        cj.evaluate(model, data)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float64])
def test_channels_of_any_number_and_16_bits_go_through_a_function(
    dtype: type, tmp_path: Path
) -> None:
    counts = RNG.integers(0, 9000, (6, 5, 5, 7)).astype(dtype)
    data = cj.data.from_arrays(counts, [0, 1, 2, 0, 1, 2])
    assert data.inputs.dtype == (np.float32 if dtype == np.float64 else dtype)
    model = cj.Model.from_module(Pooled(), (5, 5, 7), preprocessing=reflectance)
    light = cj.augment.Augment(horizontal_flip=True, width_shift=0.2)
    config = cj.TrainingConfig(epochs=2, batch_size=3, augment=light, monitor=None)
    run = cj.fit(model, data, config, directory=tmp_path / "run", verbose=False)
    wanted = jax.nn.softmax(run.model(jnp.float32(counts) / 10000))
    np.testing.assert_allclose(cj.predict(run.model, counts), wanted, rtol=1e-4)
    with pytest.raises(ValueError, match="preprocessing='reflectance', whose code is not stored"):
        cj.load(tmp_path / "run", module=Pooled())
    again = cj.load(tmp_path / "run", module=Pooled(), preprocessing=reflectance)
    np.testing.assert_array_equal(cj.predict(again, counts), cj.predict(run.model, counts))
    assert cj.reproduce(tmp_path / "run", data, model, verbose=False).same
    large = np.repeat(np.repeat(counts, 2, 1), 2, 2)
    np.testing.assert_allclose(cj.predict(run.model, large), wanted, rtol=0.05)


def test_16_bits_are_pixels_only_within_their_range() -> None:
    model = cj.Model.from_module(Pooled(), (5, 5, 1))
    counts = RNG.integers(0, 9000, (6, 5, 5, 1), dtype=np.uint16)
    message = (
        r"uint16 images must be pixels in \[0, 255\], these lie in .* or a function of your own"
    )
    with pytest.raises(ValueError, match=message):
        cj.evaluate(model, (counts, [0, 1, 2, 0, 1, 2]))
    with pytest.raises(ValueError, match=message):
        cj.predict(model, counts)
    with pytest.raises(ValueError, match=message):
        model.spec.preprocess(counts)
    few = (counts % 256).astype(np.uint16)
    np.testing.assert_allclose(cj.predict(model, few), cj.predict(model, np.uint8(few)), rtol=1e-5)
    with pytest.raises(ValueError, match="has inputs of dtype int32, the model Pooled takes uint8"):
        cj.evaluate(model, cj.data.Dataset(counts.astype(np.int32), np.zeros(6, np.int32)))


def test_what_a_preprocessing_of_ones_own_must_do() -> None:
    with pytest.raises(ValueError, match=r"preprocessing='crop' must return inputs of the shape"):
        cj.Model.from_module(Pooled(), (5, 5, 1), preprocessing=crop)
    with pytest.raises(ValueError, match="needs a name of its own, 'unit' is one of cnnjax"):
        cj.Model.from_module(Pooled(), (5, 5, 1), preprocessing=unit)
    made = cj.create_model("cifar_plain", input_shape=(8, 8, 5), preprocessing=reflectance)
    assert made.spec.inputs.name == "reflectance"


def crop(x: Array) -> Array:
    return x[:, 1:]


def unit(x: Array) -> Array:
    return x / 2
