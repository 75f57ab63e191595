"""Nets of Keras with random weights, and ours from the files that they save."""

import functools
import tempfile
from pathlib import Path

import cnnjax as cj
from cnnjax.models import Model, summary
from cnnjax.models.builder import build
from experiments import parity


@functools.cache
def abstract(name, **arguments):
    return Model.abstract(*build(name, **arguments))


def parameters(name, **arguments):
    return summary(abstract(name, **arguments)).parameters


def twin(build_net, name, file_format="weights.h5", seed=1, **arguments):
    """A pair from Keras' net, which is randomised, and ours of a name from its file."""
    net = build_net()
    parity.randomise(net, seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.{file_format}"
        parity.save_weights(net, path)
        shape = tuple(net.inputs[0].shape[1:])
        ours = cj.create_model(name, input_shape=shape, weights=path, **arguments)
    return parity.Pair(net, ours, arguments, build_net)


def beyond(lines, tolerance=1e-4):
    """What differs by more, as text; "" where nothing does."""
    wrong = [line for line in lines if not line.relative <= tolerance]
    return "; ".join(f"{line.layer}: {line.relative:.1e}" for line in wrong)
