"""What it costs to train a classifier on extracted features, and end to end on the frozen base.

The same dense layer of 256 with dropout on the flattened last map, the same photos, rate and
epochs, three ways: on features that the base computed once; on the frozen base, which computes them
again in every epoch; and that with altered photos, which only the last way allows. Nothing of the
base is trained in any.

The seconds of the first are with the extraction, which is done anew for every seed. Those of the
first epoch are with what is compiled. Run it on a machine that does nothing else: arms are trained
one after another. The gap of the table is between the accuracies while training, on altered photos
and with units dropped, and on validation photos; that of the claim between those of the trained
nets on the training photos as they are and on the test photos.

Command:   python -m experiments.extraction_cost --data FOLDER --weights FILE --seeds 3
           [--alpha 1 --image-size 150]

Reported:  extracted features are cheap, but the photos cannot be altered; end to end is dear, and
           with altered photos it overfits less.

Ours:      MobileNet .25 at 96x96, 2,000 photos, 3 seeds: 86.20 ± 0.26 % on features and end to
           end alike (the same values to rounding), 11 and 40 s on one busy core; with altered
           photos 87.07 ± 0.67 %, not decided to be better. The claims in RESULTS.md; table and
           figure are in the folder of the runs.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import deviation, mean_and_deviation
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Experiment, Measured, for_every_seed, load_data, run_experiment
from cnnjax.recipes.shipped.cats_vs_dogs import AUGMENT
from cnnjax.runs import RunDirectory
from cnnjax.runs.results import spread
from experiments import _studies
from experiments._arms import ArmOptions, gap, train_arm, write_known
from experiments._backbones import (
    build_base,
    changed,
    frozen_layers,
    with_head,
)

NAME = "extraction_cost"

ARMS = {
    "features": "on features, extracted once",
    "end_to_end": "end to end, the photos as they are",
    "altered": "end to end, altered photos",
}

CLAIMS = (
    Claim(
        "On extracted features a classifier is as good as end to end on the frozen base.",
        f"{NAME}/features", f"{NAME}/end_to_end", "test_accuracy", within=0.01,
    ),
    Claim(
        "With altered photos a head on the frozen base beats one on features.",
        f"{NAME}/altered", f"{NAME}/features", "test_accuracy",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class CostOptions(ArmOptions):
    """Options of the experiment."""


# What a record names where it is given otherwise.
DEFAULTS: dict[str, Any] = {
    name: getattr(CostOptions, name)
    for name in ("backbone", "alpha", "image_size", "learning_rate")
}


def experiment(options: CostOptions) -> Experiment:
    """What all ways have in common."""
    task = Experiment(
        name=NAME,
        description=f"a dense layer on the frozen {options.backbone}",
        model="mlp",
        arguments={"units": (256,), "dropout": 0.5, "preprocessing": "none"},
        training=cj.TrainingConfig(
            epochs=15, batch_size=20, optimizer="rmsprop", learning_rate=options.learning_rate,
            monitor=None,
        ),
        images=options.images,
        validation=0.2,
        test=0.2,
        one_logit=True,
    ).with_options(options)  # fmt: skip
    return replace(task, changed={**task.changed, **changed(options, DEFAULTS)})


def main(options: CostOptions) -> dict[str, list[cj.Run]]:
    """Train all ways for every seed, then write table, figure and claims."""
    seeds = for_every_seed(options, run)
    runs = {arm: [arms[arm] for arms in seeds] for arm in ARMS}
    folder = _studies.folder_of(options, NAME)
    head = ["", "extraction, s", "first epoch, s", "other epochs, s", "in all, s", "gap", "test"]
    rows = [[ARMS[arm], *_cells(group)] for arm, group in runs.items()]
    _studies.write_table(folder / f"{NAME}.md", head, rows)
    figures.save(draw(runs), folder / f"{NAME}.png")
    print(f"figure: {folder / NAME}.png")
    claims: list[Claim | Measured] = [*CLAIMS, *costs(runs), overfits_less(options, runs)]
    write_known(folder, claims, {f"{NAME}/{arm}" for arm in ARMS})
    return runs


def run(options: CostOptions) -> dict[str, cj.Run]:
    """All ways of one seed."""
    task = experiment(options)
    photos = load_data(task)
    base = build_base(options, photos)
    task = replace(task, facts=options.facts(base))
    runs = {"features": on_features(options, task, photos, base)}
    names = photos.train.label_names
    new = with_head(base, task, names, units=(256,), dropout=0.5, pooling="flatten")
    frozen = frozen_layers(new, "none")
    task = replace(task, model=options.backbone)
    for arm, augment in (("end_to_end", None), ("altered", AUGMENT)):
        runs[arm] = train_arm(options, task, arm, photos, new, frozen=frozen, augment=augment)
    return runs


def on_features(
    options: CostOptions, task: Experiment, photos: cj.data.Splits, base: cj.Model
) -> cj.Run:
    """Extract the features anew and train on them; the record says how long the first took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        features = cj.transfer.extract_features(base, photos, folder, verbose=False)
        seconds = round(time.perf_counter() - start, 2)
        drawn = photos.test.inputs if photos.test else None
        out = f"{options.out}/features" if options.out else None
        task = replace(
            task, name=f"{NAME}/features", facts={**task.facts, "extraction_seconds": seconds}
        )
        return run_experiment(task, out, splits=features, test_images=drawn)


def extraction(one: cj.Run) -> float:
    """Seconds that were spent before training, as the run's record has them; 0 end to end."""
    if one.directory is None:
        return 0.0
    return float(RunDirectory(one.directory).record().get("extraction_seconds", 0))


def seconds(one: cj.Run) -> np.ndarray:
    """Seconds from the beginning to the end of each epoch, [epochs]."""
    return extraction(one) + np.cumsum(one.history["seconds"])


def costs(runs: Mapping[str, Sequence[cj.Run]]) -> tuple[Measured, ...]:
    """What is claimed of the seconds.

    Args:
        runs: way -> runs, one a seed.
    """

    def dearer(text: str, first: str, second: str, epoch: int) -> Measured:
        values = [[float(seconds(one)[epoch]) for one in runs[arm]] for arm in (first, second)]
        return Measured(
            text, ARMS[first], values[0], ARMS[second], values[1], pairs="seeds", metric="seconds"
        )

    return (
        dearer("End to end takes longer than on features.", "end_to_end", "features", -1),
        dearer("End to end with altered photos takes longer still.", "altered", "end_to_end", -1),
        dearer("Until the first epoch ends features take longer.", "features", "end_to_end", 0),
    )


def overfits_less(options: CostOptions, runs: Mapping[str, Sequence[cj.Run]]) -> Measured:
    """That altered photos keep a head on the frozen base from overfitting.

    Args:
        options: of the command line.
        runs: way -> runs, one a seed.
    """
    plain, altered = (
        (ARMS[arm], _studies.plain_gaps(experiment, options, runs[arm]))
        for arm in ("end_to_end", "altered")
    )
    text = "With altered photos a head on the frozen base overfits less than on photos as they are"
    return _studies.gap_claim(text, plain, altered)


def draw(runs: Mapping[str, Sequence[cj.Run]]) -> Any:
    """Accuracy against the seconds that it took.

    Args:
        runs: way -> runs, one a seed.

    Returns:
        A matplotlib figure.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for panel, key in (("training accuracy", "accuracy"), ("validation accuracy", "val_accuracy")):
        panels[panel] = {}
        for arm, group in runs.items():
            values = np.stack([one.history[key] for one in group])
            x = np.mean([seconds(one) for one in group], axis=0)
            panels[panel][ARMS[arm]] = np.stack([x, values.mean(axis=0), deviation(values)])
    return figures.mean_curves(panels, "seconds from the beginning")


def _cells(group: Sequence[cj.Run]) -> list[str]:
    parts = (
        [extraction(one) for one in group],
        [float(one.history["seconds"][0]) for one in group],
        [_studies.seconds_per_epoch([one]) for one in group],
        [float(seconds(one)[-1]) for one in group],
    )
    accuracies = [gap(one) for one in group], [one.metrics["test_accuracy"] for one in group]
    return [*(mean_and_deviation(part, 1) for part in parts), *map(spread, accuracies)]


if __name__ == "__main__":
    command(main, CostOptions, NAME)
