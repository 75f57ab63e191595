"""Models on disk: model.json (architecture, labels, preprocessing) and weights.safetensors.

Of a model of texts also vocabulary.json. manifest.json ties them together.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen

from cnnjax.config import changeable
from cnnjax.core import trees
from cnnjax.core.describe import describe
from cnnjax.core.reading import is_regular
from cnnjax.core.storage import write_file
from cnnjax.models.backbone import arithmetic
from cnnjax.models.builder import build
from cnnjax.models.manifest import UnreadableModel, check_tied, read_manifest, write_tied
from cnnjax.models.model import Model
from cnnjax.models.saved_spec import MODEL_FILE, VOCABULARY_FILE, Saved, read_saved
from cnnjax.models.signature import AnotherModule, check_described, check_signature, signature
from cnnjax.models.spec import ModelSpec
from cnnjax.models.validation import output_shape
from cnnjax.task import Preprocessing, Task
from cnnjax.weights import load_safetensors, save_safetensors

WEIGHTS_FILE = "weights.safetensors"


# What may differ from what was saved, by `allow_changed`.
ALLOWED = ("module",)


def save_model(model: Model, directory: Path) -> None:
    """Save architecture, weights, labels and preprocessing.

    Args:
        model: what to save.
        directory: made if needed; a model in it is replaced.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        WEIGHTS_FILE: lambda path: save_safetensors(model.variables, path, arithmetic(model.module))
    }
    write_tied(directory, {**_descriptions(model, description(model)), **weights})


def load_model(
    directory: Path,
    module: linen.Module | None = None,
    *,
    task: Task | Mapping[str, Task] | None = None,
    preprocessing: Preprocessing | Mapping[str, Preprocessing] | None = None,
    allow_changed: Sequence[str] = (),
) -> Model:
    """Load what `save_model` wrote.

    Args:
        directory: that `save_model` wrote.
        module: needed for a model of `Model.from_module`, whose code is not in the file.
        task, preprocessing: where the model has some of the caller's own.
        allow_changed: ("module",) takes another module than the one it was saved with.

    Raises:
        UnreadableModel: if there is no such model, the weights do not fit it, a file is not the one
            that was saved, or the module another one.
        DamagedWeights: if the file of weights differs from what was written.
    """
    if not is_regular(directory / WEIGHTS_FILE):
        raise UnreadableModel(
            f"{directory} holds no saved model: expected {MODEL_FILE} and {WEIGHTS_FILE}, "
            "as cj.save writes them"
        )
    hashes = read_manifest(directory)
    saved = read_saved(directory, task, preprocessing)
    check_tied(directory, hashes, MODEL_FILE)
    if saved.spec.vocabulary is not None:
        check_tied(directory, hashes, VOCABULARY_FILE)
    variables = load_safetensors(directory / WEIGHTS_FILE)
    model = rebuild(saved, module, variables, directory, allow_changed=allow_changed)
    check_tied(directory, hashes, WEIGHTS_FILE)
    return model


def write_description(model: Model, content: Mapping[str, Any], directory: Path) -> None:
    """Write model.json and of a model of texts vocabulary.json, each complete or not at all.

    Args:
        model: of a run.
        content: its `description`.
        directory: of the run.
    """
    for name, write in _descriptions(model, content).items():
        write_file(directory / name, write)


def description(model: Model) -> dict[str, Any]:
    """What model.json says of a model: its spec, and by what a module of the caller's is known."""
    content = model.spec.facts()
    if model.spec.arguments is None:
        content["module"] = signature(model.module, model.spec, model.variables)
    return content


def _descriptions(model: Model, content: Mapping[str, Any]) -> dict[str, Callable[[Path], object]]:
    """Names and writers of all files of a model but its weights."""
    spec, text = model.spec, json.dumps(content, indent=1) + "\n"
    writers: dict[str, Callable[[Path], object]] = {}
    if spec.vocabulary is not None:
        writers[VOCABULARY_FILE] = spec.vocabulary.save
    return {**writers, MODEL_FILE: lambda path: path.write_bytes(text.encode())}


def rebuild(
    saved: Saved,
    module: linen.Module | None,
    variables: dict[str, Any],
    origin: Path,
    *,
    allow_changed: Sequence[str] = (),
) -> Model:
    """A model of a description with given variables, which must cover it exactly.

    Raises:
        UnreadableModel: if the module is needed and missing, the variables do not fit, or the
            module is not the one of then and not in allow_changed.
    """
    allowed = changeable(allow_changed, ALLOWED)
    spec, module = saved.spec, _as_linen(module)
    fresh = abstract(spec, module, origin)
    wanted = {k: tuple(v.shape) for k, v in trees.leaves(fresh.variables).items()}
    found = {k: np.shape(v) for k, v in trees.leaves(variables).items()}
    if wanted != found:
        raise UnreadableModel(
            f"the weights in {origin} do not fit {spec.name}: "
            + "; ".join(trees.differences(wanted, found))
        )
    if module is not None and "module" not in allowed:
        _check_module(saved, module, fresh.variables, origin)
    read = trees.leaves(variables)
    # Copies: files and models share no memory.
    arrays = trees.map_flat(lambda path, _: jax.numpy.array(read[path]), fresh.variables)
    kept = dataclasses.replace(
        fresh.spec,
        resize=spec.resize,
        interpolation=spec.interpolation,
        crop=spec.crop,
        weights=spec.weights,
    )
    return Model(fresh.module, arrays, kept)


def _as_linen(module: Any) -> Any:
    """A module of NNX as `Model.from_nnx` makes it one of Linen; another one as it is."""
    if module is None or isinstance(module, linen.Module):
        return module
    from cnnjax.models.nnx import as_linen

    return as_linen(module)


def _check_module(
    saved: Saved, module: linen.Module, variables: dict[str, Any], origin: Path
) -> None:
    """Check that the module given is the one that the model was made with.

    Raises:
        UnreadableModel: if it is not.
    """
    try:
        if saved.spec.arguments is not None:
            check_described(describe(_built(saved.spec)[0]), module)
        elif saved.signature is not None:
            check_signature(saved.signature, module, saved.spec, variables)
        else:
            warnings.warn(
                f"an earlier version of cnnjax wrote {origin / MODEL_FILE}, which does not say "
                "what the module computes: whether this is the same one cannot be checked",
                stacklevel=4,
            )
    except AnotherModule as error:
        raise UnreadableModel(
            f"the model in {origin} was made with another module: {error}; give that, or take this "
            "one all the same with cj.load(directory, module, allow_changed=('module',))"
        ) from None


def from_spec(spec: ModelSpec, seed: int = 0) -> Model:
    """A model of `create_model`, by its spec, with random variables from the seed."""
    module, spec = _built(spec)
    return Model.initialise(module, spec, seed)


def _built(spec: ModelSpec) -> tuple[linen.Module, ModelSpec]:
    arguments = spec.arguments or {}
    module, built = build(
        spec.name,
        input_shape=spec.input_shape,
        num_classes=spec.num_classes if spec.head else None,  # features have no classes
        label_names=spec.label_names,
        preprocessing=spec.preprocessing,
        vocabulary=spec.vocabulary,
        task=spec.task,
        **arguments,
    )
    return module, dataclasses.replace(built, adapters=spec.adapters)


def abstract(spec: ModelSpec, module: linen.Module | None, origin: Path) -> Model:
    """A model of a spec whose variables are only shapes.

    Args:
        spec: as `read_spec` read it.
        module: of a model of the caller's.
        origin: where the spec was, for the message.

    Raises:
        UnreadableModel: if there is no such model, or the module is needed and missing.
    """
    try:
        return _shapes(spec, module, origin)
    except UnreadableModel:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise UnreadableModel(f"the model in {origin} cannot be built: {error}") from error


def _shapes(spec: ModelSpec, module: linen.Module | None, origin: Path) -> Model:
    if module is not None:
        output_shape(module, spec)  # whether it takes such inputs at all
        return Model.abstract(module, spec)
    if spec.arguments is None:
        raise UnreadableModel(
            f"{origin} holds a model of the class {spec.name}, whose code is not stored with it: "
            f"give it as cj.load(directory, module={spec.name}(...))"
        )
    model = Model.abstract(*_built(spec))
    if model.spec.num_classes != spec.num_classes:
        raise UnreadableModel(
            f"{origin} describes a {spec.name} of num_classes={spec.num_classes}, which there is "
            "not with these arguments"
        )
    return model
