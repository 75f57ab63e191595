"""The verb evaluate."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cnnjax.cli.options import DataDirectory
from cnnjax.cli.verb import TRAIN, Verb
from cnnjax.core.places import Place


@dataclass(frozen=True)
class Evaluate(Verb, task=TRAIN):
    """Measure the model of a run on data."""

    directory: Annotated[Positional[Place], arg(metavar="RUN")]
    """A run directory or a saved model."""
    data: Annotated[Place | None, arg(metavar="NAME|FOLDER|FILE")] = None
    """A folder with a folder of images per class, FILE.npz, FILE.csv or idx files, or a name of
    `cnnjax data list`; default: the data of the run."""
    part: Literal["train", "validation", "test"] | None = None
    """Default: test, or the only part that there is."""
    metrics: Annotated[tuple[str, ...], arg(metavar="NAME[=VALUE]")] = ()
    """Beside loss and accuracy, e.g. f1, f1=none (of each class), top_k=3, confusion_matrix."""
    batch_size: int = 64
    """Examples at a time."""
    data_dir: DataDirectory = None
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Print a table."""
        from cnnjax.core.runtime import configure_runtime
        from cnnjax.recipes.evaluating import evaluate_run

        measures = dict(map(_measure, self.metrics))
        configure_runtime()
        found = evaluate_run(
            self.directory,
            self.data,
            part=self.part,
            metrics=measures,
            batch_size=self.batch_size,
            data_dir=self.data_dir,
        )
        print(json.dumps(found.as_json(), indent=1) if self.json else found)


def _measure(text: str) -> tuple[str, Any]:
    """`top_k=3` to ("top_k_3", the metric of that setting)."""
    from cnnjax.metrics import by_name

    name, equals, value = text.partition("=")
    if not equals:
        return name, by_name(name)
    return f"{name}_{value}", by_name(name, _setting(value))


def _setting(value: str) -> Any:
    if value.lower() == "none":
        return None
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
