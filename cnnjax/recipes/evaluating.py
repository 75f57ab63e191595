"""Measure the model of a run, or a saved one, on data of its own or others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax import data as data_sources
from cnnjax.core.html import html_table, paragraphs
from cnnjax.core.places import expanded
from cnnjax.core.text import counted, plain, suggest
from cnnjax.data import Dataset, Splits
from cnnjax.data.by_name import over
from cnnjax.data.sources import images_read
from cnnjax.metrics import Measure, recorded
from cnnjax.metrics.showing import LabelNames, result_rows, result_table
from cnnjax.models import Model
from cnnjax.runs import RunDirectory, RunError, load
from cnnjax.runs.contents import holds_run
from cnnjax.training import evaluate
from cnnjax.training.facts import loss_name


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_run` returns; print it.

    Args:
        results: numbers and arrays by name, as `evaluate` returns them.
        data: name of the examples.
        examples: how many.
        label_names: of the classes, if they have names; {output: these} of several outputs.
        notes: what else to know of the figures, a sentence each.
    """

    results: Mapping[str, Any]
    data: str
    examples: int
    label_names: LabelNames = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{plain(self.data)}, {counted(self.examples, 'example')}", *self.notes]
        return "\n".join([*lines, "", result_table(self.results, self.label_names)])

    def _repr_html_(self) -> str:
        head = paragraphs(f"{self.data}, {counted(self.examples, 'example')}", *self.notes)
        return head + "".join(map(html_table, result_rows(self.results, self.label_names)))

    def as_json(self) -> dict[str, Any]:
        """All of it in numbers, texts and lists; None for what is not known."""
        return {
            "data": self.data,
            "examples": self.examples,
            "notes": list(self.notes),
            "label_names": over(list, self.label_names),
            "metrics": {name: recorded(value) for name, value in self.results.items()},
        }


def evaluate_run(
    directory: str | Path,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    metrics: Mapping[str, Measure] | None = None,
    batch_size: int = 64,
    data_dir: str | Path | None = None,
) -> Evaluation:
    """Measure a model that a run directory, or a directory of `save`, holds.

    Args:
        directory: of it; of a run the best checkpoint is taken.
        data: as `cj.data.load` takes it; images of any size are brought to the model's as in the
            run. None takes the data that the run was made on.
        part: "train", "validation" or "test"; None takes that for testing, or the only one.
        metrics: what to measure beside the loss and the task's metrics, by name, as in `fit`.
        batch_size: >= 1.
        data_dir: where TFDS keeps its data, as in `cj.data.load`.

    Raises:
        ValueError: if model and data do not fit together, or there is no such part.
        RunError: if the record does not say where the run's data are.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mlp", units=(8,))
    >>> found = evaluate_run(cj.save(model, "saved"), "digits", metrics={"f1": cj.metrics.f1()})
    >>> sorted(found.results), found.examples
    (['accuracy', 'f1', 'loss'], 359)
    """
    place = expanded(directory)
    model = load(place)
    run = RunDirectory(place) if holds_run(place) else None
    record = run.record() if run else {}
    splits = _splits(model, record, data, data_dir, place)
    chosen = _part(splits, part, "the run" if data is None else str(data))
    _check_names(model, chosen)
    training = run.config()["training"] if run else {}
    results = evaluate(
        model,
        chosen,
        batch_size=batch_size,
        metrics=metrics,
        precision=training.get("precision", "float32"),
    )
    notes = _notes(run, record, model, chosen)
    return Evaluation(results, chosen.name, len(chosen), model.spec.label_names, notes)


def _splits(
    model: Model,
    record: Mapping[str, Any],
    data: str | Path | None,
    data_dir: str | Path | None,
    place: Path,
) -> Splits:
    source = record.get("source")
    if data is None:
        if source is None:
            raise RunError(
                f"{place} does not say where its data are: name some, or measure in Python by "
                "cj.evaluate(cj.load(directory), data)"
            )
        return data_sources.reload(source, data_dir=data_dir)
    names = ("channels", "resize", "interpolation", "decoder", "class_names")
    read = {k: v for k, v in images_read(source or {}).items() if k in names}
    spec = model.spec
    if spec.takes_images:
        read |= {"image_size": spec.input_shape[:2], "channels": spec.input_shape[2]}
    if spec.label_names and spec.task.of_classes:
        read.setdefault("class_names", spec.label_names)
    return data_sources.load(data, data_dir=data_dir, **read)


def _part(splits: Splits, part: str | None, what: str) -> Dataset:
    parts = splits.parts
    if part is None:
        part = "test" if "test" in parts else next(iter(parts)) if len(parts) == 1 else None
    if part is None:
        raise ValueError(f"{what} has no test part: name one of {', '.join(parts)}")
    if part not in parts:
        raise ValueError(f"{what} has no part {part!r}. {suggest(part, parts, 'parts')}")
    return parts[part]


def _check_names(model: Model, data: Dataset) -> None:
    ours, theirs = tuple(model.spec.label_names), tuple(data.label_names)
    numbers = tuple(map(str, range(len(theirs))))  # where there are no names
    if ours and theirs and numbers not in (ours, theirs) and ours != theirs:
        raise ValueError(
            f"{data.name} has the classes {_few(theirs)}, and {model.spec.name} knows "
            f"{_few(ours)}: a label would mean another class"
        )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _notes(
    run: RunDirectory | None, record: Mapping[str, Any], model: Model, data: Dataset
) -> tuple[str, ...]:
    """What may mislead in the figures."""
    notes = []
    for name in ("train", "validation"):
        if record.get("data", {}).get(name, {}).get("fingerprint") == data.fingerprint:
            used = "trained on" if name == "train" else "selected by"
            notes.append(f"these are the examples that the model was {used}")
    usual = loss_name(None, model.spec.task)
    if run and (config := run.config()) and ("objective" in config or config["loss"] != usual):
        trained = config.get("objective", config["loss"])
        trained = trained if isinstance(trained, str) else "an objective of its own"
        notes.append(f"the loss is the task's, {usual}; the run was trained with {trained}")
    return tuple(notes)
