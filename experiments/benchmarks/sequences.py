"""The nets of texts in cnnjax, Keras and PyTorch, each trained by its library's own loop.

Random numbers of words, 500 a text, 10,000 different ones; random labels of two classes; RMSprop
with Keras' constants; batch 128. Loss and accuracy of the training batches are computed everywhere.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from experiments.benchmarks.twins import Data, peak_mib

NETS = ("conv1d", "gru", "lstm")
LENGTH, WORDS, VECTOR, UNITS, BATCH, RATE = 500, 10_000, 128, 64, 128, 1e-4


def measure_here(worker: str, net: str, steps: int, epochs: int) -> None:
    """Train in this process and print as JSON: texts/s of each epoch, time of the end, memory."""
    rates = WORKERS[worker](net, random_data(steps * BATCH), epochs)
    ended = time.time()
    print(json.dumps({"rates": rates, "ended": ended, "peak_mib": peak_mib()}))


def random_data(examples: int) -> Data:
    """Random texts int32 [N, 500] and labels int32 [N] of two classes."""
    rng = np.random.default_rng(0)
    texts = rng.integers(0, WORDS, (examples, LENGTH), dtype=np.int32)
    return texts, rng.integers(0, 2, examples).astype(np.int32)


def train_cnnjax(net: str, data: Data, epochs: int) -> list[float]:
    """Train by `cj.fit`; texts/s of each epoch."""
    import cnnjax as cj

    cj.configure_runtime()
    config = cj.TrainingConfig(
        epochs=epochs, batch_size=BATCH, optimizer="rmsprop", learning_rate=RATE
    )
    run = cj.fit(cnnjax_net(net), cj.data.Dataset(*data), config, verbose=False)
    return [float(rate) for rate in run.history["images_per_second"]]


def train_keras(net: str, data: Data, epochs: int) -> list[float]:
    """Train by `model.fit`; texts/s of each epoch."""
    import keras

    twin = keras_twin(net)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0)
    twin.compile(keras.optimizers.RMSprop(RATE), loss, metrics=[accuracy])
    texts, labels = data
    times: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(time.perf_counter()),
        on_epoch_end=lambda *_: times.append(time.perf_counter()),
    )
    twin.fit(texts, labels, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[clock])
    return [len(labels) / (end - began) for began, end in zip(times[::2], times[1::2], strict=True)]


def train_torch(net: str, data: Data, epochs: int) -> list[float]:
    """Train by a plain loop; texts/s of each epoch."""
    import torch

    twin = torch_twin(net)
    optimizer = torch.optim.RMSprop(twin.parameters(), RATE, alpha=0.9, eps=1e-7)
    loss_function = torch.nn.BCEWithLogitsLoss()
    texts, labels = data
    inputs, targets = torch.from_numpy(texts), torch.from_numpy(labels.astype(np.float32))
    rates, correct = [], torch.zeros(())
    for _ in range(epochs):
        began = time.perf_counter()
        for rows in torch.randperm(len(targets)).split(BATCH):
            optimizer.zero_grad()
            logits: Any = twin(inputs[rows])[:, 0]
            loss = loss_function(logits, targets[rows])
            loss.backward()
            optimizer.step()
            correct += ((logits > 0) == (targets[rows] > 0.5)).sum()
        float(correct)
        rates.append(len(targets) / (time.perf_counter() - began))
    return rates


WORKERS = {"cnnjax": train_cnnjax, "keras": train_keras, "torch": train_torch}


def cnnjax_net(net: str) -> Any:
    """The net of that name in cnnjax."""
    _check(net)
    import cnnjax as cj

    if net == "conv1d":
        return cj.create_model("imdb_conv1d")
    return cj.create_model("imdb_gru", cell=net)


def keras_twin(net: str) -> Any:
    """The net of that name in Keras, not yet compiled."""
    _check(net)
    import keras
    from keras import layers

    convolutions = [
        layers.Conv1D(32, 7, activation="relu"), layers.MaxPooling1D(5),
        layers.Conv1D(32, 7, activation="relu"), layers.GlobalMaxPooling1D(),
    ]  # fmt: skip
    cells = {"gru": layers.GRU, "lstm": layers.LSTM}
    middle = convolutions if net == "conv1d" else [cells[net](UNITS)]
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(WORDS, VECTOR),
            *middle,
            layers.Dense(1),
        ]
    )


def torch_twin(net: str) -> Any:
    """The net of that name in PyTorch."""
    _check(net)
    from torch import nn

    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv1d(VECTOR, 32, 7), nn.Conv1d(32, 32, 7)
            self.pool = nn.MaxPool1d(5)

        def forward(self, vectors: Any) -> Any:
            maps = self.pool(self.first(vectors.transpose(1, 2)).relu())
            return self.second(maps).relu().amax(2)

    class LastState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cell = nn.GRU if net == "gru" else nn.LSTM
            self.cell = cell(VECTOR, UNITS, batch_first=True)

        def forward(self, vectors: Any) -> Any:
            return self.cell(vectors)[0][:, -1]

    middle = Convolutions() if net == "conv1d" else LastState()
    width = 32 if net == "conv1d" else UNITS
    return nn.Sequential(nn.Embedding(WORDS, VECTOR), middle, nn.Linear(width, 1))


def _check(net: str) -> None:
    if net not in NETS:
        raise ValueError(f"net must be one of {', '.join(NETS)}, got {net!r}")
