"""Weights of a file into a model."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import jax
from flax import linen

from cnnjax.core import trees
from cnnjax.core.text import plain
from cnnjax.models.backbone import arithmetic
from cnnjax.models.imagenet import IMAGENET_CLASSES, names_beside
from cnnjax.models.layer_settings import differences
from cnnjax.models.model import Model
from cnnjax.models.pretrained.fitting import described, models_that_fit
from cnnjax.models.pretrained.matching import Arrays, Match, Target, match
from cnnjax.models.pretrained.normalisation import without_normalisation
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.scaling import scaling
from cnnjax.models.spec import ModelSpec
from cnnjax.weights import StoredWeights

# Lines of a list of differences before it is cut.
_MAX_LINES = 12
_MAX_MESSAGE = 4_000


class NewHead(UserWarning):
    """The layers that make logits are random, because the file has none that fit."""


class OtherActivations(UserWarning):
    """The file's weights were made for other activations than the model has."""


class OtherInputs(UserWarning):
    """The file's net changes its inputs in a way that may not be the model's preprocessing."""


class PartlyLoaded(UserWarning):
    """Some of a model's weights are random, because the file does not have them."""


def with_weights(
    module: linen.Module,
    spec: ModelSpec,
    stored: StoredWeights,
    *,
    seed: int = 0,
    allow_partial: bool = False,
    allow_other_activations: bool = False,
) -> Model:
    """A model with the weights of a file.

    Args:
        module, spec: of the model.
        stored: the file, as `weights.read_weights` returns it, with our names and layouts.
        seed: of what the file does not supply.
        allow_partial: take what there is and list the rest in a warning.
        allow_other_activations: take weights that were made for other activations, with a warning.

    Raises:
        WeightsDoNotFit: if the file does not cover the model, but for its head; lists missing (-),
            extra (+) and differing (~) weights. Also if its configuration describes a net that
            computes something else of the same weights.
    """
    _refuse_old_resnet(stored)
    _check_arithmetic(stored, module)
    stored = without_normalisation(stored, module, spec)
    target = Target.of(Model.abstract(module, spec))
    found = match(stored, target)
    usable: Arrays = {
        layer: {w: a for w, a in arrays.items() if a.shape == target.shapes[layer].get(w)}
        for layer, arrays in found.found.items()
    }
    if (found.differences and not allow_partial) or not any(usable.values()):
        raise WeightsDoNotFit(_misfit(stored, spec, found, bool(any(usable.values()))))
    _check_settings(stored, spec, target, found, allow_other_activations)
    if found.differences:
        _warn(PartlyLoaded(f"{stored.path} was loaded in part: {_cut(found.differences)}"))
    if found.new_head:
        names = ", ".join(found.new_head)
        text = f"the head ({names}) is new, with random weights: {stored.path} has none that fits"
        _warn(NewHead(text))
    return _complete(module, spec, stored, usable, seed)


def _check_arithmetic(stored: StoredWeights, module: linen.Module) -> None:
    """Refuse weights of a model that computes something else with them, as the file says.

    Raises:
        WeightsDoNotFit: which names the argument.
    """
    ours = arithmetic(module)
    for name, theirs in stored.arithmetic.items():
        if ours.get(name, theirs) != theirs:
            shown = repr(theirs) if name == "origin" else plain(theirs, 40)
            raise WeightsDoNotFit(
                f"{stored.path} was exported from a model of {name}={shown}, got "
                f"{name}={getattr(module, name)!r}: create the model with {name}={shown}"
            )


def _misfit(stored: StoredWeights, spec: ModelSpec, found: Match, some: bool) -> str:
    text = f"{stored.path} does not fit {described(spec)}: {_cut(found.differences)}"
    fitting = [other for other in models_that_fit(stored) if other != described(spec)]
    if fitting:
        return f"{text}. It has the weights of {' or '.join(fitting)}"
    return f"{text}. {'allow_partial=True takes what fits' if some else 'Nothing in it fits'}"


def _check_settings(
    stored: StoredWeights, spec: ModelSpec, target: Target, found: Match, allowed: bool
) -> None:
    """Refuse weights of a net that computes something else with them, by its configuration.

    Raises:
        WeightsDoNotFit: which names the first layers that are otherwise.
    """
    lines = differences(
        found.sources, stored.net, target.calls, spec.head, logits=spec.task.of_classes
    )
    activations = [line for line in lines if line.setting.endswith("activation")]
    others = [str(line) for line in lines if line not in activations]
    name = described(spec)
    _check_inputs(stored, spec, found)
    if others:
        raise WeightsDoNotFit(
            f"{stored.path} holds another net than {name}, whose weights have the same shapes: "
            f"{_cut(others)}"
        )
    if not activations:
        return
    text = _cut([str(line) for line in activations])
    if not allowed:
        raise WeightsDoNotFit(
            f"{stored.path} was made for other activations than {name} has: {text}. Create the "
            "model with those, or take its own with allow_other_activations=True"
        )
    _warn(OtherActivations(f"{stored.path} was made for other activations: {text}"), 5)


def _check_inputs(stored: StoredWeights, spec: ModelSpec, found: Match) -> None:
    """Refuse weights of a net that scales its inputs otherwise.

    Raises:
        WeightsDoNotFit: where another `preprocessing` does as the file's net.
    """
    taken = [id(layer) for layer in found.sources.values()]
    front = list(takewhile(lambda layer: id(layer) not in taken, stored.net))
    theirs = scaling(front, spec)
    if not theirs.text or spec.inputs.name in (theirs.fitting or ()):
        return
    text = f"{stored.path} holds a net that does {theirs.text} to its inputs"
    if theirs.fitting is None or spec.inputs.name == "none":
        ours = f"is not compared with preprocessing={spec.inputs.name!r} of the model here"
        _warn(OtherInputs(f"{text}, which {ours}"), 6)
        return
    raise WeightsDoNotFit(
        f"{text}, not preprocessing={spec.inputs.name!r}: create the model with "
        + (
            f"preprocessing={theirs.fitting[0]!r}"
            if theirs.fitting
            else "preprocessing='none', and do so to the images that it gets"
        )
    )


def _cut(lines: Sequence[str]) -> str:
    shown = "; ".join(lines[:_MAX_LINES])
    return f"{shown}; and {len(lines) - _MAX_LINES} more" if len(lines) > _MAX_LINES else shown


def _refuse_old_resnet(stored: StoredWeights) -> None:
    if any(layer.name.startswith("res2a_branch2a") for layer in stored.layers):
        raise WeightsDoNotFit(
            f"{stored.path} is the ResNet50 file of Keras before 2.2.5, made for another order of "
            "layers and epsilon=1e-3: use the newer file of the same name "
            "(cj.create_model('resnet50', weights='imagenet') downloads it)"
        )


def _complete(
    module: linen.Module, spec: ModelSpec, stored: StoredWeights, found: Arrays, seed: int
) -> Model:
    """The file's arrays in the model's collections; random ones where it has none."""
    if not spec.label_names and _is_imagenet(found, spec):
        spec = dataclasses.replace(spec, label_names=names_beside(stored.path))
    spec = dataclasses.replace(spec, weights=spec.weights or stored.named)
    abstract = Model.abstract(module, spec)
    missing = []
    variables: dict[str, Any] = {}
    for collection, tree in abstract.variables.items():
        flat: dict[str, Any] = {}
        for path in trees.flatten(tree):
            layer, _, weight = path.rpartition("/")
            array = found.get(layer, {}).get(weight)
            if array is None:
                missing.append(f"{collection}/{path}")
            flat[path] = None if array is None else jax.numpy.array(array)
        variables[collection] = flat
    if missing:
        # Only what is missing is computed: the initialisers of a whole net take seconds.
        fresh = Model.initialise(module, spec, seed, only=frozenset(missing))
        for collection, tree in fresh.variables.items():
            variables[collection].update(trees.flatten(tree))
    return Model(module, {k: trees.unflatten(v) for k, v in variables.items()}, spec)


def _is_imagenet(found: Arrays, spec: ModelSpec) -> bool:
    return spec.num_classes == IMAGENET_CLASSES and set(spec.head) <= set(found)


def _warn(warning: UserWarning, level: int = 4) -> None:
    text = plain(warning, _MAX_MESSAGE)
    warnings.warn(type(warning)(text), stacklevel=level)  # at the call of create_model
