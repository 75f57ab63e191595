"""Which family's table names the layers of a PyTorch file, and the model that its weights need."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flax import linen

from cnnjax.core.hub import PREFIX, hub_place
from cnnjax.core.text import plain
from cnnjax.models.builder import build
from cnnjax.models.model import Model
from cnnjax.models.pretrained import hub_config
from cnnjax.models.pretrained.fitting import models_that_fit
from cnnjax.models.pretrained.matching import Target
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.pretrained.torch_layers import as_ours, module_arguments, nearest_table
from cnnjax.models.registry import BUILDERS
from cnnjax.models.spec import ModelSpec
from cnnjax.models.torch_names import TorchNames
from cnnjax.weights import StoredWeights


def recognised(
    stored: StoredWeights, name: str, asked: Mapping[str, Any]
) -> tuple[linen.Module, ModelSpec, StoredWeights]:
    """A model as a PyTorch file's weights need it, and the file with our names and layouts.

    Arguments and preprocessing that the caller did not name are those of the library's weights; a
    line on stderr says so.

    Args:
        stored: a PyTorch file.
        name: of the model.
        asked: for `build`.

    Raises:
        WeightsDoNotFit: if no table of the model names the file's layers, or the caller named
            arguments under which the model computes something else.
    """
    tables = BUILDERS[name].foreign
    defaults, plain_spec = build(name, **asked)
    nearest = nearest_table(stored, tables, module_arguments(defaults))
    if not nearest:
        raise WeightsDoNotFit(_unknown(stored, name, tables))
    mine = _said(stored, name, nearest)
    table = next((one for one in mine if not _contradicting(one, asked)), mine[0])
    _check_arguments(stored, table, asked)
    table = replace(table, crop=hub_config.crop(stored) or table.crop)
    preprocessing = asked.get("preprocessing")
    if preprocessing is None:
        theirs = hub_config.needed_preprocessing(stored, plain_spec)
        table = replace(table, preprocessing=theirs or table.preprocessing)
        preprocessing = table.preprocessing
    settings = {**asked, **table.arguments, "preprocessing": preprocessing}
    module, spec = build(name, **settings)
    source = " and ".join(dict.fromkeys(one.source for one in mine))
    spec = replace(spec, weights=f"{stored.named} ({source})", crop=table.crop)
    target = Target.of(Model.abstract(module, spec))
    _say(stored, source, table, spec)
    return module, spec, as_ours(stored, table, target, module_arguments(module))


def _said(
    stored: StoredWeights, name: str, nearest: tuple[TorchNames, ...]
) -> Sequence[TorchNames]:
    """Of tables with the same names those that something beside the names speaks for.

    That is the net in the configuration of a hub, the hub's owner, whose weights want another crop,
    or what the file or repository is called: timm's "tf_efficientnet_b0..." has Keras' arithmetic.

    Raises:
        WeightsDoNotFit: if the configuration says that they are of another net.
    """
    known = {one.model or name for one in nearest}
    hub_config.check_architecture(stored, known, name)
    owned = [one for one in nearest if stored.label.startswith(f"{PREFIX}{one.source}/")] or nearest
    if net := hub_config.architecture(stored):
        return [one for one in owned if (one.model or name) == net] or owned
    called = hub_place(stored.label).repository.rpartition("/")[2] if stored.label else stored.named
    return [one for one in owned if one.model and called.startswith(one.model)] or owned


def _unknown(stored: StoredWeights, name: str, tables: tuple[TorchNames, ...]) -> str:
    """Why nothing in a file has a place."""
    first = stored.layers[0]
    example = ".".join(filter(None, (first.name, next(iter(first.arrays)))))
    text = f"{stored.path} has PyTorch's names ({example!r}), none of which "
    text += f"is one of {name}" if tables else f"is known of {name}: it takes files of Keras"
    fitting = models_that_fit(stored)
    return f"{text}. It has the weights of {' or '.join(fitting)}" if fitting else text


def _check_arguments(stored: StoredWeights, table: TorchNames, asked: Mapping[str, Any]) -> None:
    """Refuse a model that the caller wants to compute something else.

    Raises:
        WeightsDoNotFit: which names the argument.
    """
    for argument in _contradicting(table, asked):
        raise WeightsDoNotFit(
            f"{stored.path} has the names of {table.source}, whose weights are for "
            f"{argument}={table.arguments[argument]!r}, got {argument}={asked[argument]!r}: leave "
            "it out"
        )


def _contradicting(table: TorchNames, asked: Mapping[str, Any]) -> list[str]:
    """Arguments that the caller wants otherwise than the table's weights need them."""
    return [k for k, value in table.arguments.items() if k in asked and asked[k] != value]


def _say(stored: StoredWeights, source: str, table: TorchNames, spec: ModelSpec) -> None:
    settings = [f"{k}={v!r}" for k, v in table.arguments.items()]
    theirs = "" if spec.inputs.name == table.preprocessing else f", theirs {table.preprocessing!r}"
    settings.append(f"preprocessing={spec.inputs.name!r}{theirs}")
    inside = f", inside {', '.join(map(repr, stored.unwrapped))}" if stored.unwrapped else ""
    line = f"{stored.named}: names of {source}{inside}; {', '.join(settings)}"
    print(plain(line), file=sys.stderr)
