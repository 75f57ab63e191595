"""Where fine-tuning a pretrained base beats leaving it frozen, and where it does not.

A head is trained on the frozen base. From there, for as many epochs once more, three ways: the base
frozen as before; its upper half free, with normalisation as it is; and with normalisation trained
on the statistics of its batches. All ways of a seed have the same images, head and order, so that
the difference is that of fine-tuning, not of longer training. The rates rise and fall in one
cycle: at a constant one RMSprop's last epoch is up or down by several points.

Four cases: 2,000 photos of dogs and cats; 200 of them; 2,000 at half the size, which the base was
not trained for; and 2,000 images of other things, in ten classes, at their own size of 32x32.

Command:   python -m experiments.fine_tuning_gain --data FOLDER --data-dir DIR --weights FILE
           --seeds 5 [--cases photos other] [--alpha 1]

Reported:  fine-tuning raises dogs against cats from about 90 to about 97 % (VGG16).

Ours:      fine_tuning_gain.md and .png in the folder of the runs, and `cnnjax results` for what
           holds of the claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import mean_and_deviation
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Experiment, for_every_seed, load_data
from cnnjax.runs.results import spread
from experiments import _studies
from experiments._arms import FineArmOptions, train_arm, write_known
from experiments._backbones import (
    build_base,
    changed,
    frozen_layers,
    with_head,
)

NAME = "fine_tuning_gain"


@dataclass(frozen=True)
class Case:
    """Images and how many epochs each stage has.

    Args:
        text: what it is.
        examples: images to train on.
        image_size: height and width; None: that of the options.
        data: name of other data than those of the options.
        epochs: of each stage.
    """

    text: str
    examples: int = 2000
    image_size: int | None = None
    data: str | None = None
    epochs: int = 6


CASES = {
    "photos": Case("2,000 photos of dogs and cats"),
    "few": Case("200 photos of dogs and cats", examples=200, epochs=20),
    "small": Case("2,000 photos of dogs and cats at 48x48", image_size=48),
    "other": Case("2,000 images of CIFAR-10 at 32x32", image_size=32, data="cifar10"),
}

# Way -> whether the upper half of the base is free, and whether its normalisation is trained.
WAYS = {"frozen": (False, False), "free": (True, False), "free_norm": (True, True)}


def _claims(case: str) -> tuple[Claim, ...]:
    def claim(text: str, first: str, second: str) -> Claim:
        arm = f"{NAME}/{case}"
        claimed = f"{CASES[case].text}: {text}."
        return Claim(claimed, f"{arm}/{first}", f"{arm}/{second}", "test_accuracy")

    return (
        claim("fine-tuning beats the frozen base", "free", "frozen"),
        claim("fine-tuning with normalisation as it is beats training it", "free", "free_norm"),
    )


CLAIMS = tuple(claim for case in CASES for claim in _claims(case))


@dataclass(frozen=True)
class GainOptions(FineArmOptions):
    """Options of the experiment."""

    free_from: str = "conv_dw_6"
    """First layer that is free."""
    cases: tuple[str, ...] = tuple(CASES)
    """Which of photos, few, small, other."""


# What a record names where it is given otherwise.
DEFAULTS: dict[str, Any] = {
    name: getattr(GainOptions, name)
    for name in ("backbone", "alpha", "image_size", "learning_rate", "fine_rate", "free_from")
}


def case_options(case: Case, options: GainOptions) -> GainOptions:
    """The options as a case has them."""
    size = case.image_size or options.image_size
    return replace(options, image_size=size, data=case.data or options.data)


def experiment(case: str, options: GainOptions) -> Experiment:
    """What all ways of a case have in common, and the training of the head."""
    chosen = CASES[case]
    here = case_options(chosen, options)
    task = Experiment(
        name=f"{NAME}/{case}",
        description=f"{chosen.text}: {options.backbone}, frozen and fine-tuned",
        model=options.backbone,
        training=cj.TrainingConfig(
            epochs=chosen.epochs, batch_size=20, optimizer="rmsprop", schedule="one_cycle",
            learning_rate=options.learning_rate, monitor=None,
        ),
        images=here.images,
        validation=0.02 if chosen.data else 0.2,
        test=0.2,
        train_examples=chosen.examples,
        one_logit=True,
    ).with_options(here)  # fmt: skip
    return replace(task, changed={**task.changed, **changed(options, DEFAULTS)})


def main(options: GainOptions) -> dict[str, list[cj.Run]]:
    """Train all ways of all cases for every seed, then write table, figure and claims."""
    for case in options.cases:
        if case not in CASES:
            raise ValueError(f"cases must be of {', '.join(CASES)}, got {case!r}")
    seeds = for_every_seed(options, run)
    runs = {arm: [arms[arm] for arms in seeds] for arm in seeds[0]}
    folder = _studies.folder_of(options, NAME)
    head = ["", "frozen", "fine-tuned", "gain, points", "normalisation trained too", "gain, points"]
    rows = [_row(case, runs) for case in options.cases]
    _studies.write_table(folder / f"{NAME}.md", head, rows)
    figures.save(draw(runs, options.cases), folder / f"{NAME}.png")
    print(f"figure: {folder / NAME}.png")
    write_known(folder, CLAIMS, {f"{NAME}/{arm}" for arm in runs})
    return runs


def run(options: GainOptions) -> dict[str, cj.Run]:
    """All arms of one seed: "CASE/WAY" -> run."""
    runs: dict[str, cj.Run] = {}
    for case in options.cases:
        here = case_options(CASES[case], options)
        if options.out:
            here = replace(here, out=f"{options.out}/{case}")
        task = experiment(case, options)
        images = load_data(task)
        base = build_base(here, images)
        task = replace(task, facts=here.facts(base))
        new = with_head(base, task, images.train.label_names, units=(256,), pooling="avg")
        frozen = frozen_layers(new, "none")
        trained = train_arm(here, task, "head", images, new, frozen=frozen).model
        for way, (free, norm) in WAYS.items():
            frozen = frozen_layers(new, options.free_from if free else "none", not norm)
            fine = {"frozen": frozen, "learning_rate": options.fine_rate}
            runs[f"{case}/{way}"] = train_arm(here, task, way, images, trained, **fine)
    return runs


def gains(runs: Mapping[str, Sequence[cj.Run]], case: str, way: str) -> np.ndarray:
    """Points of test accuracy above the frozen base, one a seed."""
    tested = [
        np.array([one.metrics["test_accuracy"] for one in runs[f"{case}/{arm}"]])
        for arm in (way, "frozen")
    ]
    return 100 * (tested[0] - tested[1])


def draw(runs: Mapping[str, Sequence[cj.Run]], cases: Sequence[str]) -> Any:
    """The gain of every seed as a point, and their mean as a line.

    Args:
        runs: "CASE/WAY" -> runs, one a seed.
        cases: to draw.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * len(cases) + 2, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="grey", linewidth=1)
    labels = {"free": "normalisation as it is", "free_norm": "normalisation trained too"}
    for number, (way, label) in enumerate(labels.items()):
        for place, case in enumerate(cases):
            values, x = gains(runs, case, way), place + 0.3 * number - 0.15
            axes.plot(np.full(len(values), x), values, "o", color=f"C{number}", alpha=0.6,
                      label=None if place else label)  # fmt: skip
            axes.hlines(values.mean(), x - 0.1, x + 0.1, color=f"C{number}")
    axes.set_xticks(
        range(len(cases)), [CASES[case].text.replace(" of ", "\nof ") for case in cases]
    )
    axes.set(ylabel="gain in test accuracy, points", title="fine-tuned against frozen base")
    axes.grid(alpha=0.3, axis="y")
    axes.legend()
    return figure


def _row(case: str, runs: Mapping[str, Sequence[cj.Run]]) -> list[str]:
    tested = {
        way: spread([one.metrics["test_accuracy"] for one in runs[f"{case}/{way}"]]) for way in WAYS
    }
    gained = {way: mean_and_deviation(gains(runs, case, way), 2) for way in WAYS}
    others = [cell for way in ("free", "free_norm") for cell in (tested[way], gained[way])]
    return [CASES[case].text, tested["frozen"], *others]


if __name__ == "__main__":
    command(main, GainOptions, NAME)
