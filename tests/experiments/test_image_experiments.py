"""The experiments that draw: what they measure is right, and their images are there."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.explain import Change
from experiments import (
    _canvas,
    _images,
    classical_kernels,
    dense_as_convolution,
    equivariance,
    layers_walk,
    receptive_field,
)

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth coloured blobs, as a file."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    file = tmp_path_factory.mktemp("photo") / "blobs.png"
    coarse.resize((160, 120), Image.Resampling.BICUBIC).save(file)
    return file


def check(folder: Path, *names: str) -> None:
    """The images are there, and not blank."""
    assert {file.stem for file in folder.glob("*.png")} == set(names)
    for name in names:
        image = Image.open(folder / f"{name}.png")
        assert min(image.size) > 150
        assert np.asarray(image.convert("L")).std() > 5, f"{name} is blank"


@pytest.mark.slow
def test_classical_kernels(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = classical_kernels.main(
        classical_kernels.Config(photo=str(photo), out=str(tmp_path / "new"))
    )
    check(tmp_path / "new", "kernels", "detail", "derivatives", "isotropy")
    assert found["90"] == 0
    assert found["45 blur 4"] < found["45 blur 1"] < 0.2
    out = capsys.readouterr().out
    assert out.splitlines()[2].split() == [
        "90",
        "degrees",
        "45,",
        "blur",
        "1",
        "45,",
        "blur",
        "2",
        "45,",
        "blur",
        "4",
    ]
    assert f"images: {tmp_path / 'new'}" in out


def test_the_default_photo() -> None:
    assert _images.read_photo(_images.ImageOptions()).shape == (427, 640, 3)
    small = _images.read_photo(_images.ImageOptions(), longest=64)
    assert (small.shape, small.dtype) == ((43, 64, 3), np.uint8)


@pytest.mark.slow
def test_layers_walk(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers_walk, "ACTIVATIONS", ("relu", "tanh"))
    monkeypatch.setattr(layers_walk, "PREFIXES", (*layers_walk.PREFIXES[:3], ("dense", 3)))
    found = layers_walk.main(layers_walk.Config(photo=str(photo), out=str(tmp_path), size=64))
    check(tmp_path, "layers", "activations", "kernel_sizes")
    relu, tanh = found["relu"], found["tanh"]
    assert list(relu) == ["conv1", "pool1 (2x2)", "relu1", "dense"]
    assert relu["conv1"].shape == (46, 62, 3)
    assert relu["pool1 (2x2)"].shape == (23, 31, 3)
    assert relu["relu1"].shape == (15, 20, 3)
    assert relu["dense"].shape == (8,)
    np.testing.assert_array_equal(relu["conv1"], tanh["conv1"])  # the same stored weights
    # Every number by hand, from the file.
    with np.load(tmp_path / "weights.npz") as file:
        stored = {name: file[name] for name in file.files}
    kernel, bias = stored["params/conv1/kernel"], stored["params/conv1/bias"]
    pixels = _images.read_photo(layers_walk.Config(photo=str(photo)), longest=64)
    inputs = jnp.asarray(pixels[None], jnp.float32) / 255
    conv = cj.nn.conv2d(inputs, jnp.asarray(kernel)) + bias.reshape(1, 1, 1, -1)
    np.testing.assert_allclose(relu["conv1"], conv[0], rtol=1e-5, atol=1e-6)
    pooled = cj.nn.max_pool(conv, 3)[0]
    np.testing.assert_allclose(relu["relu1"], np.maximum(pooled, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tanh["tanh1"], np.tanh(pooled), rtol=1e-5, atol=1e-6)


def test_images_run_from_their_smallest_to_their_largest_value() -> None:
    shown = layers_walk.image(np.array([[[-1.0, 0.0, 3.0]]]))
    np.testing.assert_array_equal(shown, [[[0, 0.25, 1]]])
    assert not layers_walk.image(np.full((2, 2, 3), 7.0)).any()
    row = layers_walk.image(np.arange(8.0))
    assert row.shape[2] == 3
    assert [row[5, 11 * i + 5, 0] for i in range(8)] == pytest.approx(np.arange(8) / 7)


@pytest.mark.slow
def test_equivariance(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivariance, "SHIFTS", (1, 2))
    monkeypatch.setattr(equivariance, "SCALES", (1.1,))
    monkeypatch.setattr(equivariance, "TURNS", (5,))
    monkeypatch.setattr(equivariance, "SHEARS", (5,))
    monkeypatch.setattr(equivariance, "POOLS", (1, 2))
    cj.save(cj.create_model("mnist_convnet", input_shape=(40, 40, 1)), tmp_path / "model")
    config = equivariance.Config(
        photo=str(photo),
        out=str(tmp_path / "out"),
        run=str(tmp_path / "model"),
        layers=("conv1", "pool1", "logits"),
    )
    found = equivariance.main(config)
    check(tmp_path / "out", "translation", "shifts", "deformations")
    assert list(found) == ["shift 1", "shift 2", "scale 1.1", "turn 5", "shear 5"]
    assert isinstance(found["turn 5"]["conv1"], Change)
    assert found["shift 2"]["pool1"].equivariance < 1e-6
    assert found["shift 1"]["pool1"].equivariance > 1e-3


@pytest.mark.slow
def test_receptive_field(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = receptive_field.Config(
        photo=str(photo), out=str(tmp_path), model="lenet", size=30, layers=("conv1", "pool2")
    )
    boxes = receptive_field.main(config)
    check(tmp_path, "boxes", "parts")
    assert boxes["pool2"].size == (16, 16)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:4]]
    assert lines == [
        ["conv1", "5x5", "5x5", "1x1", "yes"],
        ["pool2", "16x16", "16x16", "4x4", "yes"],
    ]


@pytest.mark.slow
def test_dense_as_convolution(tmp_path: Path) -> None:
    # A net that is there already is not trained again.
    net = cj.create_model("mnist_convnet", num_classes=11, label_names=_canvas.NAMES)
    cj.save(net, tmp_path / "digits")
    found = dense_as_convolution.main(dense_as_convolution.Config(out=str(tmp_path)))
    check(tmp_path, "matrices", "digits")
    assert found["matrix"] < 1e-6
    assert found["convolutional net"] < 1e-5
    assert 0 <= found["digits"] <= 1


@pytest.mark.slow
def test_the_digits_of_a_canvas_are_read(tmp_path: Path) -> None:
    found = dense_as_convolution.main(dense_as_convolution.Config(out=str(tmp_path)))
    assert found["digits"] >= 0.75
    assert cj.load(tmp_path / "digits").spec.label_names == _canvas.NAMES


def test_windows_hold_a_digit_in_their_middle_or_nothing() -> None:
    images = np.zeros((10, 28, 28, 1), np.uint8)
    images[:, 12:16, 12:16] = 25 * np.arange(10).reshape(10, 1, 1, 1) + 25  # label by brightness
    digits = cj.data.from_arrays(images, np.arange(10))
    found, labels = _canvas.windows(digits, 200, np.random.default_rng(0))
    assert found.shape == (len(labels), 28, 28, 1)
    nothing = labels == _canvas.NOTHING
    assert 0.3 < nothing.mean() < 0.6
    middles = found[:, 10:18, 10:18].max(axis=(1, 2, 3))
    np.testing.assert_array_equal(middles[~nothing], 25 * labels[~nothing] + 25)


def test_positions_of_windows() -> None:
    values = dense_as_convolution.at_pixels(np.arange(6.0).reshape(2, 3), (20, 24), 7.5, 4)
    assert values.shape == (20, 24)
    assert (values[7, 7], values[8, 8], values[8, 11], values[12, 17]) == (0, 0, 1, 5)
    assert np.isnan([values[0, 8], values[8, 0], values[14, 8], values[8, 18]]).all()
