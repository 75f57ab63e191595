"""A classifier of one's own images: a folder with a folder per class, two classes or more.

From scratch a small net with dropout and augmentation; with --weights a dense layer of 256 on the
features of a pretrained base, which needs far fewer images. Where the folder is not divided into
train/, validation/ and test/, 15 % are set aside for each of the last two.

Command:   python -m experiments.own_images FOLDER [--weights FILE --backbone mobilenet]
           cnnjax predict RUN PHOTO ...
           cnnjax data export cifar10 animals --classes bird cat deer dog frog horse
           python -m experiments.own_images animals --image-size 64

Reported:  no figure; yours.

Ours:      2,000 photos of cats and dogs on features of MobileNet .25 at 128x128: 92.13 ± 0.31 %
           (3 seeds); the rows own_images of RESULTS.md.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Experiment, for_every_seed, report_seeds, run_seeds
from cnnjax.recipes.shipped.cats_vs_dogs import AUGMENT
from experiments import feature_extraction
from experiments._backbones import BackboneOptions

_SCRATCH_SIZE = 150


@dataclass(frozen=True)
class OwnOptions(BackboneOptions):
    """Options of the experiment."""

    data: tyro.conf.Positional[str] = ""
    """Folder of class folders, or of train/, validation/ and test/ with these in each; FILE.csv of
    paths and labels; or what else --data of the other experiments takes."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None  # type: ignore[assignment]
    """Of a pretrained base: imagenet (those published) or a weight file; default: from scratch."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Height and width to which images are brought; default: 150, with --weights the base's own,
    224 or 299."""
    learning_rate: float = 1e-4
    """Of the training, with --weights that of the classifier."""


def experiment(options: OwnOptions) -> Experiment:
    """The training from scratch."""
    size = options.image_size or _SCRATCH_SIZE
    return Experiment(
        name="own_images/scratch",
        description=f"images in {options.data}, from scratch",
        model="cats_convnet",
        arguments={"dropout": 0.5},
        training=cj.TrainingConfig(
            epochs=30, batch_size=20, optimizer="rmsprop", learning_rate=options.learning_rate,
            augment=AUGMENT, monitor="accuracy",
        ),
        images={"image_size": (size, size)},
        validation=0.15,
        test=0.15,
        one_logit=True,
        smoothing=0.8,
    ).with_options(options)  # fmt: skip


def main(options: OwnOptions) -> list[cj.Run]:
    """Train, draw, report."""
    if not options.data:
        raise ValueError("give the folder of your images: python -m experiments.own_images FOLDER")
    if options.weights is None:
        usual = OwnOptions()
        for name in ("backbone", "alpha"):
            if (value := getattr(options, name)) != getattr(usual, name):
                raise ValueError(
                    f"--{name} {value} is of a pretrained base: give its --weights too (imagenet "
                    "or a file); without them a small net is trained from scratch"
                )
        return run_seeds(experiment, options)
    runs = for_every_seed(options, on_features)
    report_seeds(features_task(options), runs, options.out)
    return runs


def on_features(options: OwnOptions) -> cj.Run:
    """One seed of the classifier on features."""
    return feature_extraction.run(_of_features(options), features_task(options))


def features_task(options: OwnOptions) -> Experiment:
    """The training of the classifier on features."""
    return replace(
        feature_extraction.experiment(_of_features(options)),
        name=f"own_images/{options.backbone}",
        description=f"images in {options.data}, on features of {options.backbone}",
        recipe="",
        validation=0.15,
        test=0.15,
    )


def _of_features(options: OwnOptions) -> feature_extraction.FeatureOptions:
    return feature_extraction.FeatureOptions(recipe="tuned", **vars(options))


if __name__ == "__main__":
    command(main, OwnOptions, "own_images")
