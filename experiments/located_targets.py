"""Where is the digit? And what two dense layers can that one cannot.

A small digit lies somewhere in a field of 64x64 pixels, among pieces of other digits. Which of 8x8
cells is its middle in? 1,500 fields show it to three heads on the same three convolutions, whose
last map is 8x8, trained alike:

- heat_map: a convolution of 1x1 gives each place of the map its logit;
- flatten: the map flattened, a dense layer of 64, a logit for each cell;
- average: the map's global average, a dense layer of 64, a logit for each cell.

A dense layer sees places, but learns each anew; behind the average there are none left but what
the padding at the edges gives away.

The second part needs no images: points with two features, whose class is whether exactly one of
them is positive. No line parts these classes: of the four corners one dense layer gets three at
most, and its loss has its minimum, log 2, where it knows nothing. A second layer parts them.

Command:   python -m experiments.located_targets --data-dir DIR --seeds 5

Reported:  dense layers discard location; two of them can what one cannot.

Ours:      5 seeds: the heat map finds 94.16 ± 1.28 % of the digits, the flattened map
           83.07 ± 1.06, the averages 2.37 ± 0.32. Two dense layers part the exclusive or, one
           does not. The claims in RESULTS.md; tables and figures are in the folder of the runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from flax import linen
from jax import Array
from jax.nn import relu
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import mean_and_deviation
from cnnjax.nn import Conv2D, Dense, Flatten, GlobalAveragePooling2D, MaxPooling2D
from cnnjax.plot import figures
from cnnjax.recipes import (
    Claim,
    Experiment,
    Measured,
    Options,
    for_every_seed,
    load_data,
    run_experiment,
    write_claims,
)
from experiments import _studies, _xor
from experiments.shuffled_blocks import shuffled

NAME = "located_targets"
HEADS = ("heat_map", "flatten", "average")
FIELD, CELL, DIGIT = 64, 8, 14  # pixels a side
CELLS = (FIELD // CELL) ** 2
PIECES = 4  # other digits, cut up, in a field

TRAINING = cj.TrainingConfig(
    epochs=15,
    batch_size=64,
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="one_cycle",
    weight_decay=0.02,
    monitor=None,
)


@dataclass(frozen=True)
class TargetOptions(Options):
    """Options of the experiment."""

    train_examples: Annotated[int, tyro.conf.arg(metavar="INT")] = 1500
    """Fields to train on."""
    test_examples: Annotated[int, tyro.conf.arg(metavar="INT")] = 2000
    """Fields to test on."""


class Locator(linen.Module):
    """Three convolutions, a map of 8x8, a logit for each of its cells.

    Args:
        num_classes: number of cells.
        head: "heat_map", "flatten" or "average".
    """

    num_classes: int = CELLS
    head: str = "heat_map"

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, 64, 64, 1] -> [N, 64]."""
        x = Conv2D(16, 5, strides=2, padding="same", activation=relu, name="conv1")(inputs)
        x = Conv2D(32, 3, padding="same", activation=relu, name="conv2")(x)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Conv2D(32, 5, padding="same", activation=relu, name="conv3")(x)
        x = MaxPooling2D(2, name="pool2")(x)
        if self.head == "heat_map":
            return Flatten(name="flatten")(Conv2D(1, 1, name="logits")(x))
        flat = Flatten if self.head == "flatten" else GlobalAveragePooling2D
        x = Dense(64, activation=relu, name="dense1")(flat(name=self.head)(x))
        return Dense(self.num_classes, name="logits")(x)


def fields(source: cj.data.Dataset, count: int, seed: int) -> cj.data.Dataset:
    """Fields with a digit each, and pieces of others; the label is the cell of its middle.

    Args:
        source: digits of 28x28 pixels, uint8.
        count: of fields.
        seed: of digits and places.
    """
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(source), 2 * count)
    large = np.asarray(source.inputs[:])[chosen]
    small = large.reshape(-1, DIGIT, 2, DIGIT, 2, 1).mean((2, 4)).astype(np.uint8)
    # The four quarters in the opposite order.
    pieces = shuffled(small[count:], DIGIT // 2, np.array([[3, 2, 1, 0]]))
    images = np.zeros((count, FIELD, FIELD, 1), np.uint8)
    places = random.integers(0, FIELD - DIGIT + 1, (count, PIECES + 1, 2))
    for i, image in enumerate(images):
        for piece, (top, left) in enumerate(places[i, 1:]):
            part = image[top : top + DIGIT, left : left + DIGIT]
            np.maximum(part, pieces[(i + piece) % count], out=part)
        top, left = places[i, 0]
        image[top : top + DIGIT, left : left + DIGIT] = small[i]
    row, column = ((places[:, 0] + DIGIT // 2) // CELL).T
    return cj.data.from_arrays(images, row * (FIELD // CELL) + column, name="fields with a digit")


def digits(options: TargetOptions) -> cj.data.Splits:
    """The digits of which fields are made."""
    plan = Experiment(NAME, "digits", "mlp", TRAINING, test=0.2)
    return load_data(plan.with_options(options), lambda _: None)


def test_fields(options: TargetOptions) -> cj.data.Dataset:
    """The fields on which all seeds are tested."""
    return fields(digits(options).parts["test"], options.test_examples, 0)


def experiment(head: str, options: TargetOptions) -> Experiment:
    """The training of one head."""
    return Experiment(
        name=f"{NAME}/{head}",
        description=f"a digit in a field, head: {head}",
        model="Locator",
        training=TRAINING,
    ).with_options(options)


def train(head: str, options: TargetOptions) -> cj.Run:
    """Train a head on fields of the options' seed; all seeds are tested on the same fields."""
    plan = experiment(head, options)
    train_fields = fields(digits(options).train, options.train_examples, options.seed + 1)
    splits = cj.data.Splits(train_fields, test=test_fields(options))
    model = cj.Model.from_module(
        Locator(head=head), (FIELD, FIELD, 1), seed=options.seed, train_argument=False
    )
    return run_experiment(plan, options.out, splits=splits, model=model)


def distance(run: cj.Run, test: cj.data.Dataset) -> float:
    """Mean distance of the cell that is answered from the true one, in pixels."""
    answers = cj.predict(run.model, test.inputs).argmax(axis=1)
    side = FIELD // CELL
    apart = np.stack(np.divmod(answers, side)) - np.stack(np.divmod(test.labels, side))
    return float(CELL * np.hypot(*apart).mean())


CLAIMS = (
    Claim(
        "A convolutional head finds the digit more often than a dense one",
        f"{NAME}/heat_map",
        f"{NAME}/flatten",
        "test_accuracy",
    ),
    Claim(
        "A dense head on the flattened map finds the digit more often than one on the average",
        f"{NAME}/flatten",
        f"{NAME}/average",
        "test_accuracy",
    ),
)


def xor_claim(found: Mapping[int, Sequence[float]]) -> Measured:
    """That two layers do better, of the accuracies by number of layers."""
    return Measured(
        "Two dense layers part points that one cannot, by more than 20 points of accuracy",
        "two layers", found[2], "one layer", found[1], "seeds", "accuracy on new points", by=0.2,
    )  # fmt: skip


def draw(runs: Mapping[str, Sequence[cj.Run]], test: cj.data.Dataset) -> Figure:
    """Some fields, and what each head answers: probabilities of the cells over the field."""
    shown = np.asarray(test.inputs[:5])
    figure = Figure((2.1 * len(shown), 2.2 * (1 + len(runs))), dpi=110, layout="constrained")
    axes = figure.subplots(1 + len(runs), len(shown))
    side = FIELD // CELL
    for column, image in enumerate(shown):
        row, across = divmod(int(test.labels[column]), side)
        corners = np.array([0, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0])
        for line, (head, group) in enumerate([("", []), *runs.items()]):
            place = axes[line, column]
            place.imshow(image[..., 0], cmap="gray", extent=(0, FIELD, FIELD, 0))
            if group:
                cells = cj.predict(group[0].model, image[None]).reshape(side, side)
                place.imshow(cells, cmap="viridis", alpha=0.75, extent=(0, FIELD, FIELD, 0),
                             vmin=0, vmax=1)  # fmt: skip
            place.plot(CELL * (across + corners[0]), CELL * (row + corners[1]), color="C3")
            place.set_axis_off()
            if not column:
                place.set_title(head.replace("_", " ") or "field and true cell", fontsize=9)
    return figure


def main(options: TargetOptions) -> dict[str, list[cj.Run]]:
    """Train the heads and the points, compare, draw."""
    folder = _studies.folder_of(options, NAME)
    runs = {}
    for head in HEADS:
        told = replace(options, out=str(Path(options.out) / head) if options.out else None)
        runs[head] = for_every_seed(told, partial(train, head))
    test = test_fields(options)
    rows = [
        [
            head,
            _studies.parameters(group),
            _studies.accuracy("test")(group),
            mean_and_deviation([distance(run, test) for run in group], 1),
        ]
        for head, group in runs.items()
    ]
    columns = ["head", "parameters", "right cell, %", "distance, pixels"]
    _studies.write_table(folder / f"{NAME}.md", columns, rows)
    figures.save(draw(runs, test), folder / f"{NAME}.png")
    points = _xor.study(range(options.seed, options.seed + max(options.seeds, 5)), folder)
    write_claims(folder, [*CLAIMS, xor_claim(points)])
    print(f"figures: {folder / f'{NAME}.png'}, {folder / 'xor.png'}")
    return runs


if __name__ == "__main__":
    command(main, TargetOptions, NAME)
