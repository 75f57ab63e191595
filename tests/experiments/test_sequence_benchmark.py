"""The benchmark of texts: the twins are the same nets, and the table comes out."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from commands import python

import cnnjax as cj
from experiments.benchmarks import peers, sequence_speed, sequences

pytestmark = pytest.mark.thorough


@pytest.mark.slow
@pytest.mark.parametrize("net", sequences.NETS)
def test_twins_have_our_parameters(net):
    ours = cj.summary(sequences.cnnjax_net(net)).parameters
    keras = pytest.importorskip("keras")
    with jax.numpy_rank_promotion("allow"):
        assert sequences.keras_twin(net).count_params() == ours
    assert keras.backend.backend() == "jax"
    torch = pytest.importorskip("torch")
    twin = sequences.torch_twin(net)
    # PyTorch's LSTM has two biases where one would do.
    more = 4 * sequences.UNITS if net == "lstm" else 0
    assert sum(p.numel() for p in twin.parameters()) == ours + more
    texts, labels = sequences.random_data(2)
    assert (texts.shape, labels.shape) == ((2, 500), (2,))
    assert twin(torch.from_numpy(texts)).shape == (2, 1)


@pytest.mark.parametrize("make", [sequences.cnnjax_net, sequences.keras_twin, sequences.torch_twin])
def test_an_unknown_net_is_refused(make):
    with pytest.raises(ValueError, match="net must be one of conv1d, gru, lstm, got 'rnn'"):
        make("rnn")


def test_the_table_has_medians_and_ratios(monkeypatch, capsys):
    speeds = {("cnnjax", "conv1d"): 800.0, ("cnnjax", "gru"): 200.0, ("keras", "conv1d"): 400.0}

    def measured(peer, net, steps, epochs):
        assert (steps, epochs) == (12, 3)
        rate = speeds.get((peer.worker, net), 100.0)
        return peers.Measured((1.0, rate, rate), 1.0, 1.0)

    monkeypatch.setattr(peers, "sequences", measured)
    monkeypatch.setattr(peers, "others", lambda: {"keras": peers.Peer("keras", {})})
    sequence_speed.main(sequence_speed.Config(rounds=2))
    lines = {line[:30].strip(): line[30:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["gru, cnnjax"][:3] == ["200", "640", "100.0"]
    assert lines["conv1d, keras"][3] == "2.00"
    assert lines["gru, cnnjax"][7] == "4.00"
    with pytest.raises(ValueError, match="epochs must be at least 2"):
        sequence_speed.main(sequence_speed.Config(epochs=1))


def test_help():
    out = python("-m", "experiments.benchmarks.sequence_speed", "--help").stdout
    assert "usage: python -m experiments.benchmarks.sequence_speed" in out
    assert "--rounds" in out


@pytest.mark.slow
def test_rates_of_a_tiny_training_are_positive(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(sequences, "BATCH", 4)
    data = sequences.random_data(4)
    rates = sequences.train_torch("conv1d", data, 2)
    assert np.min(rates) > 0
