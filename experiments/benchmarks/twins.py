"""The same nets in cnnjax, Keras and PyTorch, each trained by its library's own loop.

Data are random. Keras and PyTorch get what their tutorials give them: all images as float32 in
[0, 1], converted before training; cnnjax gets uint8 and converts on the device. Dropout is active
everywhere, loss and accuracy are cross-entropy and its hits on the training batches. On a GPU
PyTorch gets all images onto the device before it starts, as cnnjax does.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """How a net is trained, by all alike.

    Args:
        shape: (H, W, C) of its images.
        batch: examples a step.
        optimizer: "rmsprop" or "adam", with Keras' constants.
        examples: of the real training set.
    """

    shape: tuple[int, int, int]
    batch: int
    optimizer: str
    examples: int


SETTINGS = {
    "mnist_convnet": Setting((28, 28, 1), 64, "rmsprop", 60_000),
    "lenet": Setting((28, 28, 1), 128, "adam", 48_000),
    "cifar_deep": Setting((32, 32, 3), 128, "rmsprop", 40_000),
    "cats_convnet": Setting((150, 150, 3), 20, "rmsprop", 2_000),
    "mobilenet": Setting((128, 128, 3), 8, "rmsprop", 2_000),
}
# For accelerators alone.
LARGE = {"resnet50": Setting((224, 224, 3), 128, "rmsprop", 1_281_167)}


def setting_of(model: str) -> Setting:
    """How a net is trained, also a large one."""
    return {**SETTINGS, **LARGE}[model]


def measure_here(
    worker: str, model: str, examples: int, epochs: int, precision: str = "float32"
) -> None:
    """Train in this process and print as JSON: images/s of each epoch, time of the end, memory."""
    setting = setting_of(model)
    data = random_data(setting, examples)
    rates = WORKERS[worker](model, setting, data, epochs, precision)
    ended = time.time()
    print(json.dumps({"rates": rates, "ended": ended, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Largest resident memory of this process; Linux counts at least that of its parent."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def random_data(setting: Setting, examples: int) -> Data:
    """Random images uint8 [N, H, W, C] and labels int32 [N] of ten classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *setting.shape), dtype=np.uint8)
    return images, rng.integers(0, 10, examples).astype(np.int32)


def train_cnnjax(
    model: str, setting: Setting, data: Data, epochs: int, precision: str = "float32"
) -> list[float]:
    """Train by `cj.fit`; images/s of each epoch."""
    import cnnjax as cj

    cj.configure_runtime()
    config = cj.TrainingConfig(
        epochs=epochs,
        batch_size=setting.batch,
        optimizer=setting.optimizer,
        precision=precision,
    )
    net = cj.create_model(model, input_shape=setting.shape, num_classes=10)
    run = cj.fit(net, data, config, verbose=False)
    return [float(rate) for rate in run.history["images_per_second"]]


def train_keras(
    model: str, setting: Setting, data: Data, epochs: int, precision: str = "float32"
) -> list[float]:
    """Train by `model.fit`; images/s of each epoch.

    Products of float32 and TF32 are told apart by JAX_DEFAULT_MATMUL_PRECISION.
    """
    import keras

    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    twin = keras_twin(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(setting.optimizer, loss, metrics=["accuracy"])
    images, labels = data
    times: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(time.perf_counter()),
        on_epoch_end=lambda *_: times.append(time.perf_counter()),
    )
    inputs = images.astype(np.float32) / 255
    twin.fit(inputs, labels, batch_size=setting.batch, epochs=epochs, verbose=0, callbacks=[clock])
    return [len(labels) / (end - began) for began, end in zip(times[::2], times[1::2], strict=True)]


def train_torch(
    model: str, setting: Setting, data: Data, epochs: int, precision: str = "float32"
) -> list[float]:
    """Train by a plain loop; images/s of each epoch.

    On a GPU as PyTorch's guides advise: channels last, compiled; in bfloat16 by autocast.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # True where nobody says
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    layout = torch.channels_last if on_gpu else torch.contiguous_format
    twin = torch_twin(model).to(device, memory_format=layout)
    parameters = twin.parameters()
    run = torch.compile(twin) if on_gpu else twin
    if setting.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(parameters, 1e-3, eps=1e-7)
    else:
        optimizer = torch.optim.RMSprop(parameters, 1e-3, alpha=0.9, eps=1e-7)
    loss_function = torch.nn.CrossEntropyLoss()
    images, labels = data
    # order="C": PyTorch's default layout; astype would otherwise keep that of the NHWC array.
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32, order="C") / 255)
    inputs = inputs.to(device, memory_format=layout)
    targets = torch.from_numpy(labels.astype(np.int64)).to(device)
    rates, correct = [], torch.zeros((), device=device)
    for _ in range(epochs):
        began = time.perf_counter()
        for rows in torch.randperm(len(targets)).split(setting.batch):
            optimizer.zero_grad()
            with half:
                logits: Any = run(inputs[rows])
                loss = loss_function(logits, targets[rows])
            loss.backward()
            optimizer.step()
            correct += (logits.argmax(1) == targets[rows]).sum()
        float(correct)
        rates.append(len(targets) / (time.perf_counter() - began))
    return rates


WORKERS = {"cnnjax": train_cnnjax, "keras": train_keras, "torch": train_torch}


def keras_twin(model: str) -> Any:
    """The net of that name in Keras, not yet compiled."""
    import keras
    from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D

    def conv(filters: int, size: int, padding: str = "valid") -> Any:
        return Conv2D(filters, size, padding=padding, activation="relu")

    if model in ("mobilenet", "resnet50"):
        name = {"mobilenet": "MobileNet", "resnet50": "ResNet50"}[model]
        return getattr(keras.applications, name)(
            weights=None,
            classes=10,
            classifier_activation=None,
            input_shape=setting_of(model).shape,
        )
    match model:
        case "mnist_convnet":
            layers = [
                conv(32, 3), MaxPooling2D(),
                conv(64, 3), MaxPooling2D(),
                conv(64, 3), Flatten(),
                Dense(64, activation="relu"),
            ]  # fmt: skip
        case "lenet":
            layers = [
                conv(20, 5, "same"), MaxPooling2D(),
                conv(50, 5, "same"), MaxPooling2D(), Flatten(),
                Dense(500, activation="relu"),
            ]  # fmt: skip
        case "cifar_deep":
            layers = [
                conv(32, 3, "same"), conv(32, 3, "same"), MaxPooling2D(), Dropout(0.25),
                conv(64, 3, "same"), conv(64, 3), MaxPooling2D(), Dropout(0.25), Flatten(),
                Dense(512, activation="relu"), Dropout(0.5),
            ]  # fmt: skip
        case "cats_convnet":
            blocks = [[conv(f, 3), MaxPooling2D()] for f in (32, 64, 128, 128)]
            layers = [*itertools.chain(*blocks), Flatten(), Dense(512, activation="relu")]
        case _:
            raise ValueError(f"model must be one of {', '.join(SETTINGS)}, got {model!r}")
    return keras.Sequential([keras.Input(setting_of(model).shape), *layers, Dense(10)])


def torch_twin(model: str) -> Any:
    """The net of that name in PyTorch, inputs [N, C, H, W]."""
    from torch.nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential

    match model:
        case "mobilenet" | "resnet50":
            from cnnjax.models import Model
            from cnnjax.models.builder import build
            from experiments.benchmarks.torch_graph import TorchGraph

            shape = setting_of(model).shape
            return TorchGraph(Model.abstract(*build(model, input_shape=shape, num_classes=10)))
        case "mnist_convnet":
            return Sequential(
                Conv2d(1, 32, 3), ReLU(), MaxPool2d(2),
                Conv2d(32, 64, 3), ReLU(), MaxPool2d(2),
                Conv2d(64, 64, 3), ReLU(), Flatten(),
                Linear(576, 64), ReLU(), Linear(64, 10),
            )  # fmt: skip
        case "lenet":
            return Sequential(
                Conv2d(1, 20, 5, padding=2), ReLU(), MaxPool2d(2),
                Conv2d(20, 50, 5, padding=2), ReLU(), MaxPool2d(2), Flatten(),
                Linear(2450, 500), ReLU(), Linear(500, 10),
            )  # fmt: skip
        case "cifar_deep":
            return Sequential(
                Conv2d(3, 32, 3, padding=1), ReLU(),
                Conv2d(32, 32, 3, padding=1), ReLU(), MaxPool2d(2), Dropout(0.25),
                Conv2d(32, 64, 3, padding=1), ReLU(),
                Conv2d(64, 64, 3), ReLU(), MaxPool2d(2), Dropout(0.25), Flatten(),
                Linear(3136, 512), ReLU(), Dropout(0.5), Linear(512, 10),
            )  # fmt: skip
        case "cats_convnet":
            return Sequential(
                Conv2d(3, 32, 3), ReLU(), MaxPool2d(2),
                Conv2d(32, 64, 3), ReLU(), MaxPool2d(2),
                Conv2d(64, 128, 3), ReLU(), MaxPool2d(2),
                Conv2d(128, 128, 3), ReLU(), MaxPool2d(2), Flatten(),
                Linear(6272, 512), ReLU(), Linear(512, 10),
            )  # fmt: skip
    raise ValueError(f"model must be one of {', '.join(SETTINGS)}, got {model!r}")
