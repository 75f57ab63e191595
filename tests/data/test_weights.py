"""Weights of examples: checked, carried along, and in batches only where there are some."""

import re

import jax
import numpy as np
import pytest

import cnnjax as cj
from cnnjax.data import Loader, from_arrays
from cnnjax.training.devices import Devices
from cnnjax.training.dispatch import Dispatcher

IMAGES = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)


def weighed(weights):
    return from_arrays(IMAGES, [0, 1, 0, 1, 0, 1], weights=weights)


def test_they_are_float32_and_go_along_with_their_examples():
    data = weighed([1, 2, 3, 4, 5, 6])
    assert data.weights.dtype == np.float32
    assert data.subset([4, 0]).weights.tolist() == [5, 1]
    rest, aside = data.split(0.5, 1)
    for part in (rest, aside):
        assert part.weights.tolist() == (part.inputs.ravel() + 1).tolist()


def test_they_count_in_the_fingerprint_where_there_are_some():
    plain = weighed(None)
    assert plain.fingerprint == cj.data.Dataset(plain.inputs, plain.labels).fingerprint
    ones, twos = (weighed(np.full(6, value)).fingerprint for value in (1, 2))
    assert len({plain.fingerprint, ones, twos}) == 3


def test_a_batch_has_them_where_the_data_have():
    for batch in Loader(weighed(np.arange(6)), 4, shuffle=True).epoch(0):
        assert batch["weights"].tolist() == batch["inputs"].ravel().tolist()
    assert "weights" not in next(Loader(weighed(None), 4).epoch(0))


@pytest.mark.parametrize("chunk", [1, 2])
def test_both_forms_of_an_epoch_hand_them_to_the_step(chunk):
    def step(state, batch):
        one = (batch["weights"] * batch["mask"]).sum()
        return state + one, {"loss": one}

    loader = Loader(weighed(np.arange(6)), 2)
    config = cj.TrainingConfig(batch_size=2, steps_per_dispatch=chunk)
    dispatcher = Dispatcher(step, loader, config, Devices(1))
    sums = [np.atleast_1d(done.sums["loss"]) for done in dispatcher.run(jax.numpy.zeros(()), 0, 0)]
    assert np.concatenate(sums).tolist() == [1, 5, 9]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "arrays: weights must be 6 numbers, one for each example, got int64 [2]"),
        (np.ones((6, 1)), "weights must be 6 numbers, one for each example, got float64 [6, 1]"),
        (list("abcdef"), "weights must be 6 numbers, one for each example, got <U1 [6]"),
        ([1, 1, -1, 1, 1, 1], "weights must be finite and >= 0, weights[2] is -1"),
        ([1, np.nan, 1, 1, 1, 1], "weights must be finite and >= 0, weights[1] is nan"),
        ([0] * 6, "weights are all zero, so that nothing would be trained"),
    ],
)
def test_what_is_no_weight_is_refused(weights, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        weighed(weights)
