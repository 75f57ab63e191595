"""Images whose blocks of pixels are shuffled: what a convnet and a dense net still make of them.

A convolution looks at neighbours, so the places of pixels matter to it; to a dense layer every
order of the pixels is as good as another, as long as it stays the same. MNIST's images are cut into
blocks of k x k pixels, k = 1, 2, 4, 7, 14, in two ways:

- random: both nets are trained on images as they are and tested on images with the blocks of each
  in an order of its own;
- fixed: both are trained and tested with one order of the blocks, the same for all images, another
  one for each seed.

10,000 training images, RMSprop, batch 64, 5 epochs. Another figure shows an image in all ways.

Command:   python -m experiments.shuffled_blocks --data-dir DIR --seeds 3

Reported:  the positions of pixels matter: an image with shuffled blocks cannot be recognised.

Ours:      the study prints a table and writes it with two figures and its claims into
           checkpoints/shuffled_blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core import rng
from cnnjax.metrics import deviation, mean_and_deviation
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Experiment, Measured, Options, load_data, write_claims
from experiments import _studies
from experiments._images import panels

NAME = "shuffled_blocks"
NETS = {"mnist_convnet": "convnet", "mlp": "dense net"}
_WHOLE = 28  # pixels of an image's side

Runs = Mapping[str, Sequence[cj.Run]]
# Net -> size of the blocks -> accuracy of every seed.
Tested = dict[str, dict[int, list[float]]]


@dataclass(frozen=True)
class BlockOptions(Options):
    """Options of the experiment."""

    blocks: tuple[int, ...] = (1, 2, 4, 7, 14)
    """Sides of the blocks in pixels, each a divisor of the image's."""
    train_examples: Annotated[int | None, tyro.conf.arg(metavar="INT")] = 10_000
    """Images to train on."""


def shuffled(images: np.ndarray, block: int, orders: np.ndarray) -> np.ndarray:
    """Images with their blocks in other orders.

    Args:
        images: [N, H, W, C].
        block: side of a block in pixels, a divisor of H and W.
        orders: int [N, B], or [1, B] for all images: which of the B blocks, counted by rows, comes
            to each place.

    Returns:
        [N, H, W, C].

    Raises:
        ValueError: if the blocks do not fill the image.

    >>> shuffled(np.arange(4).reshape(1, 2, 2, 1), 1, np.array([[3, 2, 1, 0]])).ravel()
    array([3, 2, 1, 0])
    """
    count, height, width, channels = images.shape
    if block < 1 or height % block or width % block:
        raise ValueError(f"blocks of {block} pixels do not fill images of {height}x{width}")
    rows, columns = height // block, width // block
    cut = images.reshape(count, rows, block, columns, block, channels).swapaxes(2, 3)
    cut = cut.reshape(count, rows * columns, block, block, channels)
    moved = cut[np.arange(count)[:, None], orders]
    moved = moved.reshape(count, rows, columns, block, block, channels).swapaxes(2, 3)
    return moved.reshape(images.shape)


def orders_of(count: int, shape: Sequence[int], block: int, seed: int) -> np.ndarray:
    """So many random orders of the blocks of images [H, W, C], int [count, B]."""
    blocks = (shape[0] // block) * (shape[1] // block)
    return np.stack([rng.permutation(blocks, seed, "blocks", block, i) for i in range(count)])


def fixed(block: int, splits: cj.data.Splits, seed: int) -> cj.data.Splits:
    """All images with their blocks in one and the same order."""
    order = orders_of(1, splits.train.input_shape, block, seed)
    return _studies.map_images(splits, partial(shuffled, block=block, orders=order))


def plain(splits: cj.data.Splits, seed: int) -> cj.data.Splits:
    """The images as they are."""
    del seed
    return splits


def experiment(net: str, way: str, options: BlockOptions) -> Experiment:
    """The training of a net on images as they are, or in a fixed order of their blocks."""
    return Experiment(
        name=f"{NAME}/{net}/{way}",
        description=f"{NETS[net]}, images {way}",
        model=net,
        training=cj.TrainingConfig(epochs=5, batch_size=64, optimizer="rmsprop", monitor=None),
        train_examples=options.train_examples,
        test=0.15,
    ).with_options(options)


def test_random(runs: Runs, options: BlockOptions) -> Tested:
    """Accuracy of the nets trained on plain images where each test image has its own order."""
    test = load_data(experiment("mlp", "plain", options), lambda _: None).test
    assert test is not None
    images = np.asarray(test.inputs[:])
    found: Tested = {net: {} for net in NETS}
    for block in options.blocks:
        orders = orders_of(len(images), test.input_shape, block, 0)
        moved = shuffled(images, block, orders)
        for net in NETS:
            found[net][block] = [
                float((cj.predict(run.model, moved).argmax(axis=1) == test.labels).mean())
                for run in runs[f"{net}/plain"]
            ]
    return found


def claims(runs: Runs, random: Tested) -> list[Claim | Measured]:
    """What the notes say, so that it can be wrong."""
    convnet, dense = ([_accuracies(runs[f"{net}/{way}"]) for way in ("plain", "fixed1")]
                      for net in NETS)  # fmt: skip
    lead, left = (np.subtract(a, b).tolist() for a, b in zip(convnet, dense, strict=True))
    return [
        Claim("The dense net does not mind a fixed order of the pixels", f"{NAME}/mlp/fixed1",
              f"{NAME}/mlp/plain", "test_accuracy", within=0.005),
        Claim("A fixed order of the pixels costs the convnet accuracy",
              f"{NAME}/mnist_convnet/plain", f"{NAME}/mnist_convnet/fixed1", "test_accuracy"),
        Measured("A fixed order of the pixels takes from the convnet's lead over the dense net",
                 "lead on images as they are", lead, "lead with shuffled pixels", left, "seeds",
                 "lead in test accuracy"),
        *(_unrecognised(net, random[net]) for net in NETS),
    ]  # fmt: skip


def _unrecognised(net: str, found: Mapping[int, Sequence[float]]) -> Measured:
    block = max(size for size in found if size <= 4)
    return Measured(
        f"The {NETS[net]} recognises less than half of the images whose blocks of {block}x{block} "
        "pixels are shuffled, each in its own order",
        "half of the images",
        [0.5] * len(found[block]),
        NETS[net],
        found[block],
        "seeds",
        "test accuracy",
    )


def _accuracies(runs: Sequence[cj.Run]) -> list[float]:
    return [run.metrics["test_accuracy"] for run in runs]


def table(runs: Runs, random: Tested, options: BlockOptions) -> list[list[str]]:
    """A row for every size of block; the last is the whole image."""
    rows = []
    for block in options.blocks:
        cells = [mean_and_deviation(100 * np.array(random[net][block]), 2) for net in NETS]
        cells += [_studies.accuracy("test")(runs[f"{net}/fixed{block}"]) for net in NETS]
        rows.append([str(block), *cells])
    whole = [_studies.accuracy("test")(runs[f"{net}/plain"]) for net in NETS]
    return [*rows, ["whole", *whole, *whole]]


def curves(runs: Runs, random: Tested, options: BlockOptions) -> dict[str, dict[str, np.ndarray]]:
    """For `plot.mean_curves`: accuracy over the size of the blocks, a panel for either way."""
    random_title, fixed_title = "trained plain, tested shuffled", "trained and tested in one order"
    found: dict[str, dict[str, np.ndarray]] = {random_title: {}, fixed_title: {}}
    for net, text in NETS.items():
        whole = {_WHOLE: _accuracies(runs[f"{net}/plain"])}
        fixed_ = {block: _accuracies(runs[f"{net}/fixed{block}"]) for block in options.blocks}
        for title, values in ((random_title, random[net]), (fixed_title, fixed_)):
            points = sorted({**values, **whole}.items())
            found[title][text] = np.array([[k, np.mean(v), deviation(v)] for k, v in points]).T
    return found


def draw_examples(options: BlockOptions, folder: Path) -> Path:
    """Some test images as they are and with shuffled blocks."""
    test = load_data(experiment("mlp", "plain", options), lambda _: None).test
    assert test is not None
    images = np.asarray(test.inputs[:4])
    rows = [images[..., 0]]
    for block in sorted(options.blocks, reverse=True):
        orders = orders_of(len(images), test.input_shape, block, 0)
        rows.append(shuffled(images, block, orders)[..., 0])
    titles = ["as it is", *(f"blocks of {b}x{b}" for b in sorted(options.blocks, reverse=True))]
    drawn = [row[i].astype(np.float32) for i in range(len(images)) for row in rows]
    figure = panels(drawn, titles * len(images), len(rows), width=1.5)
    file = folder / "shuffled_images.png"
    figures.save(figure, file)
    return file


def main(options: BlockOptions) -> dict[str, list[cj.Run]]:
    """Train, test shuffled, compare, draw."""
    if not options.blocks or 1 not in options.blocks:
        raise ValueError(f"blocks must hold 1, which the claims are about, got {options.blocks}")
    ways: dict[str, _studies.Change] = {"plain": plain}
    ways |= {f"fixed{block}": partial(fixed, block) for block in options.blocks}
    variants = {
        f"{net}/{way}": (partial(experiment, net, way), change)
        for net in NETS
        for way, change in ways.items()
    }
    runs = _studies.run_changed(variants, options)
    random = test_random(runs, options)
    folder = _studies.folder_of(options, NAME)
    head = ["blocks", *(f"{text}, random" for text in NETS.values())]
    head += [f"{text}, fixed" for text in NETS.values()]
    _studies.write_table(folder / f"{NAME}.md", head, table(runs, random, options))
    write_claims(folder, claims(runs, random))
    figure = figures.mean_curves(
        curves(runs, random, options), "side of the blocks, pixels", log=True
    )
    figures.save(figure, folder / f"{NAME}.png")
    print(f"figures: {folder / f'{NAME}.png'}, {draw_examples(options, folder)}")
    return runs


if __name__ == "__main__":
    command(main, BlockOptions, NAME)
