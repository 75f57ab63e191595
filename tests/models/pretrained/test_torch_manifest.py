"""Every array of torchvision's and timm's state dicts has its place, by the families' tables."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from families import representatives

from cnnjax.models import BUILDERS, Model
from cnnjax.models.builder import build
from cnnjax.models.pretrained.matching import Target, match
from cnnjax.models.pretrained.torch_layers import as_ours, module_arguments, nearest_table
from cnnjax.weights import StoredLayer, StoredWeights
from cnnjax.weights.torch_state import is_counter

MANIFEST = json.loads(
    gzip.decompress(Path(__file__).with_name("torch_manifest.json.gz").read_bytes())
)
FIRST = ("alexnet", "resnet18")
ONE_EACH = representatives()

CASES = [
    pytest.param(
        name,
        table,
        marks=()
        if name in FIRST and table.source == "torchvision"
        else pytest.mark.thorough
        if name in ONE_EACH
        else pytest.mark.slow,
        id=f"{name}-{table.source}",
    )
    for name, builder in BUILDERS.items()
    for table in builder.foreign
]


def stored(source, model):
    """The arrays of a state dict, of zeros that take no memory."""
    layers = {}
    for key, (_, shape) in MANIFEST[source][model].items():
        if not is_counter(key):
            layer, _, weight = key.rpartition(".")
            layers.setdefault(layer, {})[weight] = np.broadcast_to(np.float32(0), shape)
    found = tuple(StoredLayer(name, "", arrays) for name, arrays in layers.items())
    return StoredWeights(Path("w.pth"), found, positional=False, torch=True)


@pytest.mark.parametrize(("name", "table"), CASES)
def test_a_table_covers_the_file_and_the_model(name, table):
    file = stored(table.source, table.model or name)
    module, spec = build(name, **table.arguments)
    arguments = module_arguments(module)
    assert table in nearest_table(file, BUILDERS[name].foreign, arguments)
    target = Target.of(Model.abstract(module, spec))
    found = match(as_ours(file, table, target, arguments), target)
    assert (found.differences, found.new_head) == ((), ())


def test_the_manifest_has_every_model_of_a_table():
    named = {
        (table.source, table.model or name)
        for name, builder in BUILDERS.items()
        for table in builder.foreign
    }
    assert named == {(source, model) for source, models in MANIFEST.items() for model in models}
