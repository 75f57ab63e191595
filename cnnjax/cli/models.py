"""Verbs about models and what they predict: list, summary, predict."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from cnnjax.cli.options import (
    add_model_options,
    add_weight_options,
    model_and_files,
    model_arguments,
    place,
    refuse_model_options,
)
from cnnjax.cli.running import print_table, say, show
from cnnjax.cli.texts import add_text_option, print_answers, takes_texts


def add(verbs: Any) -> None:
    """Add the verbs of this file to the command's."""
    verb = verbs.add_parser("list", help="the models")
    verb.set_defaults(verb=_list)

    verb = verbs.add_parser("summary", help="layer table of a model, a saved model or a run")
    verb.add_argument("model", type=place, help="a name from `cnnjax list`, or a directory")
    add_model_options(verb)
    verb.set_defaults(verb=_summary)

    verb = verbs.add_parser("predict", help="classify image files, or texts")
    verb.add_argument(
        "files", nargs="+", metavar="[RUN] IMAGE", type=place,
        help="a run directory or a saved model, unless --model names one; then image files: JPEG, "
        "PNG, WebP, GIF, ...; of a run of texts, .txt files",
    )  # fmt: skip
    add_text_option(verb)
    add_weight_options(verb)
    add_model_options(verb)
    verb.add_argument("--top", type=int, default=1, help="classes to name per image; default: 1")
    verb.add_argument(
        "--resize", choices=("crop", "stretch", "pad"),
        help="how images come to the model's size; default: the model's own way, mostly crop",
    )  # fmt: skip
    verb.add_argument(
        "--invert", action="store_true",
        help="swap dark and light: dark ink on paper for a model of light digits on black",
    )  # fmt: skip
    verb.set_defaults(verb=_predict)


def _list(options: argparse.Namespace) -> None:
    from cnnjax.models import BUILDERS

    width = max(map(len, BUILDERS))
    for name, builder in BUILDERS.items():
        shape = "x".join(map(str, builder.input_shape))
        print(f"{name:{width}}  {shape:>9}  {builder.description}")


def _summary(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax.models.builder import build

    if Path(options.model).is_dir():
        refuse_model_options(options, options.model)
        print(cj.summary(cj.load(options.model)))
        return
    # Only shapes are needed: the random weights of a large net take their time.
    print(cj.summary(cj.Model.abstract(*build(options.model, **model_arguments(options)))))


def _predict(options: argparse.Namespace) -> None:
    import cnnjax as cj

    cj.configure_runtime()
    model, files = model_and_files(options)
    if takes_texts(model, options, ("resize", "invert")):
        print_answers(model, files, options)
        return
    if options.resize:
        model = model.replace(spec=dataclasses.replace(model.spec, resize=options.resize))
    if not model.spec.takes_images:
        raise ValueError(
            f"{model.spec.name} takes no images, but arrays {list(model.spec.input_shape)}: in "
            "Python, cj.predict(cj.load(RUN), arrays)"
        )
    channels = model.spec.input_shape[2]
    images, found, missing = [], [], []
    for name in files:
        try:
            image = cj.data.read_image(name, channels)
        except cj.data.UnreadableImage as error:
            missing.append(str(error))
            continue
        images.append(255 - image if options.invert else image)
        found.append(name)
    if images:
        print_table(found, _answers(model, images, options.top))
        size = model.spec.input_shape[:2]
        if any(image.shape[:2] != size for image in images):
            how = cj.data.RESIZE_POLICIES[model.spec.resize]
            show(f"# images were brought to {size[0]}x{size[1]} by {how}")
    if missing:
        raise cj.data.UnreadableImage("; ".join(missing))


def _answers(model: Any, images: list[Any], top: int) -> list[str]:
    """A line for each image: the best classes with their probabilities, or what the task says."""
    import cnnjax as cj

    spec, probs = model.spec, cj.predict(model, images)
    if spec.positions or not spec.task.of_classes:
        if top != 1:
            raise ValueError(
                f"--top is for one class an image, and {spec.name} reads {spec.positions} symbols"
                if spec.positions
                else f"--top is for classes, and the task of {spec.name} is {spec.task.name!r}"
            )
        return spec.task.decode(probs, spec.label_names)
    names = model.spec.label_names or _numbers_without_names(model.spec.num_classes)
    decoded = cj.decode_predictions(probs, top, names)
    return ["  ".join(f"{label} {prob:.4f}" for _, label, prob in best) for best in decoded]


def _numbers_without_names(num_classes: int) -> tuple[str, ...]:
    """() where classes can be named; their numbers, and a word why, where ImageNet's cannot be."""
    from cnnjax.models.imagenet import IMAGENET_CLASSES, class_names

    if num_classes == IMAGENET_CLASSES:
        try:
            class_names()
        except OSError as error:
            say(f"classes have numbers instead of names: {error}")
            return tuple(map(str, range(num_classes)))
    return ()
