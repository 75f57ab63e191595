"""Several processes against one: how far apart the weights end, and what each device holds.

Two nets, one of convolutions and dropout and one of convolutions, BatchNorm and dropout, are
trained for an epoch on handwritten digits by one process with one device, and by others: processes
of this machine that meet through JAX's coordination service, and whose devices are simulated. With
`fsdp` parameters and optimiser state are divided among the devices.

Command:   python -m experiments.benchmarks.processes [--learning-rate 0.05]
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from flax import linen

import cnnjax as cj
from cnnjax.core import processes, trees
from cnnjax.training import TrainState, make_optimizer
from cnnjax.training.devices import Devices

# Processes, and devices of each.
FORMS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2))

_SHAPE = (28, 28, 1)
_LIMIT_SECONDS = 280


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    learning_rate: float = 0.01
    """Of plain SGD; a larger one amplifies what rounding has begun."""
    batch: int = 32
    """Images a step, over all processes; eight devices must divide it."""
    examples: int = 320
    """Images of the epoch; eight simulated devices share this machine's cores."""
    child: str = ""
    """File for what one process ends in: for those that the benchmark starts."""


class NormNet(linen.Module):
    """Convolution, BatchNorm, dropout and logits."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, 1] -> [N, 10]."""
        x = linen.Conv(16, (3, 3), strides=2, name="conv")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, name="norm")(x))
        x = linen.Dropout(0.2, deterministic=not train)(x)
        return linen.Dense(10, name="logits")(x.reshape(x.shape[0], -1))


def main(config: Config) -> None:
    """Train in every form, and print how far each ends from one process with one device."""
    if config.child:
        train(config, Path(config.child))
        return
    lines = [
        "| processes x devices | convolutions, dropout | and BatchNorm | fsdp: bytes a device |"
    ]
    lines.append("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        results = {form: run(config, Path(folder), *form) for form in FORMS}
    first = results[FORMS[0]]
    for (count, devices), result in results.items():
        apart = [distance(result, first, name) for name in ("plain", "norm")]
        held = f"{int(result['whole']):,} -> {int(result['divided']):,}"
        lines.append(f"| {count} x {devices} | {apart[0]:.1e} | {apart[1]:.1e} | {held} |")
        lines[-1] += "" if distance(result, first, "fsdp") < 1e-6 else " (fsdp ends elsewhere)"
    print(
        f"SGD, learning rate {config.learning_rate:g}, batch {config.batch}, one epoch of "
        f"{config.examples} digits"
    )
    print("\n".join(lines))
    two, alone = results[2, 1], results[1, 2]
    same = all(np.array_equal(two[name], alone[name]) for name in two)
    print(f"2 x 1 and 1 x 2 end in the same bits: {'yes' if same else 'no'}")


def run(config: Config, folder: Path, count: int, devices: int) -> dict[str, np.ndarray]:
    """What so many processes with so many devices each end in; process 0 says it."""
    file = folder / f"{count}x{devices}.npz"
    command = [sys.executable, "-m", "experiments.benchmarks.processes", "--child", str(file)]
    command += ["--learning-rate", str(config.learning_rate), "--batch", str(config.batch)]
    command += ["--examples", str(config.examples)]
    started = [
        subprocess.Popen(command, env={**os.environ, **variables})
        for variables in environments(count, devices)
    ]
    codes = [process.wait(_LIMIT_SECONDS) for process in started]
    if any(codes):
        raise ValueError(f"{count} processes with {devices} devices each ended with {codes}")
    with np.load(file) as arrays:
        return dict(arrays)


def environments(count: int, devices: int) -> list[dict[str, str]]:
    """The variables of so many processes of this machine, each with so many simulated devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    same = {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(count),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return [{**same, "JAX_PROCESS_ID": str(index)} for index in range(count)]


def train(config: Config, file: Path) -> None:
    """In one of the processes: train all, and save what they end in."""
    cj.configure_runtime(distributed=True)
    data = cj.data.load("digits").train.subset(np.arange(config.examples))
    plain = cj.create_model("mnist_convnet", input_shape=_SHAPE)
    norm = cj.Model.from_module(NormNet(), _SHAPE, train_argument="train")
    result: dict[str, np.ndarray] = {}
    for name, model in {"plain": plain, "norm": norm, "fsdp": plain}.items():
        training = cj.TrainingConfig(
            epochs=1,
            batch_size=config.batch,
            optimizer="sgd",
            learning_rate=config.learning_rate,
            momentum=0.9,
            fsdp=name == "fsdp",
        )
        trained = cj.fit(model, data, training, verbose=False).model
        result |= {f"{name}/{k}": np.asarray(v) for k, v in trees.leaves(trained.variables).items()}
        devices = Devices.for_batches_of(config.batch, divided=name == "fsdp")
        state = TrainState.create(model, make_optimizer(training, 1))
        held = np.asarray(devices.bytes_of_each(devices.spread(state)))
        if model is plain:
            result["divided" if name == "fsdp" else "whole"] = held
    if processes.is_first():
        np.savez(file, allow_pickle=False, **result)


def distance(result: dict[str, np.ndarray], first: dict[str, np.ndarray], name: str) -> float:
    """The largest difference of a net's weights."""
    like = "plain" if name == "fsdp" else name
    return max(
        float(np.abs(value - first[f"{like}/{key.removeprefix(f'{name}/')}"]).max())
        for key, value in result.items()
        if key.startswith(f"{name}/")
    )


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.processes", description=__doc__))
