"""Features of a pretrained base, computed once, and a dense classifier on them.

The base runs over every photo one time; what a layer makes of it is kept on disk, and a dense
layer of 256 with dropout is trained on that in seconds (RMSprop, 30 epochs, batch 20). Without
--layer, base and classifier joined are saved as RUN/model and answer for photos.

Command:   python -m experiments.feature_extraction --data FOLDER [--backbone mobilenet]
           [--weights FILE] [--layer conv_pw_9_relu]

Reported:  VGG16 at 150x150, about 90 % of the validation photos of dogs and cats right.

Ours:      MobileNet at 224x224 with ImageNet weights, 2,000 photos, 3 seeds: 98.50 ± 0.26 % test
           accuracy on its last map, 88.80 ± 0.20 % on that of conv_pw_9_relu; 25 s of training.
           Features of all 4,000 photos and the classifier take 2.5 minutes on two cores.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.experiment import Experiment, for_every_seed, load_data, report_seeds, run_experiment
from cnnjax.runtime import cache_directory
from experiments._backbones import BackboneOptions, build_base


@dataclass(frozen=True)
class FeatureOptions(BackboneOptions):
    """Options of the experiment."""

    layer: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Whose output the features are; default: the last map."""
    pooling: Literal["flatten", "avg", "max"] = "avg"
    """What is made of its maps."""
    features: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where features are kept; default: the cache."""


def experiment(options: FeatureOptions) -> Experiment:
    """The training of the classifier."""
    layer = f"/{options.layer}" if options.layer else ""
    return Experiment(
        name=f"feature_extraction/{options.backbone}{layer}",
        description=f"dense layer on features of {options.backbone}",
        model="mlp",
        arguments={"units": (256,), "dropout": 0.5, "preprocessing": "none"},
        training=cj.TrainingConfig(
            epochs=30, batch_size=20, optimizer="rmsprop", learning_rate=options.learning_rate,
            monitor=None,
        ),
        images=options.images,
        validation=0.2,
        test=0.2,
        one_logit=True,
    ).with_options(options)  # fmt: skip


def main(options: FeatureOptions) -> list[cj.Run]:
    """Extract, train, join, report, for every seed."""
    runs = for_every_seed(options, lambda chosen: run(chosen, experiment(chosen)))
    report_seeds(experiment(options), runs, options.out)
    return runs


def run(options: FeatureOptions, task: Experiment) -> cj.Run:
    """One seed: features of the photos, a classifier on them, and both joined for photos."""
    photos = load_data(task)
    pooling = None if options.pooling == "flatten" else options.pooling
    base = build_base(options, photos, pooling)
    features = cj.transfer.extract_features(
        base,
        photos,
        options.features or cache_directory() / "features",
        layer=options.layer,
        pooling=pooling if options.layer else None,  # the base itself pools its last map
    )
    task = replace(task, facts=options.facts(base))
    pictures = photos.test.images if photos.test else None
    found = run_experiment(task, options.out, splits=features, pictures=pictures)
    if options.layer is None and found.directory:
        cj.save(cj.transfer.attach(base, found.model), found.directory / "model")
        print(f"photos: cnnjax predict {found.directory} PHOTO ...")
    return found


if __name__ == "__main__":
    command(main, FeatureOptions, "feature_extraction")
