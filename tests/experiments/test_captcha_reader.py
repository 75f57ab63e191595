"""The net that reads CAPTCHAs: equal to the same net in Keras; trained, asked and explained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen
from keras import layers
from PIL import Image

import cnnjax as cj
from cnnjax.cli import main as command_line
from cnnjax.core import trees
from cnnjax.data import CaptchaRendering
from cnnjax.models.builder import build
from cnnjax.recipes import Experiment
from experiments import captcha

# A small reader need not have learned to look for every symbol.
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore::cnnjax.explain.EmptyMap"),
]

SMALL: dict[str, Any] = {"filters": (8, 16, 16), "input_shape": (32, 64, 1)}


def keras_net(filters: tuple[int, ...], positions: int, classes: int) -> keras.Model:
    inputs = x = keras.Input((32, 64, 1))
    for i, width in enumerate(filters, start=1):
        if i > 1:
            x = layers.MaxPooling2D(2, name=f"pool{i - 1}")(x)
        size, stride = (5, 2) if i == 1 else (3, 1)
        x = layers.Conv2D(
            width, size, strides=stride, padding="same", use_bias=False, name=f"conv{i}"
        )(x)
        x = layers.BatchNormalization(name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    heads = [layers.Dense(classes, name=f"position{i + 1}")(x) for i in range(positions)]
    return keras.Model(inputs, keras.ops.stack(heads, axis=1))


def test_outputs_equal_kerass() -> None:
    model = cj.create_model("captcha", positions=3, num_classes=5, **SMALL)
    assert (model.spec.task.name, model.spec.positions) == ("positions", 3)
    assert model.spec.head == ("position1", "position2", "position3")
    rng = np.random.default_rng(0)
    variables = trees.map_flat(
        lambda path, leaf: np.abs(rng.normal(size=leaf.shape)).astype(np.float32) / 3,
        model.variables,
    )
    images = rng.random((2, 32, 64, 1), np.float32)
    with jax.numpy_rank_promotion("allow"):
        oracle = keras_net(SMALL["filters"], 3, 5)
        for layer in oracle.layers:
            if layer.weights:
                stored = [
                    variables[collection][layer.name][weight.name]
                    for weight in layer.weights
                    for collection in ("params", "batch_stats")
                    if weight.name in variables[collection].get(layer.name, {})
                ]
                layer.set_weights(stored)
        wanted = oracle(images, training=False)
    found = model.replace(variables=variables)(images)
    assert found.shape == (2, 3, 5)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


def test_every_head_has_its_name_and_the_base_is_shared() -> None:
    model = cj.Model.abstract(*build("captcha"))
    names = model.layer_names
    assert [n for n in names if n.startswith("position")] == [f"position{i}" for i in (1, 2, 3, 4)]
    assert model.spec.cam_layer in names
    assert model.spec.resize == "stretch"  # cutting an image would cut off symbols
    kinds = [row.kind for row in cj.summary(model).rows]
    assert kinds.count("Conv2D") == len(model.module.filters)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cj.Run:
    """A small reader, trained in some seconds."""
    model = cj.create_model(
        "captcha", positions=2, num_classes=3, label_names=("I", "O", "X"), **SMALL
    )
    config = cj.TrainingConfig(
        epochs=4, batch_size=32, optimizer="adam", learning_rate=1e-2, schedule="one_cycle",
        monitor=None,
    )  # fmt: skip
    splits = cj.data.load_captchas(2000, 200, length=2, symbols="IOX", size=(32, 64), seed=5)
    directory = tmp_path_factory.mktemp("captcha") / "run"
    return cj.fit(model, splits, config, directory=directory, verbose=False)


def test_it_learns_to_read(run: cj.Run) -> None:
    assert run.metrics["test_accuracy"] > 0.7  # by chance 0.11


@pytest.fixture(scope="module")
def image_list(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of new CAPTCHAs, one of another size."""
    files = []
    for i, (text, size) in enumerate((("XO", (32, 64)), ("IX", (48, 96)))):
        draw = CaptchaRendering(length=2, symbols="IOX", size=size)
        file = tmp_path_factory.mktemp("files") / f"new{i}.png"
        Image.fromarray(draw(text, f"{i}")[..., 0]).save(file)
        files.append(str(file))
    return files


def read(probs: np.ndarray) -> str:
    """The text that a reader of I, O and X gives these probabilities [P, 3] for."""
    return "".join("IOX"[k] for k in probs.argmax(axis=1))


def test_predict_prints_the_text_and_how_sure_each_symbol_is(
    run: cj.Run, image_list: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command_line(["predict", str(run.directory), *image_list])
    *lines, note = capsys.readouterr().out.splitlines()
    assert note == "# images were brought to 32x64 by stretching"
    for file, line in zip(image_list, lines, strict=True):
        (row,) = cj.predict(run.model, [cj.data.read_image(file, 1)])
        name, said, whole, *single = line.split()
        assert (name, said) == (file, read(row))
        assert float(whole) == pytest.approx(row.max(axis=1).prod(), abs=1e-4)
        assert single[0::2] == list(said)
        np.testing.assert_allclose([float(s) for s in single[1::2]], row.max(axis=1), atol=1e-4)


def test_positions_are_decoded() -> None:
    probs = np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.6, 0.4], [0.3, 0.7]]])
    assert cj.decode_positions(probs, ("A", "B")) == [
        [("B", 0.9), ("A", 0.8)],
        [("A", 0.6), ("B", 0.7)],
    ]
    assert cj.decode_positions(probs)[0][0] == ("1", 0.9)
    with pytest.raises(ValueError, match=r"probs must be \[N, positions, num_classes\], got"):
        cj.decode_positions(probs[0])
    with pytest.raises(ValueError, match="3 label_names for 2 classes"):
        cj.decode_positions(probs, ("A", "B", "C"))


def test_top_is_refused_where_there_are_several_answers(
    run: cj.Run, image_list: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command_line(["predict", str(run.directory), image_list[0], "--top", "2"])
    assert "--top is for one class an image, and captcha reads 2 symbols" in capsys.readouterr().err


def test_images_of_another_size_are_refused_in_training(run: cj.Run) -> None:
    other = cj.data.load_captchas(8, 0, length=2, symbols="IOX", size=(32, 72))
    with pytest.raises(ValueError, match=r"images of shape \[32, 72, 1\], the model captcha takes"):
        cj.fit(run.model, other, cj.TrainingConfig(batch_size=8), verbose=False)
    longer = cj.data.load_captchas(8, 0, length=3, symbols="IOX", size=(32, 64))
    with pytest.raises(ValueError, match=r"labels of shape \[8, 3\].* needs integer \[N, 2\]"):
        cj.fit(run.model, longer, cj.TrainingConfig(batch_size=8), verbose=False)


# Where it looks


class OnePosition(linen.Module):
    """What the reader says of one position, as an ordinary classifier."""

    reader: linen.Module
    position: int

    @linen.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        return self.reader(inputs)[:, self.position]


def test_maps_of_a_position_are_those_of_its_classifier_alone(run: cj.Run) -> None:
    model = run.model
    test = cj.data.load_captchas(1, 3, length=2, symbols="IOX", size=(32, 64), seed=6).test
    inputs = model.spec.preprocess(test.inputs)
    alone = cj.Model.from_module(OnePosition(model.module, 1), (32, 64, 1), train_argument=False)
    alone = alone.replace(
        variables={kind: {"reader": tree} for kind, tree in model.variables.items()}
    )
    best = np.asarray(alone(inputs)).argmax(axis=1).tolist()
    for target, same in (
        ((1, None), None),
        ((1, "O"), 1),
        ([(1, 2), (1, "I"), (1, None)], [2, 0, best[2]]),
        (np.array([[1, 0]] * 3), 0),
    ):
        found = cj.explain.grad_cam(model, inputs, "relu3", target)
        wanted = cj.explain.grad_cam(alone, inputs, "reader/relu3", same)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_position_may_be_traced(run: cj.Run) -> None:
    test = cj.data.load_captchas(1, 3, length=2, symbols="IOX", size=(32, 64), seed=6).test
    inputs = run.model.spec.preprocess(test.inputs)
    find = jax.jit(lambda x, target: cj.explain.grad_cam(run.model, x, "relu3", target))
    found = find(inputs, jnp.array([1, 2]))
    np.testing.assert_allclose(
        found, cj.explain.grad_cam(run.model, inputs, "relu3", (1, 2)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, r"target must be \(position, class\) .* captcha has 2 positions, got None"),
        (1, r"target must be \(position, class\)"),
        ("O", r"target must be \(position, class\)"),
        ([(0, 1)], "target has 1 pairs for 2 images: give one per image"),
        ((2, 1), r"target=\(2, 1\): captcha has the positions 0 to 1"),
        ((-1, 1), r"target=\(-1, 1\): captcha has the positions 0 to 1"),
        ((0, 3), "target=3 is out of range: captcha has 3 classes"),
        ((0, "Q"), "target='Q' is no class of captcha"),
    ],
)
def test_a_target_that_cannot_be_is_named(run: cj.Run, target: Any, message: str) -> None:
    inputs = np.zeros((2, 32, 64, 1), np.float32)
    with pytest.raises(ValueError, match=message):
        cj.explain.grad_cam(run.model, inputs, target=target)


def test_other_methods_ask_a_position_too(run: cj.Run) -> None:
    inputs = np.random.default_rng(0).random((2, 32, 64, 1)).astype(np.float32)
    logits = np.asarray(run.model(inputs))
    best = logits[:, 1].argmax(1)
    gradient = jax.grad(lambda x: sum(run.model(x)[n, 1, k] for n, k in enumerate(best)))(inputs)
    expected = np.abs(gradient).max(-1)
    expected /= expected.max((1, 2), keepdims=True)
    for target in ((1, None), [(1, int(k)) for k in best]):
        found = cj.explain.saliency(run.model, inputs, target)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    together = cj.explain.saliency(run.model, inputs, [[(0, 1), (1, int(k))] for k in best])
    np.testing.assert_allclose(together[:, 1], expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"target must be \(position, class\)"):
        cj.explain.saliency(run.model, inputs)
    with pytest.raises(ValueError, match="captcha has no single class to explain"):
        cj.explain.class_patterns(run.model, [0])


def test_gradcam_draws_an_image_for_each_position(
    run: cj.Run, image_list: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    command_line(
        ["gradcam", str(run.directory), *image_list, "--out", str(tmp_path), "--layer", "relu3"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: 1 + 2 * len(image_list)]] == [
        "image",
        *(name for f in image_list for name in 2 * [Path(f).stem]),
    ]
    assert len(lines) == 5 + 1 + 2 * (1 + 2 * 2) + 1
    assert lines[5].startswith("# Grad-CAM explains the class predicted")
    for file in image_list:
        stored = np.load(tmp_path / f"{Path(file).stem}_gradcam.npz")
        assert stored["heatmaps"].shape == (2, 32, 64)
        (row,) = cj.predict(run.model, [cj.data.read_image(file, 1)])
        assert ["IOX"[k % 3] for k in stored["classes"]] == list(read(row))
        assert (stored["classes"] // 3).tolist() == [0, 1]
        np.testing.assert_allclose(stored["probabilities"], row.max(axis=1), atol=1e-5)


# The experiment


@pytest.mark.slow
def test_the_experiment_trains_reads_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def smaller(options: captcha.CaptchaOptions) -> Experiment:
        return replace(whole(options), arguments={"filters": SMALL["filters"]})

    whole = captcha.experiment
    monkeypatch.setattr(captcha, "experiment", smaller)
    options = captcha.CaptchaOptions(
        train_images=64, test_images=40, epochs=1, out=str(tmp_path / "run")
    )
    (run,) = captcha.main(options)
    out = capsys.readouterr().out
    assert "whole CAPTCHAs right:" in out
    assert "by position:" in out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["source"]["captcha"]["train"] == 64
    figures = {p.name for p in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"curves.png", "readings.png", "symbols.png"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("data:image/png") == 3
    same = cj.reproduce(run.directory, verbose=False)
    assert same.same, str(same)
    assert run.model.spec.label_names == tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_accuracies_by_position_and_symbol_and_what_is_mistaken() -> None:
    truth = np.array([[0, 1], [0, 2], [1, 1], [1, 0]])
    read = np.array([[0, 1], [1, 2], [1, 1], [0, 1]])
    found = captcha.Readings(("A", "B", "C", "D"), truth, read, np.full((4, 2), 0.5))
    np.testing.assert_allclose(found.by_symbol(), [1 / 3, 3 / 4, 1, np.nan])
    assert found.confusions() == [("A", "B", 2), ("B", "A", 1)]
    text = captcha.describe(found)
    assert "whole CAPTCHAs right: 50.00 %" in text
    assert "by position: 50.00 %, 75.00 %" in text
    assert "A as B (2), B as A (1)" in text


def test_the_texts_may_be_of_fewer_symbols() -> None:
    options = captcha.CaptchaOptions(symbols="AB8", train_images=9, test_images=2)
    train = captcha.data(options).train
    assert train.label_names == ("A", "B", "8")
    assert set(train.labels.ravel()) <= {0, 1, 2}
    assert captcha.experiment(options).name == "captcha/pillow/3-symbols"
    assert captcha.experiment(captcha.CaptchaOptions()).name == "captcha/pillow"


def test_no_test_images_are_refused() -> None:
    with pytest.raises(ValueError, match="test_images must be at least 1, got 0"):
        captcha.main(captcha.CaptchaOptions(test_images=0))
