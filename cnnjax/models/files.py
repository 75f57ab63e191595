"""Models on disk: model.json (architecture, labels, preprocessing) and weights.safetensors.

Of a model of texts also vocabulary.json.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen

from cnnjax import paths
from cnnjax.core.reading import read_json
from cnnjax.data import Vocabulary
from cnnjax.models.model import Model
from cnnjax.models.registry import build
from cnnjax.models.spec import ModelSpec
from cnnjax.models.validation import output_shape
from cnnjax.storage import write_text
from cnnjax.weights import load_safetensors, save_safetensors

MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
VOCABULARY_FILE = "vocabulary.json"


class UnreadableModel(ValueError):
    """A directory that does not hold a model, or not one for this code."""


def save(model: Model, directory: str | Path) -> Path:
    """Save architecture, weights, labels and preprocessing.

    Args:
        model: what to save.
        directory: made if needed; a model in it is replaced.

    Returns:
        The directory.

    Raises:
        UnreadableModel: if it is a run directory.
    """
    directory = Path(directory).expanduser()
    if (directory / "run.json").is_file():
        raise UnreadableModel(
            f"{directory} is a run directory, whose model is in its checkpoints: save elsewhere"
        )
    directory.mkdir(parents=True, exist_ok=True)
    save_safetensors(model.variables, directory / WEIGHTS_FILE)
    write_spec(model.spec, directory)
    return directory


def load_model(directory: str | Path, module: linen.Module | None = None) -> Model:
    """Load what `save` wrote.

    Args:
        directory: that `save` wrote.
        module: needed for a model of `Model.from_module`, whose code is not in the file.

    Raises:
        UnreadableModel: if there is no such model, or the weights do not fit it.
        DamagedWeights: if the file differs from what was written.
    """
    directory = Path(directory)
    if not (directory / WEIGHTS_FILE).is_file():
        raise UnreadableModel(
            f"{directory} holds no saved model: expected {MODEL_FILE} and {WEIGHTS_FILE}, "
            "as cj.save writes them"
        )
    variables = load_safetensors(directory / WEIGHTS_FILE)
    return rebuild(read_spec(directory), module, variables, directory)


def write_spec(spec: ModelSpec, directory: Path) -> None:
    """Write model.json and of a model of texts vocabulary.json, each complete or not at all."""
    if spec.vocabulary is not None:
        spec.vocabulary.save(directory / VOCABULARY_FILE)
    write_text(directory / MODEL_FILE, json.dumps(spec.facts(), indent=1) + "\n")


def read_spec(directory: Path) -> ModelSpec:
    """Read model.json, and vocabulary.json if it names one.

    Raises:
        UnreadableModel: if one is missing or not what `write_spec` wrote.
    """
    file = directory / MODEL_FILE
    try:
        values: dict[str, Any] = read_json(file, "model description")
        for key in ("input_shape", "label_names"):
            values[key] = tuple(values[key])
        for key in ("head", "train_arguments"):  # which older files lack
            values[key] = tuple(values.get(key, ()))
        if values["arguments"] is not None:
            values["arguments"] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values["arguments"].items()
            }
        if values.get("vocabulary") is not None:
            values["vocabulary"] = _read_vocabulary(directory, values["vocabulary"])
        return ModelSpec(**values)
    except FileNotFoundError:
        raise UnreadableModel(f"{directory} holds no {MODEL_FILE}: it is no saved model") from None
    except UnreadableModel:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableModel(f"{file} is not a model description: {error}") from None


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


def rebuild(
    spec: ModelSpec, module: linen.Module | None, variables: dict[str, Any], origin: Path
) -> Model:
    """A model of a spec with given variables, which must cover it exactly.

    Raises:
        UnreadableModel: if the module is needed and missing, or the variables do not fit.
    """
    try:
        fresh = _shapes(spec, module, origin)
    except UnreadableModel:
        raise
    except (ValueError, TypeError, IndexError) as error:
        raise UnreadableModel(f"the model in {origin} cannot be built: {error}") from error
    wanted = {k: tuple(v.shape) for k, v in paths.leaves(fresh.variables).items()}
    found = {k: np.shape(v) for k, v in paths.leaves(variables).items()}
    if wanted != found:
        raise UnreadableModel(
            f"the weights in {origin} do not fit {spec.name}: "
            + "; ".join(paths.differences(wanted, found))
        )
    read = paths.leaves(variables)
    # Copies: files and models share no memory.
    arrays = paths.map_flat(lambda path, _: jax.numpy.array(read[path]), fresh.variables)
    kept = dataclasses.replace(
        fresh.spec, resize=spec.resize, interpolation=spec.interpolation, weights=spec.weights
    )
    return Model(fresh.module, arrays, kept)


def from_spec(spec: ModelSpec, seed: int = 0) -> Model:
    """A model of `create_model`, by its spec, with random variables from the seed."""
    module, spec = _built(spec)
    return Model.initialise(module, spec, seed)


def _built(spec: ModelSpec) -> tuple[linen.Module, ModelSpec]:
    arguments = spec.arguments or {}
    return build(
        spec.name,
        input_shape=spec.input_shape,
        num_classes=spec.num_classes if spec.head else None,  # features have no classes
        label_names=spec.label_names,
        preprocessing=spec.preprocessing,
        vocabulary=spec.vocabulary,
        **arguments,
    )


def _shapes(spec: ModelSpec, module: linen.Module | None, origin: Path) -> Model:
    """A model of a spec whose variables are only shapes."""
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
