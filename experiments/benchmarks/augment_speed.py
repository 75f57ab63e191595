"""Augmentation: images/s of cnnjax, Keras' `ImageDataGenerator` and Keras' preprocessing layers.

Photos of 150x150 pixels (noise, which is as fast) are turned up to 40 degrees, shifted, sheared and
zoomed by up to .2, and mirrored, with the nearest pixels beyond the borders. cnnjax starts from
bytes, as its training step does, or from float32, as both of Keras do. The layers (rotation, shift,
zoom, flip; all but the last resample, and the shear is left out) run one after the other on the JAX
backend, which is three times as fast as in one program. Each measurement is a process of its own;
the peers alternate, and ratios are taken within a round, since the speed of a shared machine
drifts. The first batch, which compiles, is not counted.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.augment_speed [--rounds 5]
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import tyro

from experiments.benchmarks import peers


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    rounds: int = 5
    """Alternations of all peers."""
    batch: int = 32
    """Images at once."""
    batches: int = 20
    """After the first one, in a measurement."""
    size: int = 150
    """Height and width of the images."""


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""

    def rate(name: str, _: int) -> float:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(measure, name, config).result()

    rates = peers.alternate(list(WORKERS), config.rounds, rate, _show)
    size, cores = config.size, os.cpu_count()
    print(f"\n{size}x{size}x3, batch {config.batch}, {cores} cores, medians:")
    for name, values in rates.items():
        ratio = peers.spread(peers.ratios(rates["cnnjax"], values))
        print(f"{name:20} {statistics.median(values):8,.0f} images/s   cnnjax / it: {ratio}")


def measure(name: str, config: Config) -> float:
    """Images/s of a peer in this process: the median over batches, so that a pause does not count.

    Args:
        name: one of `WORKERS`.
        config: the options.
    """
    os.environ["KERAS_BACKEND"] = "jax"
    shape = (config.batch, config.size, config.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    augment = WORKERS[name](images)
    augment()
    seconds = []
    for _ in range(config.batches):
        began = time.perf_counter()
        augment()
        seconds.append(time.perf_counter() - began)
    return config.batch / statistics.median(seconds)


def cnnjax_bytes(images: np.ndarray) -> Callable[[], object]:
    """Augments a batch at each call, as `make_train_step` does; bytes in, float32 out."""
    import jax

    import cnnjax as cj
    from cnnjax.core import rng

    cj.configure_runtime()
    config = cj.augment.Augment(
        rotation=40, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2, horizontal_flip=True
    )
    key, index = rng.stream(0, "augment"), np.arange(len(images), dtype=np.int32)
    augment = jax.jit(lambda *arrays: cj.augment.for_batch(config, key, *arrays))
    epochs = iter(range(1_000_000))
    return lambda: augment(np.int32(next(epochs)), index, images).block_until_ready()


def cnnjax_floats(images: np.ndarray) -> Callable[[], object]:
    """The same from float32."""
    return cnnjax_bytes(images.astype(np.float32))


def generator(images: np.ndarray) -> Callable[[], object]:
    """A batch of `ImageDataGenerator.flow` at each call."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    augment = ImageDataGenerator(
        rotation_range=40,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=0.2,
        zoom_range=0.2,
        horizontal_flip=True,
        fill_mode="nearest",
    )
    flow = augment.flow(images, batch_size=len(images))
    return lambda: next(flow)


def layers(images: np.ndarray) -> Callable[[], object]:
    """Keras' layers one after the other at each call."""
    import keras

    augment = keras.Sequential(
        [
            keras.layers.RandomRotation(40 / 360, fill_mode="nearest"),
            keras.layers.RandomTranslation(0.2, 0.2, fill_mode="nearest"),
            keras.layers.RandomZoom((-0.2, 0.2), (-0.2, 0.2), fill_mode="nearest"),
            keras.layers.RandomFlip("horizontal"),
        ]
    )
    floats = images.astype(np.float32)
    return lambda: augment(floats, training=True).block_until_ready()


WORKERS = {
    "cnnjax": cnnjax_bytes,
    "cnnjax, float32": cnnjax_floats,
    "ImageDataGenerator": generator,
    "Keras layers": layers,
}


def _show(number: int, rates: dict[str, float]) -> None:
    shown = "  ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    print(f"round {number + 1}: images/s  {shown}", flush=True)


if __name__ == "__main__":
    main(
        tyro.cli(Config, prog="python -m experiments.benchmarks.augment_speed", description=__doc__)
    )
