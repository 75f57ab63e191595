"""The newer backbones in cnnjax, Keras and torchvision: predicting, and training, in one process.

Random weights of the same architecture. A library's own call predicts, its own loop trains: random
images of ten classes by SGD with momentum.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.twins import Data, peak_mib


class Names(NamedTuple):
    """What a net is called; Keras does not have all."""

    keras: str | None
    torch: str


NETS = {
    "resnet18": Names(None, "resnet18"),
    "resnet50": Names("ResNet50", "resnet50"),
    "mobilenet_v2": Names("MobileNetV2", "mobilenet_v2"),
    "efficientnet_b0": Names("EfficientNetB0", "efficientnet_b0"),
    "convnext_tiny": Names("ConvNeXtTiny", "convnext_tiny"),
}

# Images at once in predicting.
BATCHES = (1, 32)

RATE, MOMENTUM, CLASSES = 0.01, 0.9, 10


def predict_here(worker: str, net: str, size: int, batches: int) -> None:
    """Predict in this process and print as JSON: images/s one at a time and 32, end, memory."""
    images = np.random.default_rng(0).uniform(-1, 1, (32, size, size, 3)).astype(np.float32)
    predict = PREDICTING[worker](net, size)
    rates = []
    for batch, calls in zip(BATCHES, (8 * batches, batches), strict=True):
        predict(images[:batch])  # compiles
        times = []
        for _ in range(calls):
            began = time.perf_counter()
            predict(images[:batch])
            times.append(time.perf_counter() - began)
        rates.append(batch / statistics.median(times))
    _print(rates)


def train_here(worker: str, net: str, size: int, batch: int, steps: int) -> None:
    """Train in this process and print as JSON: images/s of two epochs, end, memory."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch * steps, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, batch * steps).astype(np.int32)
    _print(TRAINING[worker](net, (images, labels), batch))


def _print(rates: list[float]) -> None:
    print(json.dumps({"rates": rates, "ended": time.time(), "peak_mib": peak_mib()}))


Predict = Callable[[np.ndarray], Any]


def cnnjax_predict(net: str, size: int) -> Predict:
    """Logits by a model's own call."""
    import cnnjax as cj

    cj.configure_runtime()
    model = cj.create_model(net, input_shape=(size, size, 3), num_classes=1000)
    return lambda images: np.asarray(model(images))


def keras_net(net: str, size: int, classes: int) -> Any:
    """The net in Keras."""
    import keras

    name = NETS[net].keras
    if name is None:
        raise ValueError(f"Keras has no {net}")
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None
    )


def keras_predict(net: str, size: int) -> Predict:
    """Logits by `model.predict_on_batch`, which compiles."""
    twin = keras_net(net, size, 1000)
    return lambda images: np.asarray(twin.predict_on_batch(images))


def torch_net(net: str, classes: int) -> Any:
    """The net in torchvision."""
    import torchvision

    return getattr(torchvision.models, NETS[net].torch)(num_classes=classes)


def torch_predict(net: str, _: int) -> Predict:
    """Logits by a plain call in inference mode."""
    import torch

    twin = torch_net(net, 1000).eval()

    def predict(images: np.ndarray) -> Any:
        inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            return twin(inputs).numpy()

    return predict


def cnnjax_train(net: str, data: Data, batch: int) -> list[float]:
    """Train by `cj.fit`; images/s of each epoch."""
    import cnnjax as cj

    cj.configure_runtime()
    config = cj.TrainingConfig(
        epochs=2, batch_size=batch, optimizer="sgd", learning_rate=RATE, momentum=MOMENTUM
    )
    model = cj.create_model(net, input_shape=data[0].shape[1:], num_classes=CLASSES)
    run = cj.fit(model, cj.data.Dataset(*data), config, verbose=False)
    return [float(rate) for rate in run.history["images_per_second"]]


def keras_train(net: str, data: Data, batch: int) -> list[float]:
    """Train by `model.fit`; images/s of each epoch."""
    import keras

    twin = keras_net(net, data[0].shape[1], CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.SGD(RATE, MOMENTUM), loss, metrics=["accuracy"])
    times: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(time.perf_counter()),
        on_epoch_end=lambda *_: times.append(time.perf_counter()),
    )
    inputs = data[0].astype(np.float32) / 255
    twin.fit(inputs, data[1], batch_size=batch, epochs=2, verbose=0, callbacks=[clock])
    return [len(inputs) / (end - began) for began, end in zip(times[::2], times[1::2], strict=True)]


def torch_train(net: str, data: Data, batch: int) -> list[float]:
    """Train by a plain loop; images/s of each epoch."""
    import torch

    twin = torch_net(net, CLASSES).train()
    optimizer = torch.optim.SGD(twin.parameters(), RATE, MOMENTUM)
    loss_function = torch.nn.CrossEntropyLoss()
    inputs = torch.from_numpy(data[0].transpose(0, 3, 1, 2).astype(np.float32, order="C") / 255)
    targets = torch.from_numpy(data[1].astype(np.int64))
    rates = []
    for _ in range(2):
        began = time.perf_counter()
        for rows in torch.randperm(len(targets)).split(batch):
            optimizer.zero_grad()
            loss = loss_function(twin(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
        rates.append(len(targets) / (time.perf_counter() - began))
    return rates


PREDICTING = {"cnnjax": cnnjax_predict, "keras": keras_predict, "torch": torch_predict}
TRAINING = {"cnnjax": cnnjax_train, "keras": keras_train, "torch": torch_train}
