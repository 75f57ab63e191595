"""What verbs about a model share: which model, where its images go, warnings as lines."""

from __future__ import annotations

import argparse
import ast
import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnjax.cli.running import say
from cnnjax.core.places import expanded
from cnnjax.core.reading import check_regular
from cnnjax.core.text import suggest


def place(text: str) -> str:
    """A path on the command line, with the home directory in the place of ~."""
    try:
        return str(expanded(text)) if text[:1] in ("", "~") else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_model_options(verb: argparse.ArgumentParser) -> None:
    """Options for what `create_model` takes."""
    verb.add_argument(
        "--input-shape", nargs=3, type=int, metavar=("H", "W", "C"), help="default: the model's own"
    )
    verb.add_argument("--num-classes", type=int, help="default: the model's own")
    verb.add_argument("--alpha", type=float, help="width of mobilenet: 0.25, 0.5, 0.75 or 1")
    verb.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a further argument of the model, e.g. units=1024,512 for mlp, include_top=False",
    )  # fmt: skip


def add_weight_options(verb: argparse.ArgumentParser) -> None:
    """Options for a model by name with weights from a file."""
    verb.add_argument("--model", help="a name from `cnnjax list`, with weights of --weights")
    verb.add_argument(
        "--weights", metavar="FILE", type=place,
        help="of --model: a Keras, .npz or .safetensors file; default: imagenet, those published",
    )  # fmt: skip


def model_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_model_options` took, for `create_model`.

    Raises:
        ValueError: for an argument that the model does not have, or one given twice.
    """
    from cnnjax.models import BUILDERS

    settings = [_setting(text) for text in options.set]
    if options.alpha is not None:
        settings.append(("alpha", options.alpha))
    arguments: dict[str, Any] = {}
    known = BUILDERS[options.model].arguments if options.model in BUILDERS else []
    for name, value in settings:
        if name in arguments:
            raise ValueError(f"{name} is given twice: {arguments[name]!r} and {value!r}")
        if known and name not in known:
            hint = suggest(name, known, "arguments")
            raise ValueError(f"model {options.model!r} has no argument {name!r}. {hint}")
        arguments[name] = value
    if options.input_shape:
        arguments["input_shape"] = tuple(options.input_shape)
    return {"num_classes": options.num_classes, **arguments}


def _setting(text: str) -> tuple[str, Any]:
    """`units=1024,512` to ("units", (1024, 512)); what is no Python literal stays text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set needs NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def refuse_model_options(options: argparse.Namespace, what: str) -> None:
    """A saved model is what it is: a ValueError if an option says otherwise."""
    names = ("weights", "allow_partial", "input_shape", "num_classes", "alpha", "set")
    given = [n for n in names if getattr(options, n, None) not in (None, [], False)]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise ValueError(f"{option} is for a model by name, not for {what}: leave it out")


def model_and_files(options: argparse.Namespace, head: bool = True) -> tuple[Any, list[str]]:
    """The model to ask and the image files: the first file is a run where no model is named.

    Args:
        options: of the verb.
        head: whether a model without the weights of its head is of no use.
    """
    if options.model:
        return model_of_a_file(options, head), options.files
    run, *files = options.files
    if not files and not getattr(options, "text", None):
        raise ValueError(f"there is no image after {run}: give RUN IMAGE ..., or --model and IMAGE")
    return model_of_a_run(options, run), files


def model_of_a_run(options: argparse.Namespace, run: str) -> Any:
    """The model of a run directory; of a classifier of features the whole one, with its base."""
    import cnnjax as cj

    refuse_model_options(options, f"the run {run}")
    whole = Path(run) / "model"
    return cj.load(whole if (whole / "model.json").is_file() else run)


def model_of_a_file(options: argparse.Namespace, head: bool = True) -> Any:
    """A model by name with weights; what is worth a warning in Python is a line here.

    Args:
        options: of the verb.
        head: as in `model_and_files`.
    """
    import cnnjax as cj
    from cnnjax.models.pretrained.fill import NewHead

    if options.weights and Path(options.weights).exists() and not Path(options.weights).is_dir():
        check_regular(options.weights, "weight file")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = cj.create_model(
            options.model,
            weights=options.weights or "imagenet",
            allow_partial=getattr(options, "allow_partial", False),
            **model_arguments(options),
        )
    for warning in caught:
        if head and issubclass(warning.category, NewHead):
            raise ValueError(f"{warning.message}: there is nothing to predict with")
        say(f"warning: {warning.message}")
    return model


def images_folder(options: argparse.Namespace, run: str) -> Path:
    """Where images go: --out, or figures/ in the run or, where a model is named, here."""
    if options.out:
        return Path(options.out)
    return Path("figures") if options.model else Path(run) / "figures"


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """What is worth a warning in Python is a line here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        say(f"warning: {text}")
