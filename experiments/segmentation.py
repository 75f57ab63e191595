"""Which pixel belongs to which shape? A small U-Net on shapes drawn from a seed.

Every image has two shapes of random colour, size and place on a ground of random colour, under
noise: disks, squares and triangles, the second one in front. Colours say nothing of
the shape, so the net has to see outlines. The labels are of the task "dense", a class a pixel;
flips and turns move them with the images, and what a turn uncovers counts nowhere.

The quality is the intersection over union of answer and truth, IoU = TP / (TP + FP + FN), of each
class, and its mean.

Command:   python -m experiments.segmentation [--epochs 12] [--out DIR]

Reported:  no figure: data of our own. The net is that of Ronneberger et al. 2015, U-Net:
           convolutional networks for biomedical image segmentation (arXiv:1505.04597), smaller.

Ours:      printed with the IoU of every shape; over several seeds nothing is measured yet.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import tyro
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import percent
from cnnjax.plot import image_grid, save_image
from cnnjax.recipes import RUNS

NAMES = ("ground", "disk", "square", "triangle")
SIDE = 32
SHAPES = 2  # in an image
_SHOWN = 6


@dataclass(frozen=True)
class Config:
    """Options of the experiment."""

    train_examples: int = 1000
    """Images to train on."""
    test_examples: int = 200
    """Images to test on."""
    epochs: int = 12
    """Of the training."""
    seed: int = 0
    """Of weights, order and augmentation; the images are always the same."""
    resume: bool = False
    """Go on with an interrupted run."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for run and figure; default: checkpoints/segmentation."""


def shapes(count: int, seed: int) -> cj.data.Dataset:
    """Images of shapes, with the class of each pixel.

    Args:
        count: of images.
        seed: of all that is random in them.
    """
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:SIDE, :SIDE]
    images = np.empty((count, SIDE, SIDE, 3))
    labels = np.zeros((count, SIDE, SIDE), np.int32)
    for image, label in zip(images, labels, strict=True):
        image[:] = random.uniform(0, 255, 3)
        for _ in range(SHAPES):
            kind, radius = random.integers(1, len(NAMES)), random.uniform(5, 9)
            middle = random.uniform(6, SIDE - 6, 2)
            inside = _inside(NAMES[kind], (row - middle[0]) / radius, (column - middle[1]) / radius)
            label[inside] = kind
            image[inside] = random.uniform(0, 255, 3)
    noisy = images + random.normal(0, 8, images.shape)
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return cj.data.from_arrays(pixels, labels, NAMES, f"shapes, seed {seed}", task="dense")


def _inside(shape: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Which places, in radii from its middle, a shape covers."""
    if shape == "disk":
        return y**2 + x**2 <= 1
    if shape == "square":
        return np.maximum(abs(y), abs(x)) <= 0.9
    return (y <= 0.7) & (abs(x) <= (y + 1) / 1.7)  # a triangle, its tip above


def train(config: Config, folder: Path) -> cj.Run:
    """A run that is measured by IoU as it goes."""
    model = cj.create_model(
        "unet", input_shape=(SIDE, SIDE, 3), num_classes=len(NAMES), label_names=NAMES,
        preprocessing="tf", seed=config.seed,
    )  # fmt: skip
    augment = cj.augment.Augment(
        horizontal_flip=True, rotation=20, brightness=(0.8, 1.2), fill_mode="constant"
    )
    training = cj.TrainingConfig(
        epochs=config.epochs, batch_size=10, optimizer="adam", learning_rate=3e-3,
        schedule="one_cycle", seed=config.seed, augment=augment, monitor=None,
        resume=config.resume,
    )  # fmt: skip
    parts = cj.data.Splits(
        shapes(config.train_examples, 0), shapes(config.test_examples // 2, 1),
        shapes(config.test_examples, 2),
    )  # fmt: skip
    measures = {"iou": cj.metrics.mean_iou()}
    return cj.fit(model, parts, training, directory=folder / "run", metrics=measures)


def draw(model: cj.Model, data: cj.data.Dataset) -> Figure:
    """Images, truth and answers, a row each."""
    images = np.asarray(data.inputs[:_SHOWN])
    answers = cj.predict(model, images).argmax(axis=-1)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, len(NAMES)))[:, :3]
    panels = [*(images / 255), *colours[data.labels[:_SHOWN]], *colours[answers]]
    titles = [kind for kind in ("image", "truth", "answer") for _ in range(_SHOWN)]
    note = "from dark to light: " + ", ".join(NAMES)
    return image_grid(panels, titles, columns=_SHOWN, width=1.6, title=note)


def main(config: Config) -> dict[str, float]:
    """Train, measure, draw; returns the IoU of each class, and their mean."""
    folder = Path(config.out).expanduser() if config.out else RUNS / "segmentation"
    run = train(config, folder)
    test = shapes(config.test_examples, 2)
    each = cj.evaluate(run.model, test, metrics={"iou": cj.metrics.mean_iou(average=None)})["iou"]
    found = dict(zip(NAMES, np.asarray(each).tolist(), strict=True))
    found["mean"] = float(run.metrics["test_iou"])
    print(f"test: {percent(run.metrics['test_accuracy'])} of the pixels are right; IoU:")
    print("  ".join(f"{name} {value:.4f}" for name, value in found.items()))
    print(f"figure: {save_image(folder, 'segmentation', draw(run.model, test))}")
    return found


if __name__ == "__main__":
    command(main, Config, "segmentation")
