"""The backbones predicting in cnnjax, Keras and PyTorch: the same layers, random weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.twins import peak_mib

SIZE = 224


def measure_here(worker: str, model: str, batch: int, batches: int) -> None:
    """Predict in this process and print as JSON: images/s, end of the first answer, memory."""
    images = np.random.default_rng(0).uniform(-1, 1, (batch, SIZE, SIZE, 3)).astype(np.float32)
    predict = WORKERS[worker](model, images)
    predict()
    ended = time.time()
    rates = []
    for _ in range(batches):
        began = time.perf_counter()
        predict()
        rates.append(batch / (time.perf_counter() - began))
    print(json.dumps({"rates": rates, "ended": ended, "peak_mib": peak_mib()}))


def cnnjax_predict(model: str, images: np.ndarray) -> Callable[[], Any]:
    """Logits by a model's own call."""
    import cnnjax as cj

    cj.configure_runtime()
    net = cj.create_model(model)
    return lambda: np.asarray(net(images))


def keras_predict(model: str, images: np.ndarray) -> Callable[[], Any]:
    """Logits by `model.predict_on_batch`, which compiles."""
    import keras

    name = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenet": "MobileNet"}[model]
    net = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    return lambda: np.asarray(net.predict_on_batch(images))


def torch_predict(model: str, images: np.ndarray) -> Callable[[], Any]:
    """Logits by a plain call in inference mode."""
    import torch

    from cnnjax.models import Model
    from cnnjax.models.builder import build
    from experiments.benchmarks.torch_graph import TorchGraph

    net = TorchGraph(Model.abstract(*build(model))).eval()
    inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def predict() -> Any:
        with torch.inference_mode():
            return net(inputs).numpy()

    return predict


WORKERS = {"cnnjax": cnnjax_predict, "keras": keras_predict, "torch": torch_predict}
