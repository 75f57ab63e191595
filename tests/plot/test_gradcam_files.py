"""Heatmap and overlay alone: at the photo's own size, where the net saw it, whatever the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax import plot

SIZE = 24  # of the net's input, height and width
SPOT = (slice(18, 26), slice(56, 64))  # of the photo: rows, columns


class Redness(linen.Module):
    """A map of the red channel, and its mean for the first class: its heat is the photo's red."""

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(1, (1, 1), use_bias=False, name="red")(x)
        mean = x.mean(axis=(1, 2, 3))
        return linen.Dense(2, name="logits")(mean[:, None])


def model_of(policy: str) -> cj.Model:
    model = cj.Model.from_module(Redness(), (SIZE, SIZE, 3), preprocessing="unit")
    params = {
        "red": {"kernel": np.array([1, 0, 0], np.float32).reshape(1, 1, 3, 1)},
        "logits": {"kernel": np.array([[1, -1]], np.float32), "bias": np.zeros(2, np.float32)},
    }
    spec = replace(model.spec, resize=policy, label_names=("red", "other"))
    return model.replace(variables={"params": params}, spec=spec)


@pytest.fixture
def photo() -> np.ndarray:
    """Blue, lying, twice as wide as high, with a red spot."""
    pixels = np.full((48, 96, 3), (0, 40, 90), np.uint8)
    pixels[SPOT] = (250, 0, 0)
    return pixels


def drawn(model: cj.Model, file: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(heatmap RGBA, overlay RGB) of a file."""
    plot.draw_gradcam(model, [file], folder, "red", ["red"])
    pair = [np.asarray(Image.open(folder / f"{file.stem}_{k}.png")) for k in ("heatmap", "overlay")]
    return pair[0], pair[1]


def middle(heat: np.ndarray) -> np.ndarray:
    """Where heat [H, W] lies: its mean row and column, in pixels."""
    rows, columns = np.indices(heat.shape)
    return np.array([(heat * rows).sum(), (heat * columns).sum()]) / heat.sum()


def in_jet(heat: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] in [0, 255] of [0, 1], by the definition of JET's first and last colours."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["jet"](heat))[..., :3] * 255


@pytest.mark.sample(1)
@pytest.mark.parametrize(("policy", "seen"), [("crop", (24, 72)), ("stretch", (0, 96))])
@pytest.mark.parametrize("lying", [True, False])
def test_they_land_on_the_part_of_the_photo_that_the_net_saw(
    policy, seen, lying, photo, tmp_path
) -> None:
    first, last = seen
    turn = (lambda a: a) if lying else (lambda a: a.swapaxes(0, 1))
    file = tmp_path / "spot.png"
    Image.fromarray(np.ascontiguousarray(turn(photo))).save(file)
    heatmap, overlay = (turn(a) for a in drawn(model_of(policy), file, tmp_path / "out"))
    assert heatmap.shape == (48, 96, 4)
    assert overlay.shape == (48, 96, 3)
    inside = np.zeros(photo.shape[:2], bool)
    inside[:, first:last] = True
    np.testing.assert_array_equal(heatmap[..., 3], np.where(inside, 255, 0))
    np.testing.assert_array_equal(overlay[~inside], photo[~inside])
    # Its own heatmap by Pillow alone: the part seen, to the net's size and back.
    red = Image.fromarray(photo[:, first:last, 0].astype(np.float32))
    small = np.asarray(red.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    large = Image.fromarray(small / small.max()).resize(red.size, Image.Resampling.BILINEAR)
    expected = np.zeros(photo.shape[:2], np.float32)
    expected[:, first:last] = np.asarray(large)
    colours = in_jet(expected)
    assert np.abs(heatmap[inside][:, :3] - colours[inside]).max() <= 8  # two of JET's 256 steps
    wanted = np.clip(0.4 * colours + photo, 0, 255)
    assert np.abs(overlay[inside] - wanted[inside]).max() <= 4
    # And its middle is the spot's, to less than half a pixel.
    hot = np.where(inside, heatmap[..., 0].astype(float), 0)  # JET is red where it is hot
    assert np.abs(middle(hot) - [21.5, 59.5]).max() < 0.5


def test_a_turned_photo_is_upright(photo, tmp_path) -> None:
    """Pixels that lie on their side, with an EXIF entry that says so, as phones write them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "plain.png")
    Image.fromarray(np.rot90(photo).copy()).save(tmp_path / "turned.png", exif=exif)
    model = model_of("crop")
    expected = drawn(model, tmp_path / "plain.png", tmp_path)
    for found, wanted in zip(
        drawn(model, tmp_path / "turned.png", tmp_path), expected, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert not Image.open(tmp_path / "turned_overlay.png").getexif()


def test_grey_and_transparent_photos(photo, tmp_path) -> None:
    model = model_of("stretch")
    alpha = np.full((48, 96, 1), 255, np.uint8)
    alpha[:, :48] = 0
    clear = np.concatenate([photo, alpha], axis=-1)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    heatmap, overlay = drawn(model, tmp_path / "clear.png", tmp_path)
    assert (overlay[:, :40] == 255).all()  # white, as the net sees what is transparent
    assert (heatmap[..., 3] == 255).all()
    Image.fromarray(photo[..., 0]).save(tmp_path / "grey.png")
    _, overlay = drawn(model, tmp_path / "grey.png", tmp_path)
    assert overlay.shape == (48, 96, 3)


def test_a_photo_of_the_net_s_own_size_comes_back_as_it_is(photo, tmp_path) -> None:
    Image.fromarray(photo[12:36, 48:72]).save(tmp_path / "small.png")
    heatmap, _ = drawn(model_of("crop"), tmp_path / "small.png", tmp_path)
    red = photo[12:36, 48:72, 0] / 250
    np.testing.assert_allclose(heatmap[..., :3], in_jet(red), atol=1)


def test_the_name_of_a_file_is_no_formula(photo, tmp_path) -> None:
    for name in ("$x_{$", "a^b $y$"):
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
        drawn(model_of("crop"), tmp_path / f"{name}.png", tmp_path)
        assert (tmp_path / f"{name}_gradcam.png").is_file()
