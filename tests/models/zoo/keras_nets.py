"""Nets of Keras with random weights, and ours from the files that they save."""

import functools
import tempfile
from pathlib import Path

import jax
import keras

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


def named_lines(pair, inputs=None, batch=2, seed=0):
    """The layers of one name compared, and the names that only Keras' net or only ours has.

    Args:
        pair: of a net with layers that only one side has.
        inputs: of Keras' net, where it scales them itself; None takes those of ours.
        batch: number of images.
        seed: of the images.
    """
    x = parity.images(pair.ours, batch, seed)
    layers = pair.keras.layers
    every = keras.Model(pair.keras.inputs, [layer.output for layer in layers])
    variables = [
        [v.value for v in vs] for vs in (every.trainable_variables, every.non_trainable_variables)
    ]
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        outputs = every.stateless_call(
            *variables, x if inputs is None else inputs(x), training=False
        )[0]
        ours = cj.explain.activations(pair.ours, x)
    theirs = dict(zip([layer.name for layer in layers], outputs, strict=True))
    lines = [parity.difference(n, ours[n], theirs[n]) for n in ours if n in theirs]
    return lines, sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
