"""Images as PyTorch has them, [N, C, H, W]: the error says how to turn them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.core.checks import channels_first

SECOND = r"have their channels second, .* give np\.moveaxis\((images|inputs), 1, -1\)"
FIRST = r"its channels first, .* np\.moveaxis"


class Net(linen.Module):
    @linen.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        x = linen.Conv(4, (3, 3), name="conv")(x)
        return linen.Dense(3, name="logits")(x.mean(axis=(1, 2)))


def model(shape: tuple[int, ...] = (16, 16, 3)) -> cj.Model:
    return cj.Model.from_module(Net(), shape)


def arrays(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return images, np.arange(shape[0]) % 3


@pytest.mark.parametrize(
    "shape", [(6, 3, 32, 32), (6, 1, 28, 28), (6, 4, 16, 20), (6, 1, 64, 160), (6, 3, 224, 224)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_and_files_are_refused(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    images, labels = arrays(*shape)
    images = images.astype(dtype)
    with pytest.raises(ValueError, match=SECOND) as error:
        cj.data.from_arrays(images, labels)
    assert "input_shape" not in str(error.value)
    assert str(list(shape)) in str(error.value)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels)
    with pytest.raises(ValueError, match=SECOND):
        cj.data.load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=SECOND):
        cj.fit(model(), (images, labels))


def test_idx_files_of_four_axes_are_refused(tmp_path: Path) -> None:
    images, labels = arrays(6, 3, 16, 16)
    for name, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    with pytest.raises(ValueError, match=SECOND):
        cj.data.load(tmp_path)


@pytest.mark.parametrize(
    "shape",
    [
        (6, 3, 32, 3),  # ambiguous
        (6, 1, 28, 1),
        (6, 2, 2, 512),  # maps of features
        (6, 1, 1, 2048),
        (6, 4, 4, 512),
        (6, 3, 3, 64),
        (6, 1, 100, 4),  # a series
        (6, 8, 8, 3),
        (6, 28, 28),
    ],
)
def test_what_may_be_channels_last_is_taken_so(shape: tuple[int, ...]) -> None:
    data = cj.data.from_arrays(*arrays(*shape))
    assert data.input_shape == (*shape[1:], 1)[:3]


def test_a_data_set_made_by_hand_is_refused_where_a_model_takes_it(tmp_path: Path) -> None:
    images, labels = arrays(6, 3, 16, 16)
    data = cj.data.Dataset(images, labels.astype(np.int32))
    uses: list[Callable[[], object]] = [
        lambda: cj.fit(model(), data),
        lambda: cj.evaluate(model(), data),
        lambda: cj.transfer.extract_features(model(), data, tmp_path, "conv"),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=SECOND) as error:
            use()
        assert "create it with" not in str(error.value)


def test_with_a_model_any_number_of_channels_is_known() -> None:
    images, labels = arrays(6, 13, 16, 16)
    data = cj.data.from_arrays(images, labels)  # who knows
    net = cj.Model.from_module(Net(), (16, 16, 13))
    with pytest.raises(ValueError, match=SECOND):
        cj.fit(net, data)
    with pytest.raises(ValueError, match=FIRST):
        cj.predict(net, images)


@pytest.mark.parametrize(
    ("own", "given"),
    [((16, 16, 3), (2, 3, 16, 16)), ((16, 16, 1), (2, 1, 16, 16)), ((16, 20, 3), (2, 3, 40, 30))],
)
def test_prediction_says_so_of_batches_lists_and_single_images(
    own: tuple[int, ...], given: tuple[int, ...]
) -> None:
    net, images = model(own), arrays(*given)[0]
    with pytest.raises(ValueError, match=FIRST):
        cj.predict(net, images)
    with pytest.raises(ValueError, match=FIRST):
        cj.predict(net, list(images))
    if own[2] > 1:
        with pytest.raises(ValueError, match=r"one image with its channels first.*\[None\]"):
            cj.predict(net, images[0])
    turned = cj.predict(net, np.moveaxis(images, 1, -1))
    assert turned.shape == (2, 3)


def test_calls_and_explanations_say_so() -> None:
    net, inputs = model(), np.zeros((2, 3, 16, 16), np.float32)
    for use in (
        lambda: net(inputs),
        lambda: cj.explain.saliency(net, inputs),
        lambda: cj.explain.grad_cam(net, inputs, layer="conv"),
        lambda: cj.explain.activations(net, inputs),
    ):
        with pytest.raises(ValueError, match=SECOND):
            use()


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 28, 28), (3, 32, 48)])
def test_models_are_not_made_for_them(shape: tuple[int, ...]) -> None:
    turned = (*shape[1:], shape[0])
    wanted = rf"channels first.* give input_shape={turned}".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=wanted):
        model(shape)
    with pytest.raises(ValueError, match=wanted):
        cj.create_model("cifar_plain", input_shape=shape)
    with pytest.raises(ValueError, match=wanted):
        cj.create_model("vgg16", input_shape=shape)


@pytest.mark.parametrize("shape", [(1, 64, 16), (2, 64, 64), (4, 16, 16)])
def test_models_of_few_rows_and_many_channels_are_made(shape: tuple[int, ...]) -> None:
    assert model(shape).spec.input_shape == shape


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (3, 16, 16), (5, 1, 8, 12), (1, 28, 28)])
def test_augmentation_says_so_of_batches_and_single_images(shape: tuple[int, ...]) -> None:
    augment = cj.augment.Augment(horizontal_flip=True)
    with pytest.raises(ValueError, match=f"to augment .*({SECOND}|has {FIRST})"):
        augment(jax.random.key(0), np.zeros(shape, np.uint8))


def test_the_rule() -> None:
    assert channels_first((3, 8, 8))
    assert not channels_first((3, 7, 8))
    assert not channels_first((5, 32, 32))
    assert not channels_first((1, 10, 41))  # sides of four to one and less
    assert channels_first((5, 32, 32), channels=5)
    assert not channels_first((3, 32, 3), channels=3)
    assert not channels_first((28, 28))
