"""What verbs about a model share: which model, where its images go, warnings as lines."""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg
from tyro.constructors import PrimitiveConstructorSpec

from cnnjax.cli.running import say
from cnnjax.core.places import Place
from cnnjax.core.reading import check_regular
from cnnjax.core.text import suggest

DataDirectory = Annotated[
    Place | None, arg(metavar="DIR", help="A TensorFlow Datasets directory to look in.")
]


def whole_numbers(metavar: str) -> PrimitiveConstructorSpec:
    """An option of as many whole numbers as its metavar has words, or None where it is not given.

    Of `tuple[int, int] | None` alone tyro takes all that follows, also the names of files.
    """
    return PrimitiveConstructorSpec(
        nargs=len(metavar.split()),
        metavar=metavar,
        instance_from_str=lambda texts: tuple(map(int, texts)),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: ["none"] if value is None else [str(n) for n in value],
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What `create_model` takes."""

    input_shape: Annotated[tuple[int, int, int] | None, whole_numbers("H W C")] = None
    """Default: the model's own."""
    num_classes: Annotated[int | None, arg(metavar="INT")] = None
    """Default: the model's own."""
    alpha: Annotated[float | None, arg(metavar="FLOAT")] = None
    """Width of mobilenet: 0.25, 0.5, 0.75 or 1."""
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=VALUE")] = ()
    """A further argument of the model, e.g. units=1024,512 for mlp, include_top=False."""

    def arguments(self, model: str) -> dict[str, Any]:
        """These options for `create_model`.

        Raises:
            ValueError: for an argument that the model does not have, or one given twice.
        """
        from cnnjax.models import BUILDERS

        settings = [_setting(text) for text in self.set]
        if self.alpha is not None:
            settings.append(("alpha", self.alpha))
        arguments: dict[str, Any] = {}
        known = BUILDERS[model].arguments if model in BUILDERS else []
        for name, value in settings:
            if name in arguments:
                raise ValueError(f"{name} is given twice: {arguments[name]!r} and {value!r}")
            if known and name not in known:
                hint = suggest(name, known, "arguments")
                raise ValueError(f"model {model!r} has no argument {name!r}. {hint}")
            arguments[name] = value
        if self.input_shape:
            arguments["input_shape"] = self.input_shape
        return {"num_classes": self.num_classes, **arguments}

    def refuse(self, what: str) -> None:
        """A saved model is what it is: a ValueError if an option says otherwise."""
        names = ("weights", "allow_partial", "input_shape", "num_classes", "alpha", "set")
        given = [n for n in names if getattr(self, n, None) not in (None, (), False)]
        if given:
            option = given[0].replace("_", "-")
            raise ValueError(f"--{option} is for a model by name, not for {what}: leave it out")


@dataclass(frozen=True, kw_only=True)
class ModelSource(ModelOptions):
    """Which model: that of a run, or one by name with weights from a file."""

    model: Annotated[str | None, arg(metavar="NAME")] = None
    """A name from `cnnjax list`, with weights of --weights."""
    weights: Annotated[Place | None, arg(metavar="FILE")] = None
    """Of --model: a file of Keras or PyTorch, .npz, .safetensors; default: imagenet, published."""

    def load(self, run: str | None, head: bool = True) -> Any:
        """The model to ask.

        Args:
            run: its directory, where no model is named.
            head: whether a model without the weights of its head is of no use.
        """
        import cnnjax as cj

        if self.model:
            return self._load_by_name(self.model, head)
        self.refuse(f"the run {run}")
        whole = Path(str(run)) / "model"  # of a classifier of features the whole one, with its base
        return cj.load(whole if (whole / "model.json").is_file() else str(run))

    def load_for(self, files: tuple[str, ...], head: bool = True) -> tuple[Any, list[str]]:
        """The model to ask and the files: the first one is a run where no model is named."""
        if self.model:
            return self.load(None, head), list(files)
        run, *rest = files
        if not rest and not getattr(self, "text", None):
            raise ValueError(
                f"there is no image after {run}: give RUN IMAGE ..., or --model and IMAGE"
            )
        return self.load(run), rest

    def _load_by_name(self, name: str, head: bool) -> Any:
        import cnnjax as cj
        from cnnjax.models.pretrained.fill import NewHead

        if self.weights and Path(self.weights).exists() and not Path(self.weights).is_dir():
            check_regular(self.weights, "weight file")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model = cj.create_model(
                name,
                weights=self.weights or "imagenet",
                allow_partial=getattr(self, "allow_partial", False),
                **self.arguments(name),
            )
        for warning in caught:
            if head and issubclass(warning.category, NewHead):
                raise ValueError(f"{warning.message}: there is nothing to predict with")
            say(f"warning: {warning.message}")
        return model


def _setting(text: str) -> tuple[str, Any]:
    """`units=1024,512` to ("units", (1024, 512)); what is no Python literal stays text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set needs NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """What is worth a warning in Python is a line here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        say(f"warning: {text}")
