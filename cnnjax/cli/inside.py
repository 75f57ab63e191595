"""Verbs that draw what is inside a model: activations, filters, gradcam, explain."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax.cli.options import (
    add_model_options,
    add_weight_options,
    images_folder,
    model_and_files,
    model_of_a_file,
    model_of_a_run,
    place,
    warnings_as_lines,
)
from cnnjax.cli.running import print_table, say, show
from cnnjax.cli.texts import add_text_option, draw_answers, takes_texts
from cnnjax.core.text import plain


def add(verbs: Any) -> None:
    """Add the verbs of this file to the command's."""
    verb = verbs.add_parser("activations", help="draw the feature maps of layers for photos")
    _add_photos(verb)
    verb.add_argument(
        "--layers", nargs="+", metavar="PATTERN",
        help="names or patterns, e.g. 'block1_*'; default: the first 8 layers with maps",
    )  # fmt: skip
    verb.add_argument(
        "--raw", action="store_true",
        help="show the values on a common scale; default: each map normalised for itself",
    )  # fmt: skip
    verb.set_defaults(verb=_activations)

    _add_filters(verbs)

    verb = verbs.add_parser("gradcam", help="draw where photos hold what speaks for a class")
    _add_photos(verb)
    _add_maps(verb)
    verb.add_argument(
        "--target", action="extend", nargs="+", default=[], metavar="CLASS",
        help="numbers or names; several are drawn side by side; default: the class predicted",
    )  # fmt: skip
    verb.set_defaults(verb=_gradcam)

    verb = verbs.add_parser("explain", help="draw a panel of methods, and test what they are worth")
    _add_photos(verb)
    add_text_option(verb)
    _add_maps(verb)
    verb.add_argument("--target", metavar="CLASS", help="default: the class predicted")
    verb.add_argument(
        "--methods", nargs="+", metavar="METHOD",
        help="of grad_cam hires_cam grad_cam_plus_plus saliency smooth_grad integrated_gradients "
        "guided_backpropagation occlusion; default: all",
    )  # fmt: skip
    verb.add_argument(
        "--sanity", action="store_true",
        help="randomise the weights from the top; delete and insert what is hot; print the tables",
    )  # fmt: skip
    verb.add_argument(
        "--box", action="append", nargs=5, default=[], metavar=("CLASS", "X0", "Y0", "X1", "Y1"),
        help="around an object of a single photo, in its pixels: print whether the maps for the "
        "class point at it; may be given again",
    )  # fmt: skip
    verb.set_defaults(verb=_explain)


def _add_filters(verbs: Any) -> None:
    verb = verbs.add_parser("filters", help="draw patterns that excite filters, or classes")
    verb.add_argument(
        "run", nargs="?", metavar="RUN", type=place,
        help="a run directory or a saved model, unless --model names one",
    )  # fmt: skip
    _add_source_options(verb)
    verb.add_argument("--layer", help="whose filters: a name from `cnnjax summary`")
    verb.add_argument(
        "--classes", nargs="+", metavar="CLASS",
        help="instead of --layer: numbers or names; draw what the model takes for these classes",
    )  # fmt: skip
    verb.add_argument(
        "--filters", nargs="+", type=int, metavar="N", help="numbers; default: the first 64"
    )
    verb.add_argument(
        "--recipe",
        help="classic: ascent on the pixels, after the activation; fourier: on Fourier "
        "coefficients, before it, for clearer images; default: classic, for classes fourier",
    )  # fmt: skip
    verb.add_argument("--size", type=int, help="of a filter's pattern; default: 64")
    verb.add_argument("--steps", type=int, help="of the ascent; default: 40, for classes 256")
    verb.add_argument("--seed", type=int, help="of the noise it begins with; default: 0")
    verb.set_defaults(verb=_filters)


def _add_source_options(verb: argparse.ArgumentParser) -> None:
    """Options for which model to look into, and for where its images go."""
    add_weight_options(verb)
    verb.add_argument(
        "--allow-partial", action="store_true",
        help="take what the file of --weights has; the rest is random, and listed",
    )  # fmt: skip
    add_model_options(verb)
    verb.add_argument(
        "--out",
        metavar="DIR",
        type=place,
        help="default: figures/ in RUN, whose report shows them, or here",
    )


def _add_photos(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "files", nargs="+", metavar="[RUN] PHOTO", type=place,
        help="a run directory or a saved model, unless --model names one; then image files",
    )  # fmt: skip
    _add_source_options(verb)


def _add_maps(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--layer", help="of the class activation maps; default: the model's last with maps"
    )
    verb.add_argument("--colormap", default="jet", help="viridis, turbo, ...; default: jet")


def _activations(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import plot

    cj.configure_runtime()
    folder = images_folder(options, options.files[0])
    model, files = model_and_files(options, head=False)
    table, images = plot.draw_activations(model, files, folder, options.layers, options.raw)
    rows = [f"{r.zeros:5.3f}  {r.dead_maps:9.3f}  {r.dead_for_all:19.3f}" for r in table.values()]
    print_table(["layer", *table], ["zeros  dead maps  dead for all photos", *rows])
    _show(options, options.files[0], images)


def _filters(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import plot
    from cnnjax.explain.filters import describe_dead

    cj.configure_runtime()
    if bool(options.run) == bool(options.model):
        raise ValueError("give either a RUN or --model, the model to look into")
    if bool(options.layer) == bool(options.classes):
        raise ValueError("give either --layer or --classes, what the patterns are to excite")
    names = ("filters", "size", "steps", "seed", "recipe")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    wrong = [f"--{name}" for name in ("filters", "size") if name in given and options.classes]
    if wrong:
        raise ValueError(f"{wrong[0]} is for the filters of a --layer, not for --classes")
    folder = images_folder(options, options.run)
    if options.model:
        model = model_of_a_file(options, head=bool(options.classes))
    else:
        model = model_of_a_run(options, options.run)
    if options.classes:
        classes = [_class(text) for text in options.classes]
        found, image = plot.draw_classes(model, classes, folder, **given)
        dead = describe_dead(model.spec.name, found.dead, "class")
    else:
        found, image = plot.draw_filters(model, options.layer, folder, **given)
        dead = describe_dead(options.layer, found.dead)
    if found.dead:
        say(f"warning: {dead}")
    _show(options, options.run, [image])


def _gradcam(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import plot

    cj.configure_runtime()
    folder = images_folder(options, options.files[0])
    model, files = model_and_files(options)
    targets = [_class(text) for text in options.target]
    with warnings_as_lines():
        images, asked = plot.draw_gradcam(
            model, files, folder, options.layer, targets, options.colormap
        )
    labels = [plain(heat.label) for heat in asked]
    width = max(map(len, ["class", *labels]))
    rows = [
        f"{label:{width}}  {heat.probability:11.4f}  {heat.layer}"
        for label, heat in zip(labels, asked, strict=True)
    ]
    head = f"{'class':{width}}  probability  layer"
    print_table(["photo", *(heat.photo for heat in asked)], [head, *rows])
    _show(options, options.files[0], images)


def _explain(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import plot

    cj.configure_runtime()
    folder = images_folder(options, options.files[0])
    model, files = model_and_files(options)
    target = None if options.target is None else _class(options.target)
    if takes_texts(model, options, ("methods", "sanity", "box")):
        show(draw_answers(model, files, options, folder, target))
        return
    if options.box and len(files) != 1:
        raise ValueError(f"--box is for a single photo, got {len(files)}")
    boxes = [(_class(name), _whole_numbers(corners)) for name, *corners in options.box]
    with warnings_as_lines():
        images, maps = plot.draw_methods(
            model, files, folder, options.layer, target, options.methods, options.colormap
        )
        if options.sanity:
            more, tables = plot.draw_sanity(model, files, folder, maps, options.layer, target)
            images += more
            print(tables + "\n")
        if boxes:
            table = plot.pointing_table(model, files[0], boxes, options.layer, options.methods)
            print(table + "\n")
    _show(options, options.files[0], images)


def _class(text: str) -> int | str:
    """A class by number or by name."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def _whole_numbers(texts: Sequence[str]) -> tuple[int, ...]:
    if not all(text.isdecimal() for text in texts):
        raise ValueError(f"--box needs four whole numbers after the class, got {' '.join(texts)}")
    return tuple(map(int, texts))


def _show(options: argparse.Namespace, run: str, images: Sequence[Path]) -> None:
    """Say where the images are; those among a run's figures go into its report."""
    from cnnjax.runs.report import write_report

    for image in images:
        show(image)
    if not options.model and not options.out and (Path(run) / "report.html").is_file():
        show(write_report(run))
