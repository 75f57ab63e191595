"""Binary, multilabel, dense, and tasks of any axes: losses and metrics against those of others."""

from __future__ import annotations

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen
from jax import Array

import cnnjax as cj
from cnnjax import metrics
from cnnjax.task import TASKS

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 4, 3, 6)).astype(np.float32)
MASKS = RNG.integers(0, 6, (5, 4, 3))


class Outputs(linen.Module):
    """A dense layer whose outputs have any axes."""

    sizes: tuple[int, ...]

    @linen.compact
    def __call__(self, x: Array) -> Array:
        x = linen.Dense(int(np.prod(self.sizes)))(x.reshape(len(x), -1))
        return x.reshape(-1, *self.sizes)


def model_of(task: str | cj.Task, *sizes: int) -> cj.Model:
    return cj.Model.from_module(Outputs(sizes), (2, 3, 1), task=task)


def test_the_loss_of_many_labels_is_that_of_keras() -> None:
    logits, labels = LOGITS[:, 0, 0], RNG.integers(0, 2, (5, 6))
    wanted = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
    found = metrics.multilabel_cross_entropy(logits, labels)
    np.testing.assert_allclose(found, wanted(labels.astype(np.float32), logits), rtol=1e-5)
    theirs = np.asarray(keras.metrics.binary_accuracy(labels, logits, threshold=0)).mean(axis=1)
    np.testing.assert_allclose(metrics.labels_correct(logits, labels), theirs, rtol=1e-6)


def test_the_loss_of_pixels_is_that_of_keras_and_skips_what_has_no_label() -> None:
    wanted = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    each = np.asarray(wanted(MASKS, LOGITS))
    np.testing.assert_allclose(
        metrics.pixels_cross_entropy(LOGITS, MASKS), each.mean(axis=(1, 2)), rtol=1e-5
    )
    holes = np.where(RNG.random(MASKS.shape) < 0.5, -1, MASKS)
    holes[1] = -1
    right = (LOGITS.argmax(-1) == MASKS).astype(np.float32)
    for found, values in (
        (metrics.pixels_cross_entropy(LOGITS, holes), each),
        (metrics.pixels_correct(LOGITS, holes), right),
    ):
        for i, labelled in enumerate(holes >= 0):
            mean = values[i][labelled].mean() if labelled.any() else 0
            assert float(found[i]) == pytest.approx(mean, rel=1e-5)


def test_one_logit_a_pixel_decides_between_two_classes() -> None:
    logits, labels = LOGITS[..., :1], MASKS % 2
    wanted = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
    each = np.asarray(wanted(labels[..., None].astype(np.float32), logits))
    np.testing.assert_allclose(
        metrics.pixels_cross_entropy(logits, labels), each.mean(axis=(1, 2)), rtol=1e-5
    )
    right = ((logits[..., 0] > 0) == labels).mean(axis=(1, 2))
    np.testing.assert_allclose(metrics.pixels_correct(logits, labels), right, rtol=1e-6)


def test_names_and_sizes_follow_the_axes() -> None:
    dense = model_of("dense", 2, 3, 4)
    assert dense.spec.output_shape == (2, 3, 4)
    assert (dense.spec.num_classes, dense.spec.positions) == (4, 0)
    assert model_of("binary", 1).spec.output_shape == (1,)
    named = cj.Model.from_module(Outputs((1,)), (2, 3, 1), task="binary", label_names=("no", "yes"))
    assert named.spec.label_name(1) == "yes"
    one = cj.Model.from_module(Outputs((1,)), (2, 3, 1), task="multilabel", label_names=("sun",))
    assert one.spec.num_classes == 1
    with pytest.raises(ValueError, match=r"must return logits \[N, 1\]; for N = 2 it returns"):
        model_of("binary", 2)
    with pytest.raises(ValueError, match=r"must return logits \[N, H, W, K\]; for N = 2"):
        model_of("dense", 2)


def test_a_task_may_have_any_axes_of_its_own() -> None:
    def loss(outputs: Array, labels: Array) -> Array:
        return jnp.square(outputs - labels).mean(axis=(1, 2, 3))

    task = cj.Task(
        "fields", loss, {"error": loss}, outputs=("N", "A", "B", 2), labels=("N", "A", "B"),
        label_kind="floating", check=lambda *_: None, activation=jnp.tanh, of_classes=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="labels of a task must be 'N' and others of"):
        cj.Task("fields", loss, {"error": loss}, outputs=("N", "A"), labels=("N", "B"))
    for wrong in (("K", "N"), ("N", "K", "K"), ("N", 0), ()):
        with pytest.raises(ValueError, match="outputs of a task must be 'N' and names of other"):
            cj.Task("fields", loss, {"error": loss}, outputs=wrong)  # type: ignore[arg-type]
    model = model_of(task, 3, 4, 2)
    assert (model.spec.output_shape, model.spec.num_classes) == ((3, 4, 2), 2)
    assert task.label_shape((3, 4, 2)) == (3, 4)
    images = RNG.integers(0, 255, (6, 2, 3, 1), dtype=np.uint8)
    assert cj.predict(model, images).shape == (6, 3, 4, 2)
    data = cj.data.Dataset(images, np.zeros((6, 3, 5), np.float32))
    with pytest.raises(ValueError, match=r"needs floating \[N, 3, 4\] for its task 'fields'"):
        cj.evaluate(model, data)
    scalar = cj.Task(
        "scalar", lambda o, y: jnp.abs(o - y), {"error": lambda o, y: jnp.abs(o - y)},
        outputs=("N",), label_kind="floating", check=lambda *_: None, of_classes=False,
        activation=jnp.tanh,
    )  # fmt: skip
    one = model_of(scalar)
    assert (one.spec.output_shape, one.spec.num_classes) == ((), 1)
    data = cj.data.Dataset(images, np.zeros(6, np.float32))
    run = cj.fit(one, data, cj.TrainingConfig(epochs=1, batch_size=3), verbose=False)
    outputs = np.asarray(run.model(images / np.float32(255)))
    assert cj.evaluate(run.model, data)["error"] == pytest.approx(np.abs(outputs).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("task", "sizes", "labels", "message"),
    [
        ("multilabel", (3,), np.zeros(4, np.int32), r"cj.data.one_hot\(labels, num_classes\)"),
        ("multilabel", (2,), np.full((4, 2), 2), r"labels\[0, 0\] is 2, and labels of Outputs are"),
        ("binary", (1,), np.full(4, np.nan, np.float32), r"labels\[0\] is nan, and labels of Out"),
        ("classes", (3,), np.zeros((4, 3), np.int32), "are for a model of the task 'multilabel'"),
        ("classes", (3,), np.zeros((4, 2, 3), np.int32), "is for a model of the task 'dense'"),
        ("values", (1,), np.zeros(4, np.float32), "cj.data.from_arrays with task='values'"),
        ("dense", (2, 3, 2), np.full((4, 2, 3), 255), "a pixel without a label has -1"),
        ("dense", (2, 3, 2), np.full((4, 2, 3), -2), r"labels\[0, 0, 0\] is -2, but"),
        ("dense", (2, 3, 2), np.zeros((4, 2, 2), np.int32), r"needs integer \[N, 2, 3\]"),
    ],
)  # fmt: skip
def test_labels_of_another_task_are_refused_with_what_to_give(
    task: str, sizes: tuple[int, ...], labels: np.ndarray, message: str
) -> None:
    data = cj.data.Dataset(np.zeros((4, 2, 3, 1), np.uint8), labels)
    with pytest.raises(ValueError, match=message):
        cj.evaluate(model_of(task, *sizes), data)


def test_the_lines_of_a_task_say_what_it_found() -> None:
    names = ("sea", "sky")
    found = {name: task.decode for name, task in TASKS.items()}
    assert found["binary"](np.array([[0.75]]), ("no", "yes")) == ["yes 0.7500"]
    assert found["multilabel"](np.array([[0.75, 0.5]]), names) == ["sea 0.7500"]
    assert found["dense"](np.array([[[[0.1], [0.2], [0.3], [0.9]]]])) == ["0 75.00 %  1 25.00 %"]
