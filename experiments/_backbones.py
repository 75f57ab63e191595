"""What the experiments with pretrained bases share: options, the base, training in two stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import cnnjax as cj
from cnnjax import paths
from cnnjax.experiment import (
    Experiment,
    Options,
    PictureData,
    load_data,
    report_seeds,
    result_line,
    run_experiment,
)

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

    data: PictureData = "cats_vs_dogs_small"
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
        return {"image_size": (size, size), "resize": "crop"}

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the base, for `create_model`."""
        weights = None if self.weights == "random" else self.weights
        alpha = {"alpha": self.alpha} if self.backbone == "mobilenet" else {}
        return {"weights": weights, "include_top": False, **alpha}

    def facts(self, base: cj.Model) -> dict[str, Any]:
        """What the record says of the base."""
        return {
            "base": {
                "model": self.backbone,
                "weights": base.spec.weights or "random",
                "hash": paths.tree_hash(base.variables),
            }
        }


def build_base(
    options: BackboneOptions, photos: cj.data.Splits, pooling: str | None = None
) -> cj.Model:
    """The base for photos as they were read, without a head; its last map pooled or as it is."""
    height, width, channels = photos.train.image_shape
    model = cj.create_model(
        options.backbone,
        input_shape=(height, width, channels),
        pooling=pooling,
        seed=options.seed,
        **options.arguments,
    )
    return model.replace(spec=replace(model.spec, resize=options.images["resize"]))


def train_in_stages(
    options: BackboneOptions,
    task: Experiment,
    head: Mapping[str, Any],
    free_from: str | int,
    fine: Mapping[str, Any],
    keep_norm: bool = False,
) -> dict[str, cj.Run]:
    """Train a new head on the frozen base, then both from a layer on: two runs, one after another.

    Args:
        options: of one seed.
        task: what both have in common, with the training of the first.
        head: arguments of `transfer.Head` but for the classes, which the photos decide.
        free_from: first layer that the second stage trains, as in `transfer.layers_before`.
        fine: what the second stage's training has otherwise.
        keep_norm: freeze all batch normalisation in the second stage too: the statistics of a few
            pictures are noisy, and the weights around it were trained for those of ImageNet.

    Returns:
        The runs, "head" and "top".
    """
    photos = load_data(task)
    base = build_base(options, photos)
    names = photos.train.label_names
    outputs = 1 if task.one_logit and len(names) == 2 else len(names)
    model = cj.transfer.replace_head(
        base, cj.transfer.Head(outputs, label_names=names, **head), seed=options.seed
    )
    first = replace(task.training, frozen=cj.transfer.base_layers(model))
    frozen = cj.transfer.layers_before(model, free_from)
    if keep_norm:
        norms = model.state.get("batch_stats", {})
        frozen += tuple(name for name in norms if name not in frozen)
    then = replace(task.training, frozen=frozen, **fine)
    runs: dict[str, cj.Run] = {}
    lines = []
    for name, training in {"head": first, "top": then}.items():
        stage = replace(
            task, name=f"{task.name}/{name}", training=training, facts=options.facts(base)
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
