"""What the experiments with pretrained bases share: options, recipes, the base, its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.recipes import (
    Experiment,
    ImageData,
    Options,
    RecipeOptions,
    load_data,
    report_seeds,
    result_line,
    run_experiment,
)
from experiments._studies import other_than

Backbone = Literal["vgg16", "vgg19", "resnet50", "inception_v3", "xception", "mobilenet"]

# The first layer of the block at the end that fine-tuning sets free.
TOP_BLOCKS = {
    "vgg16": "block5_conv1",
    "vgg19": "block5_conv1",
    "resnet50": "conv5_block1_1_conv",
    "inception_v3": "mixed9",
    "xception": "block13_sepconv1",
    "mobilenet": "conv_dw_12",
}


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Options of an experiment with a pretrained base."""

    data: ImageData = "cats_vs_dogs_small"
    backbone: Backbone = "mobilenet"
    """The base."""
    alpha: float = 1.0
    """Width of mobilenet: 0.25, 0.5, 0.75 or 1."""
    weights: str = "imagenet"
    """Of the base: imagenet (those published, downloaded once), a weight file, or random."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Height and width of the photos; default: the base's own, 224 or 299."""
    learning_rate: float = 1e-4
    """Of what is trained while the base is frozen."""

    @property
    def images(self) -> dict[str, Any]:
        """How photos are read, for `Experiment`."""
        default = cj.models.BUILDERS[self.backbone].input_shape[0]
        size = self.image_size or default
        return {"image_size": (size, size), "resize": self.resize}

    @property
    def resize(self) -> str:
        """How photos of any shape become square."""
        return "crop"

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the base, for `create_model`."""
        if self.backbone != "mobilenet" and self.alpha != 1:
            raise ValueError(
                f"--alpha {self.alpha:g} is the width of mobilenet, which --backbone "
                f"{self.backbone} has not: leave it out, or give --backbone mobilenet"
            )
        weights = None if self.weights == "random" else self.weights
        alpha = {"alpha": self.alpha} if self.backbone == "mobilenet" else {}
        return {"weights": weights, "include_top": False, **alpha}

    def facts(self, base: cj.Model) -> dict[str, Any]:
        """What the record says of the base."""
        return {
            "base": {
                "model": self.backbone,
                "weights": base.spec.weights or "random",
                "hash": trees.tree_hash(base.variables),
            }
        }


@dataclass(frozen=True)
class BackboneRecipeOptions(BackboneOptions, RecipeOptions):
    """Options of an experiment whose recipe decides what is not given."""

    backbone: Annotated[Backbone | None, tyro.conf.arg(metavar="NAME")] = None  # type: ignore[assignment]
    """The base: vgg16, vgg19, resnet50, inception_v3, xception or mobilenet; default: the
    recipe's."""
    alpha: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None  # type: ignore[assignment]
    """Width of mobilenet: 0.25, 0.5, 0.75 or 1; default: 1."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Height and width of the photos; default: the recipe's."""
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None  # type: ignore[assignment]
    """Of what is trained while the base is frozen; default: the recipe's."""

    @property
    def resize(self) -> str:
        """The reported figures are of photos that were stretched, as Keras does it."""
        return "stretch" if self.recipe == "reported" else "crop"


def settled(options: Options, recipe: Mapping[str, Any]) -> Any:
    """The options, of the same kind, with a recipe's values where none was given.

    Args:
        options: of the command line; None: not given.
        recipe: name of an option -> its value.
    """
    missing = {name: value for name, value in recipe.items() if getattr(options, name) is None}
    return replace(options, **missing)


def changed(options: Options, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given with another value than a recipe's, for the record.

    Args:
        options: of the command line, or as `settled` made them.
        recipe: name of an option -> its value.
    """
    # Weights in a file are the published ones, and their hash is recorded; random ones are not.
    random = isinstance(options, BackboneOptions) and options.weights == "random"
    return {**other_than(recipe, options), **({"weights": "random"} if random else {})}


def reported_of(options: BackboneOptions, figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Figures that were reported for VGG16 on dogs and cats; {} for another base or other data."""
    same = options.backbone == "vgg16" and Path(options.data).name == BackboneOptions.data
    return figures if same else {}


def build_base(
    options: BackboneOptions, photos: cj.data.Splits, pooling: str | None = None
) -> cj.Model:
    """The base for photos as they were read, without a head; its last map pooled or as it is."""
    height, width, channels = photos.train.input_shape
    model = cj.create_model(
        options.backbone,
        input_shape=(height, width, channels),
        pooling=pooling,
        seed=options.seed,
        **options.arguments,
    )
    return model.replace(spec=replace(model.spec, resize=options.images["resize"]))


def with_head(base: cj.Model, task: Experiment, names: Sequence[str], **head: Any) -> cj.Model:
    """The base with a random head for some classes.

    Args:
        base: of `build_base`.
        task: its seed, and whether two classes are one logit.
        names: of the classes.
        head: further arguments of `transfer.Head`.
    """
    outputs = 1 if task.one_logit and len(names) == 2 else len(names)
    new = cj.transfer.Head(outputs, label_names=tuple(names), **head)
    return cj.transfer.replace_head(base, new, seed=task.training.seed)


def frozen_layers(
    model: cj.Model, free_from: str | int, keep_norm: bool = False
) -> tuple[str, ...]:
    """The layers to freeze so that training begins at a layer of the base.

    Args:
        model: of `with_head`.
        free_from: the first layer that is trained, as in `transfer.layers_before`; "all" or 0
            freezes nothing, "none" the whole base.
        keep_norm: freeze all batch normalisation too: the statistics of a few images are noisy,
            and the weights around it were trained for those of ImageNet.
    """
    if free_from == "none":
        return cj.transfer.base_layers(model)
    frozen = () if free_from in ("all", 0) else cj.transfer.layers_before(model, free_from)
    norms = model.state.get("batch_stats", {}) if keep_norm else {}
    return frozen + tuple(name for name in norms if name not in frozen)


def train_in_stages(
    options: BackboneOptions,
    task: Experiment,
    head: Mapping[str, Any],
    free_from: str | int,
    fine: Mapping[str, Any],
    keep_norm: bool = False,
    *,
    reported: Mapping[str, Mapping[str, float]] | None = None,
    only: str | None = None,
) -> dict[str, cj.Run]:
    """Train a new head on the frozen base, then both from a layer on: two runs, one after another.

    Args:
        options: of one seed.
        task: what both have in common, with the training of the first.
        head: arguments of `transfer.Head` but for the classes, which the photos decide.
        free_from: first layer that the second stage trains, as in `frozen_layers`.
        fine: what the second stage's training has otherwise.
        keep_norm: of the second stage, as in `frozen_layers`.
        reported: stage -> the figures that were reported of it.
        only: "head" leaves the second stage out.

    Returns:
        The runs, "head" and "top".
    """
    photos = load_data(task)
    base = build_base(options, photos)
    model = with_head(base, task, photos.train.label_names, **head)
    stages = {
        "head": replace(task.training, frozen=frozen_layers(model, "none")),
        "top": replace(task.training, frozen=frozen_layers(model, free_from, keep_norm), **fine),
    }
    runs: dict[str, cj.Run] = {}
    lines = []
    for name in (only,) if only else stages:
        stage = replace(
            task,
            name=f"{task.name}/{name}",
            training=stages[name],
            facts=options.facts(base),
            reported=(reported or {}).get(name, {}),
        )
        out = Path(options.out) / name if options.out else None
        runs[name] = run_experiment(stage, out, splits=photos, model=model)
        model = runs[name].model
        lines.append(f"{name}: {result_line(stage, [runs[name]])}")
    print("\n" + "\n".join(lines))
    return runs


def report_stages(
    task: Experiment, results: Sequence[Mapping[str, cj.Run]], out: str | None
) -> None:
    """Mean, spread and curves over several seeds of what `train_in_stages` returned.

    Args:
        task: what the stages have in common.
        results: stage -> run, one a seed; of a single one nothing is printed or drawn.
        out: as in `report_seeds`.
    """
    for stage in results[0]:
        report_seeds(task, [runs[stage] for runs in results], out, stage)
