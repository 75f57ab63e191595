"""Training throughput: cnnjax against Keras 3 (JAX backend) and PyTorch, where they are installed.

Each measurement is a process of its own that trains the same architecture with the same optimiser
and batch size through the library's own loop (`cj.fit`, `model.fit`, a plain PyTorch loop); the
peers alternate, and ratios are taken within a round, since the speed of a shared machine drifts.
The first epoch, which compiles, is not counted.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.train_speed [--rounds 5]
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

BATCH, STEPS, EPOCHS = 64, 120, 4

# glibc's allocator told to keep its memory, as `cj.configure_runtime` tells it from within.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_ARENA_MAX": "1",
}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    rounds: int = 5
    """Alternations of all peers."""


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    peers: dict[str, tuple[str, dict[str, str]]] = {"cnnjax": ("cnnjax", {})}
    if importlib.util.find_spec("keras"):
        peers["keras"] = ("keras", {"KERAS_BACKEND": "jax"})
    if importlib.util.find_spec("torch"):
        peers |= {"torch": ("torch", {}), "torch, tuned allocator": ("torch", TUNED)}
    rates: dict[str, list[float]] = {peer: [] for peer in peers}
    for number in range(config.rounds):
        for peer, (worker, environment) in peers.items():
            rates[peer].append(_measure(worker, environment))
        shown = "  ".join(f"{peer} {values[-1]:,.0f}" for peer, values in rates.items())
        print(f"round {number + 1}: images/s  {shown}", flush=True)
    print(f"\nMNIST convnet, batch {BATCH}, RMSprop, {os.cpu_count()} cores, medians:")
    for peer, values in rates.items():
        ratios = [a / b for a, b in zip(rates["cnnjax"], values, strict=True)]
        print(
            f"{peer:24} {statistics.median(values):8,.0f} images/s   cnnjax / {peer}: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def measure_here(worker: str) -> None:
    """Measure one peer in this process and print its images/s as JSON."""
    measured = {"cnnjax": _cnnjax, "keras": _keras, "torch": _torch}[worker]()
    print(json.dumps(statistics.median(measured)))


def _measure(worker: str, environment: dict[str, str]) -> float:
    code = f"from experiments.benchmarks import train_speed; train_speed.measure_here({worker!r})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    return float(json.loads(result.stdout.strip().splitlines()[-1]))


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH * STEPS, 28, 28, 1), dtype=np.uint8)
    return images, rng.integers(0, 10, BATCH * STEPS).astype(np.int32)


def _cnnjax() -> list[float]:
    import cnnjax as cj

    cj.configure_runtime()
    config = cj.TrainingConfig(epochs=EPOCHS, batch_size=BATCH)
    run = cj.fit(cj.create_model("mnist_convnet"), _data(), config, verbose=False)
    return [float(rate) for rate in run.history["images_per_second"][1:]]


def _keras() -> list[float]:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("rmsprop", loss, metrics=["accuracy"])
    images, labels = _data()
    inputs = images.astype(np.float32) / 255
    rates = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        model.fit(inputs, labels, batch_size=BATCH, epochs=1, verbose=0)
        rates.append(len(labels) / (time.perf_counter() - began))
    return rates[1:]


def _torch() -> list[float]:
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3, alpha=0.9, eps=1e-7)
    loss_function = nn.CrossEntropyLoss()
    images, labels = _data()
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    targets = torch.from_numpy(labels.astype(np.int64))
    rates, correct = [], torch.zeros(())
    for _ in range(EPOCHS):
        order, began = torch.randperm(len(targets)), time.perf_counter()
        for step in range(STEPS):
            rows = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad()
            logits: Any = model(inputs[rows])
            loss = loss_function(logits, targets[rows])
            loss.backward()
            optimizer.step()
            correct += (logits.argmax(1) == targets[rows]).sum()
        float(correct)
        rates.append(len(targets) / (time.perf_counter() - began))
    return rates[1:]


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.train_speed", description=__doc__))
