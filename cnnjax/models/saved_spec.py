"""model.json: what it says of a model, and how it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.reading import check_form, read_json
from cnnjax.core.text import plain
from cnnjax.data import INTERPOLATIONS, RESIZE_POLICIES, Vocabulary
from cnnjax.models.adapters import Adapters
from cnnjax.models.manifest import UnreadableModel
from cnnjax.models.registry import BUILDERS
from cnnjax.models.signature import FORM as SIGNATURE_FORM
from cnnjax.models.spec import ModelSpec
from cnnjax.task import INPUTS, TASKS, JointTask, Preprocessing, Task, any_task, as_inputs

VOCABULARY_FILE = "vocabulary.json"


_FORMS = {
    "str": str,
    "int": int,
    "float": float,
    "Shapes": (list, dict),
    "Shapes | None": (list, dict, type(None)),
    "tuple[str, ...]": [str],
    "LabelNames": (list, dict),
    "dict[str, Any] | None": (dict, type(None)),
    "Vocabulary | None": (str, type(None)),
    "Adapters | None": (dict, type(None)),
    "Any": (str, dict),
    "Task": (str, dict),
}


@dataclass(frozen=True)
class Saved:
    """What model.json says.

    Args:
        spec: of the model.
        signature: of a module of the caller's; None where there is none.
    """

    spec: ModelSpec
    signature: dict[str, Any] | None = None


def read_spec(directory: Path) -> ModelSpec:
    """Read model.json, and vocabulary.json if it names one.

    Raises:
        UnreadableModel: if one is missing or not what `save_model` or a run wrote.
    """
    return read_saved(directory).spec


def read_description(directory: Path) -> dict[str, Any]:
    """The values that model.json holds, of the right form.

    Raises:
        UnreadableModel: as `read_spec`.
    """
    file = directory / MODEL_FILE
    try:
        values = read_json(file, "model description")
        check_form(values, {**_spec_form(), "module?": SIGNATURE_FORM})
    except FileNotFoundError:
        raise UnreadableModel(f"{directory} holds no {MODEL_FILE}: it is no saved model") from None
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise UnreadableModel(f"{plain(file)} is not a model description: {plain(error)}") from None
    return {k: v for k, v in values.items() if v is not None}  # as if they were left out


def read_saved(
    directory: Path,
    task: Task | Mapping[str, Task] | None = None,
    preprocessing: Preprocessing | Mapping[str, Preprocessing] | None = None,
) -> Saved:
    """`read_spec` with what else model.json says; arguments as in `load_model`."""
    values = read_description(directory)
    try:
        known = values.pop("module", None)
        _with_own(values, "task", task, TASKS, directory)
        _with_own(values, "preprocessing", preprocessing, INPUTS, directory)
        for field in dataclasses.fields(ModelSpec):
            if field.name in ("input_shape", "output_sizes"):
                values |= {field.name: _sizes(values[field.name])} if field.name in values else {}
            elif field.name == "label_names" and field.name in values:
                values[field.name] = _label_names(values[field.name])
            elif isinstance(values.get(field.name), list):
                values[field.name] = tuple(values[field.name])
        if "arguments" in values:
            values["arguments"] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values["arguments"].items()
            }
        if "adapters" in values:
            values["adapters"] = Adapters.read(values["adapters"])
        for name, options in (("resize", RESIZE_POLICIES), ("interpolation", INTERPOLATIONS)):
            if values.get(name, next(iter(options))) not in options:
                raise ValueError(f"{name} must be one of {', '.join(options)}")
        if "vocabulary" in values:
            values["vocabulary"] = _read_vocabulary(directory, values["vocabulary"])
        return Saved(ModelSpec(**values), known)
    except UnreadableModel:
        raise
    except (ValueError, TypeError, KeyError, IndexError) as error:
        file = plain(directory / MODEL_FILE)
        raise UnreadableModel(f"{file} is not a model description: {plain(error)}") from None


def _with_own(
    values: dict[str, Any],
    argument: str,
    given: Any,
    ours: Collection[str],
    directory: Path,
) -> None:
    """Put a task or inputs of the caller's own where their name stands.

    Raises:
        UnreadableModel: where they are needed and missing, or have another name.
    """
    name, make = values.get(argument), any_task if argument == "task" else as_inputs
    if isinstance(name, dict):
        _with_own_by_name(values, argument, given, ours, directory)
        return
    given = None if given is None else make(given)
    if given is not None and given.name != name:
        raise UnreadableModel(
            f"the model in {directory} has {argument}={plain(name)!r}, not {given.name!r}"
        )
    if given is not None:
        values[argument] = given
    elif name is not None and name not in ours:
        builder = BUILDERS.get(str(values.get("name")))
        registered = getattr(builder, argument, None)
        if getattr(registered, "name", None) != name:
            raise UnreadableModel(
                f"the model in {directory} has {argument}={plain(name)!r}, whose code is not "
                f"stored with it: give it as cj.load(directory, module, {argument}=...)"
            )
        values[argument] = registered


def _with_own_by_name(
    values: dict[str, Any], argument: str, given: Any, ours: Collection[str], directory: Path
) -> None:
    """`_with_own` for each of several inputs or outputs."""
    if isinstance(given, JointTask):
        given = dict(given.parts)
    each = {}
    for name, known in values[argument].items():
        one = {argument: known}
        own = given.get(name) if isinstance(given, Mapping) else None
        _with_own(one, argument, own, ours, directory)
        each[name] = one[argument]
    values[argument] = each


def _sizes(value: Any) -> Any:
    """The shape of an example, or several by name.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, dict):
        return {name: _sizes(one) for name, one in value.items()}
    check_form(value, [(int, type(None))], "input_shape")
    return tuple(value)


def _label_names(value: Any) -> Any:
    """Names of classes, or those of several outputs by name.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, dict):
        return {name: _label_names(one) for name, one in value.items()}
    check_form(value, [str], "label_names")
    return tuple(value)


def _spec_form() -> dict[str, Any]:
    return {
        field.name + ("" if field.default is dataclasses.MISSING else "?"): _FORMS[str(field.type)]
        for field in dataclasses.fields(ModelSpec)
    }


def _read_vocabulary(directory: Path, fingerprint: str) -> Vocabulary:
    try:
        vocabulary = Vocabulary.load(directory / VOCABULARY_FILE)
    except FileNotFoundError:
        raise UnreadableModel(
            f"{directory} holds no {VOCABULARY_FILE}, without which the model's numbers of words "
            "mean nothing: put it back"
        ) from None
    except ValueError as error:
        raise UnreadableModel(str(error)) from None
    if vocabulary.fingerprint != fingerprint:
        raise UnreadableModel(
            f"{directory / VOCABULARY_FILE} is not the vocabulary that the model was trained with"
        )
    return vocabulary


MODEL_FILE = "model.json"
