"""A convolution as a dense layer, and dense layers as convolutions: class maps of large images.

(i) A 3x3 image under a 2x2 kernel is a dense layer of 9 inputs and 4 outputs whose matrix is
sparse and shares its four weights; so for any convolution, drawn for a 3x3 kernel on 8x8 pixels.
(ii) The other way round: the convnet of MNIST, trained on windows of 28x28 with a digit or none in
their middle, with its flatten and dense layers made convolutions, reads a canvas of many digits in
one pass. With --weights a backbone does the same for a photo.

Command:   python -m experiments.dense_as_convolution [--out DIR]
           [--weights imagenet|FILE --model mobilenet --alpha 1 --photo FILE --size 448]

Reported:  no figure; outputs must be equal, to 1e-6 for the matrix and 1e-5 for the net.

Ours:      matrix 2.4e-7, digit net 2.2e-7, MobileNet 3.2e-7 (of the largest logit); all 16 digits
           of a canvas of 128x232 are read, in one pass.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.models import convolutionalize, decode_predictions, receptive_fields
from cnnjax.nn import conv2d, conv_as_matrix
from cnnjax.plot import overlay
from cnnjax.task import probabilities
from experiments._canvas import (
    NAMES,
    WINDOW,
    Canvas,
    count_read,
    draw_canvas,
    peaks,
    windows,
)
from experiments._images import Gallery, ImageOptions, panels, read_photo

CANVAS = (128, 232)
DIGITS = 16


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    epochs: int = 6
    """Of the net for digits; it is kept in --out for the next time."""
    windows: int = 6000
    """Number of windows that it is trained on."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Of a backbone for the photo: imagenet (those published) or a weight file."""
    model: str = "mobilenet"
    """The backbone."""
    alpha: float = 1.0
    """Width of mobilenet."""
    size: int = 448
    """Longer side of the photo, in pixels."""


@dataclass(frozen=True)
class Example:
    """A convolution of one image, beside the product with its matrix."""

    image: np.ndarray
    kernel: np.ndarray
    matrix: np.ndarray
    output: np.ndarray

    @property
    def difference(self) -> float:
        """Largest absolute difference of the two."""
        product = self.image.reshape(1, -1) @ self.matrix
        return float(np.abs(product.ravel() - self.output.ravel()).max())


def example(kernel: np.ndarray, size: int, padding: str = "valid") -> Example:
    """Of a random image [size, size] with a kernel [k, k]."""
    image = np.random.default_rng(0).random((size, size), np.float32)
    weights = kernel[:, :, None, None].astype(np.float32)
    output = conv2d(jnp.asarray(image[None, :, :, None]), jnp.asarray(weights), padding=padding)
    matrix = conv_as_matrix(weights, (size, size, 1), padding=padding)
    return Example(image, kernel, matrix, np.asarray(output)[0, :, :, 0])


def draw_matrices(small: Example, large: Example) -> Figure:
    """The matrix of the small convolution with its numbers, and of the larger one in colours."""
    figure = Figure((12, 4.6), dpi=120, layout="constrained")
    places = figure.add_gridspec(2, 3, width_ratios=(1, 2.4, 2.6))
    kernel: Any = figure.add_subplot(places[0, 0])
    image: Any = figure.add_subplot(places[1, 0])
    numbers: Any = figure.add_subplot(places[:, 1])
    colours: Any = figure.add_subplot(places[:, 2])
    _numbers(kernel, small.kernel, "kernel", 4)
    pixels = np.arange(1, 10).reshape(3, 3)
    _numbers(image, np.zeros((3, 3)), "image: pixels 1 to 9", 4, pixels)
    _numbers(numbers, small.matrix.T, "as a dense layer: 4 outputs (rows) of 9 pixels (columns)", 4)
    numbers.set_xticks(range(9), [str(i + 1) for i in range(9)])
    numbers.set_yticks(range(4), [f"output {i + 1}" for i in range(4)])
    bound = float(np.abs(large.matrix).max())
    shown = np.ma.masked_equal(large.matrix.T, 0)
    drawn = colours.imshow(shown, cmap="coolwarm", vmin=-bound, vmax=bound)
    share = float((large.matrix != 0).mean())
    title = f"3x3 kernel on 8x8 pixels, same padding: 64x64, {share:.0%} not zero"
    colours.set_title(title, fontsize=10)
    colours.set(xlabel="pixel", ylabel="output")
    figure.colorbar(drawn, ax=colours, fraction=0.046)
    return figure


def _numbers(axes: Any, values: np.ndarray, title: str, top: float, texts: Any = None) -> None:
    """A matrix whose entries are written into it; zeros are pale."""
    axes.imshow(np.abs(values), cmap="Blues", vmin=0, vmax=1.6 * top)
    for (i, j), value in np.ndenumerate(values if texts is None else texts):
        pale = texts is None and value == 0
        axes.text(j, i, f"{value:g}", ha="center", va="center", color="0.75" if pale else "black")
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def digit_model(config: Config, folder: Path) -> cj.Model:
    """The convnet of MNIST, trained on windows of canvases: ten digits and nothing."""
    if (folder / "model.json").is_file():
        return cj.load(folder)
    train = cj.data.load("digits").train
    data = windows(train, config.windows, np.random.default_rng(config.seed))
    model = cj.create_model(
        "mnist_convnet", num_classes=len(NAMES), label_names=NAMES, seed=config.seed
    )
    training = cj.TrainingConfig(
        epochs=config.epochs, batch_size=64, optimizer="adam", learning_rate=2e-3,
        schedule="cosine", monitor=None, seed=config.seed,
    )  # fmt: skip
    model = cj.fit(model, data, training).model
    cj.save(model, folder)
    return model


def class_maps(model: cj.Model, pixels: np.ndarray, global_pooling: str = "drop") -> np.ndarray:
    """Probabilities [h, w, K] of a classifier moved over a larger image, uint8 [H, W, C]."""
    wide = convolutionalize(model, pixels.shape, global_pooling=global_pooling)
    logits = wide(wide.spec.preprocess(jnp.asarray(pixels[None])))
    return np.asarray(probabilities(logits))[0]


def difference(model: cj.Model) -> float:
    """Of net and convolutional net at the size of training, relative to the largest logit."""
    shape = (4, *model.spec.input_shape)
    images = model.spec.preprocess(jax.random.uniform(jax.random.key(0), shape) * 255)
    expected = np.asarray(model(images))
    found = np.asarray(convolutionalize(model)(images)).mean(axis=(1, 2))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def at_pixels(values: np.ndarray, shape: tuple[int, ...], first: float, step: int) -> np.ndarray:
    """A map at every pixel: the value of the window whose centre is nearest.

    Args:
        values: [h, w].
        shape: (H, W) of the image.
        first: place of the first window's centre.
        step: from one centre to the next.

    Returns:
        [H, W]; NaN where no centre is within half a step.
    """
    places = [np.floor((np.arange(n) - first) / step + 0.5).astype(int) for n in shape]
    inside = [(p >= 0) & (p < m) for p, m in zip(places, values.shape, strict=True)]
    rows, columns = (np.clip(p, 0, m - 1) for p, m in zip(places, values.shape, strict=True))
    found: np.ndarray = values[rows[:, None], columns[None, :]]
    return np.where(inside[0][:, None] & inside[1][None, :], found, np.nan)


def draw_digits(
    canvas: Canvas, maps: np.ndarray, found: list[tuple[int, int, int]], step: int
) -> Figure:
    """The canvas, what is read where, and the map of each class."""
    figure = Figure((13, 9.2), dpi=120, layout="constrained")
    places = figure.add_gridspec(4, 12)
    first = (WINDOW - 1) / 2
    pixels = canvas.pixels[..., 0]
    left: Any = figure.add_subplot(places[0:2, 0:6])
    right: Any = figure.add_subplot(places[0:2, 6:12])
    for axes in (left, right):
        axes.imshow(pixels, cmap="gray")
    height, width = pixels.shape
    left.set_title(f"canvas {height}x{width}; the net was trained on {WINDOW}x{WINDOW}")
    right.set_title("read in one pass: the peaks of the class maps")
    for row, column, label in found:
        y, x = first + step * row, first + step * column
        right.text(x, y, NAMES[label], color="#ff6d2d", fontsize=17, weight="bold",
                   ha="center", va="center")  # fmt: skip
    for k in range(8):
        small: Any = figure.add_subplot(places[2 + k // 4, 3 * (k % 4) : 3 * (k % 4) + 3])
        small.imshow(pixels, cmap="gray")
        heat = at_pixels(maps[:, :, k], pixels.shape, first, step)
        small.imshow(np.nan_to_num(heat), cmap="inferno", vmin=0, vmax=1, alpha=0.65)
        small.set_title(f"class map of {NAMES[k]}", fontsize=10)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure


def photo_maps(config: Config) -> tuple[Figure, float]:
    """A backbone's class maps over the photo, and the difference of net and convolutional net."""
    arguments: dict[str, Any] = {"alpha": config.alpha} if config.model == "mobilenet" else {}
    model = cj.create_model(config.model, weights=config.weights, **arguments)
    photo = read_photo(config, longest=config.size)
    rows, columns = (max(n // 32 * 32, model.spec.input_shape[0]) for n in photo.shape[:2])
    photo = read_photo(config, size=(rows, columns))
    maps = class_maps(model, photo)
    mean = maps.mean(axis=(0, 1))[None]
    best = np.argsort(-mean[0])[:3]
    named = decode_predictions(mean, top=mean.shape[1], label_names=model.spec.label_names)[0]
    by_probability = dict(zip(np.argsort(-mean[0], kind="stable"), named, strict=True))
    drawn, titles = [photo], [f"photo {rows}x{columns}"]
    for k in best:
        drawn.append(overlay(photo, maps[:, :, k] / maps[:, :, k].max()))
        titles.append(f"{by_probability[k][1]}: up to {float(maps[:, :, k].max()):.0%}")
    size = "x".join(map(str, maps.shape[:2]))
    title = f"{config.model}: class maps of {size}, in one pass"
    return panels(drawn, titles, 2, width=4.5, title=title), difference(model)


def main(config: Config) -> dict[str, float]:
    """Draw both directions, print how far outputs differ."""
    gallery = Gallery(config, "dense_as_convolution")
    small = example(np.array([[1.0, 2.0], [3.0, 4.0]]), 3)
    large = example(np.random.default_rng(1).standard_normal((3, 3)), 8, "same")
    gallery.add("matrices", draw_matrices(small, large))
    model = digit_model(config, gallery.folder / "digits")
    canvas = draw_canvas(held_out(), CANVAS, DIGITS, np.random.default_rng(config.seed + 1))
    maps = class_maps(model, canvas.pixels)
    step, found = _step(model), peaks(maps)
    gallery.add("digits", draw_digits(canvas, maps, found, step))
    results = {
        "matrix": max(small.difference, large.difference),
        "convolutional net": difference(model),
    }
    right = count_read(found, canvas, step)
    if config.weights:
        figure, results[config.model] = photo_maps(config)
        gallery.add("photo", figure)
    for name, value in results.items():
        print(f"{name}: outputs differ by at most {value:.1e}")
    count = len(canvas.digits)
    print(f"digits on the canvas: {right} of {count} read, {len(found) - right} other peaks")
    gallery.report()
    return {**results, "digits": right / count}


def held_out() -> cj.data.Dataset:
    """Digits that were not trained on."""
    test = cj.data.load("digits").test
    if test is None:
        raise ValueError("the digits have no test part")
    return test


def _step(model: cj.Model) -> int:
    """Pixels between neighbouring windows."""
    known = [f for f in receptive_fields(model).values() if f is not None and not f.all]
    return known[-1].jump[0]


if __name__ == "__main__":
    command(main, Config, "dense_as_convolution")
