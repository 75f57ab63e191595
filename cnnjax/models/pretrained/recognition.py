"""Which family's table names the layers of a PyTorch file, and the model that its weights need."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flax import linen

from cnnjax.core.hub import PREFIX
from cnnjax.core.text import plain
from cnnjax.models.builder import build
from cnnjax.models.model import Model
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
    defaults = module_arguments(build(name, **asked)[0])
    nearest = nearest_table(stored, tables, defaults)
    if not nearest:
        raise WeightsDoNotFit(_unknown(stored, name, tables))
    # Of libraries with the same names the one that the hub's owner is, whose weights want another
    # crop, and of its tables that under which the model computes as asked.
    mine = [one for one in nearest if stored.label.startswith(f"{PREFIX}{one.source}/")] or nearest
    table = next((one for one in mine if not _contradicting(one, asked)), mine[0])
    _check_arguments(stored, table, asked)
    given = {k: v for k, v in asked.items() if v is not None}
    preprocessing = given.get("preprocessing", table.preprocessing)
    settings = {**asked, **table.arguments, "preprocessing": preprocessing}
    module, spec = build(name, **settings)
    source = " and ".join(dict.fromkeys(one.source for one in mine or nearest))
    spec = replace(spec, weights=f"{stored.named} ({source})", crop=table.crop)
    target = Target.of(Model.abstract(module, spec))
    _say(stored, source, table, spec)
    return module, spec, as_ours(stored, table, target, module_arguments(module))


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
