"""What storing training and test images as JPEG costs in accuracy.

CIFAR-10 as it is at hand was stored as JPEG by its source, by quality 75 and with colours at half
the resolution, Pillow's default. The same net is trained and tested on images as they are and on
the same images stored again, with the same seeds, in three kinds of data:

- MNIST, which is stored without loss: qualities 75, 50, 25;
- photos in class folders, brought to 32x32, which leaves nothing of their own compression: the
  qualities 75, 50, 25 are the first ones at this size, as with CIFAR-10;
- CIFAR-10 as it is at hand: stored again at the same quality it hardly changes, as the coefficients
  of its blocks of 8x8 pixels are rounded already; so the blocks are shifted by four pixels. That
  shows what a second loss costs; the first, which took finer detail, it cannot show.

The table says how far pixels move, too: the peak signal-to-noise ratio to the images as they are.
10,000 images of MNIST or CIFAR-10 are trained on, all photos.

Command:   python -m experiments.jpeg_cost --data-dir DIR --seeds 5 [--data cifar10]
           python -m experiments.jpeg_cost --data FOLDER --seeds 10

Reported:  nothing; it is to explain why CIFAR-10 stays below the reported figures here.

Ours:      the study prints a table and writes it with a figure of examples and its claims into
           checkpoints/jpeg_cost/KIND, where KIND is mnist, cifar10 or photos.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Experiment, Options, load_data, write_claims
from experiments import _studies
from experiments._images import panels

NAME = "jpeg_cost"


class Stored(NamedTuple):
    """How images are stored again: the quality, and by how many pixels the blocks are shifted."""

    quality: int
    shift: int = 0


class Kind(NamedTuple):
    """A kind of data: net, epochs, images to train on, ways to store them besides as they are."""

    model: str
    epochs: int
    train_examples: int | None
    ways: Mapping[str, Stored]


ONCE = {f"quality{q}": Stored(q) for q in (75, 50, 25)}
AGAIN = {f"shifted{q}": Stored(q, 4) for q in (75, 50)}

KINDS = {
    "mnist": Kind("mnist_convnet", 5, 10_000, ONCE),
    "cifar10": Kind("cifar_plain", 8, 10_000, AGAIN),
    "photos": Kind("cifar_plain", 20, None, ONCE),
}

# One cycle and averaged weights: their results scatter least.
TRAINING = cj.TrainingConfig(
    batch_size=64,
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="one_cycle",
    weight_decay=0.05,
    average=0.99,
    monitor=None,
)

ALIKE = 0.003  # MNIST's accuracies that differ by less


@dataclass(frozen=True)
class JpegOptions(Options):
    """Options of the experiment."""

    train_examples: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Images to train on; default: 10,000 of MNIST or CIFAR-10, all photos."""


def kind_of(options: JpegOptions) -> str:
    """Which kind the data are: "mnist", "cifar10", or "photos" in folders."""
    return options.data if options.data in KINDS else "photos"


def stored(images: np.ndarray, quality: int, shift: int = 0) -> np.ndarray:
    """Images that went through JPEG.

    Args:
        images: uint8 [N, H, W, C], grey or RGB.
        quality: as Pillow counts it, 1 to 95; colours at half the resolution, its default.
        shift: rows and columns, repeated from the edge, put before the image while it is stored, so
            that its blocks lie elsewhere.

    Returns:
        uint8 [N, H, W, C].
    """
    from PIL import Image

    padded = np.pad(images, ((0, 0), (shift, 0), (shift, 0), (0, 0)), mode="edge")
    result = np.empty_like(images)
    for i, image in enumerate(padded):
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[2] == 1 else image).save(
            buffer, "JPEG", quality=quality
        )
        pixels = np.asarray(Image.open(buffer)).reshape(image.shape)
        result[i] = pixels[shift:, shift:]
    return result


def signal_to_noise(images: np.ndarray, others: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels, over all pixels; infinite for equal images."""
    error = np.mean(np.square(images.astype(np.float32) - others.astype(np.float32)))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def change(way: str, kind: str, splits: cj.data.Splits, seed: int) -> cj.data.Splits:
    """All images stored in this way."""
    del seed
    if way == "as_it_is":
        return splits
    how = KINDS[kind].ways[way]
    return _studies.map_images(splits, partial(stored, quality=how.quality, shift=how.shift))


def experiment(way: str, options: JpegOptions) -> Experiment:
    """The training on images that are stored in a way."""
    kind = kind_of(options)
    model, epochs, count, _ = KINDS[kind]
    return Experiment(
        name=f"{NAME}/{kind}/{way}",
        description=f"{model}, images {way.replace('_', ' ')}",
        model=model,
        training=replace(TRAINING, epochs=epochs),
        test=0.15,
        train_examples=options.train_examples or count,
    ).with_options(options)


def claims(kind: str) -> list[Claim]:
    """What the study is to decide, by kind of data."""

    def costs(text: str, better: str, worse: str) -> Claim:
        return Claim(text, f"{NAME}/{kind}/{better}", f"{NAME}/{kind}/{worse}", "test_accuracy")

    if kind == "mnist":
        first, second = (f"{NAME}/mnist/{way}" for way in ("as_it_is", "quality75"))
        text = "JPEG of quality 75 costs MNIST less than .3 points"
        return [
            Claim(text, first, second, "test_accuracy", within=ALIKE),
            costs("JPEG of quality 25 costs MNIST accuracy", "as_it_is", "quality25"),
        ]
    if kind == "cifar10":
        return [
            costs("Another JPEG of quality 75 costs CIFAR-10 accuracy", "as_it_is", "shifted75"),
            costs("Another JPEG of quality 50 costs CIFAR-10 accuracy", "as_it_is", "shifted50"),
        ]
    return [
        costs(f"JPEG of quality {q} costs photos of 32x32 accuracy", "as_it_is", f"quality{q}")
        for q in (75, 25)
    ]


def distances(kind: str, test: cj.data.Dataset) -> dict[str, str]:
    """How far the pixels of 500 test images move in every way, in decibels."""
    images = np.asarray(test.inputs[:500])
    found = {"as_it_is": ""}
    for way, how in KINDS[kind].ways.items():
        moved = stored(images, how.quality, how.shift)
        found[way] = f"{signal_to_noise(images, moved):.1f}"
    return found


def draw(kind: str, test: cj.data.Dataset, folder: Path) -> Path:
    """Some test images in all ways."""
    images = np.asarray(test.inputs[np.arange(4) * max(len(test) // 4, 1)])
    columns = {"as it is": images}
    for way, how in KINDS[kind].ways.items():
        columns[way] = stored(images, how.quality, how.shift)
    drawn = [column[i] for i in range(len(images)) for column in columns.values()]
    drawn = [p[..., 0] / 255 if p.shape[2] == 1 else p for p in drawn]
    titles = list(columns) * len(images)
    file = folder / "stored.png"
    figures.save(panels(drawn, titles, len(columns), width=1.6), file)
    return file


def rows(kind: str, runs: Mapping[str, Sequence[cj.Run]], test: cj.data.Dataset) -> list[list[str]]:
    """Of the table: way, decibels, accuracy, what it costs."""
    moved = distances(kind, test)
    plain = np.array([run.metrics["test_accuracy"] for run in runs["as_it_is"]])
    found = []
    for way, group in runs.items():
        values = np.array([run.metrics["test_accuracy"] for run in group])
        cost = "" if way == "as_it_is" else f"{100 * (plain - values).mean():+.2f}"
        found.append([way, moved[way], _studies.accuracy("test")(group), cost])
    return found


def main(options: JpegOptions) -> dict[str, list[cj.Run]]:
    """Train in every way and compare."""
    kind = kind_of(options)
    variants = {
        way: (partial(experiment, way), partial(change, way, kind))
        for way in ("as_it_is", *KINDS[kind].ways)
    }
    runs = _studies.run_changed(variants, options)
    test = load_data(experiment("as_it_is", options), lambda _: None).test
    assert test is not None
    folder = _studies.folder_of(options, f"{NAME}/{kind}")
    head = ["images", "PSNR, dB", "test", "costs, points"]
    _studies.write_table(folder / f"{NAME}.md", head, rows(kind, runs, test))
    write_claims(folder, claims(kind))
    print(f"figure: {draw(kind, test, folder)}")
    return runs


if __name__ == "__main__":
    command(main, JpegOptions, NAME)
