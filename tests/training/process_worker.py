"""What `test_processes.py` has one or several processes do; a script that all of them run.

process_worker.py FOLDER PART: each process leaves in FOLDER what it has seen, PART-INDEX.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from commands import after_every_dispatch
from modules import Convnet

import cnnjax as cj
from cnnjax.core import meeting, processes
from cnnjax.training import TrainState, make_optimizer
from cnnjax.training.devices import Devices

SHAPE, BATCH = (12, 12, 1), 12
# A small rate: rounding is not amplified. The last batches of all parts are ragged.
SETTINGS = cj.TrainingConfig(epochs=2, batch_size=BATCH, optimizer="sgd", learning_rate=0.01)
MOMENTUM = {"average": 0.5, "momentum": 0.9}
METRICS = {"f1": cj.metrics.f1(), "table": cj.metrics.confusion_matrix()}


def splits() -> cj.data.Splits:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 89).astype(np.int32)
    images = rng.integers(0, 128, (89, *SHAPE), dtype=np.uint8)
    images += (40 * labels).astype(np.uint8)[:, None, None, None]
    parts = (slice(0, 53), slice(53, 70), slice(70, 89))
    return cj.data.Splits(*(cj.data.from_arrays(images[p], labels[p]) for p in parts))


def model(name: str = "norm") -> cj.Model:
    if name == "norm":
        return cj.Model.from_module(Convnet(), SHAPE)
    return cj.create_model("mlp", input_shape=SHAPE, num_classes=3, units=(16,))


def train(name: str = "norm", data: Any = None, **more: Any) -> dict[str, Any]:
    """A training, as JSON says it."""
    given = {k: more.pop(k) for k in ("directory", "callbacks", "loggers", "step") if k in more}
    measured = {} if "step" in given else {"metrics": METRICS}
    usual = cj.TrainingConfig(epochs=2, batch_size=BATCH) if "step" in given else SETTINGS
    config = replace(usual, **more)
    run = cj.fit(model(name), data or splits(), config, verbose=False, **measured, **given)
    return {
        "hash": run.parameter_hash,
        "metrics": {k: np.asarray(v).tolist() for k, v in run.metrics.items()},
        "epochs": len(run.history["epoch"]),
        "weights": {k: np.asarray(v).tolist() for k, v in leaves(run.model.variables).items()},
    }


def leaves(variables: Any) -> dict[str, Any]:
    return cj.core.trees.leaves(variables)


def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    data = splits().train
    for start in range(0, len(data) + BATCH, BATCH):
        rows = slice(start, min(start + BATCH, len(data)))
        yield data.inputs[rows], data.labels[rows]


def own_step() -> cj.training.Step:
    functions = model("mlp").functions()

    def update(variables: Any, batch: Any, key: jax.Array) -> tuple[Any, dict[str, Any]]:
        def mean(params: Any) -> Any:
            outputs = functions.apply(params, {}, batch["inputs"])
            losses = cj.metrics.cross_entropy(outputs, batch["labels"])
            return (losses * batch["mask"]).sum() / batch["mask"].sum(), losses

        gradients, losses = jax.grad(mean, has_aux=True)(variables["params"])
        changed = jax.tree.map(lambda p, g: p - 0.01 * g, variables["params"], gradients)
        return {"params": changed}, {"loss": losses}

    return cj.training.Step(lambda model, key: model.variables, update, lambda value: value)


def rate() -> float:
    """The suggested learning rate of a net for digits."""
    config = cj.TrainingConfig(optimizer="adam", batch_size=32)
    net = cj.create_model("mlp", units=(16,))
    return cj.training.find_learning_rate(net, cj.data.load("digits"), config).suggestion


def held() -> list[int]:
    """Bytes of a training's state on a device, whole and divided."""
    state = TrainState.create(model(), make_optimizer(replace(SETTINGS, momentum=0.9), 1))
    chosen = [Devices.for_batches_of(BATCH, divided=divided) for divided in (False, True)]
    return [devices.bytes_of_each(devices.spread(state)) for devices in chosen]


def stop_in_epoch_1(moment: cj.training.Moment) -> None:
    moment.stop()


def error_of(action: Callable[[], Any]) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def failing_in(index: int, folder: Path) -> str:
    """A training in which a callback of one process fails at the end.

    No device waits for it then, as it lives on: of a process that ends others are told at once.
    """

    def fail(moment: cj.training.Moment) -> None:
        if processes.index() == index:
            raise KeyError(f"in process {index}")

    data = splits().train
    return error_of(partial(train, "mlp", data, epochs=1, callbacks=[fail], directory=folder))


def signalled(folder: Path) -> str:
    """A training of many steps, in which the last process alone gets SIGTERM."""

    def signal_one(done: int) -> None:
        if done == 3 and processes.index() == processes.count() - 1:
            signal.raise_signal(signal.SIGTERM)

    undo = after_every_dispatch(signal_one)
    try:
        train("norm", epochs=400, directory=folder)
    except cj.training.Interrupted as stopped:
        return str(stopped)
    finally:
        undo()
    return "went through"


def many(folder: Path) -> dict[str, Any]:
    """What several processes come to."""
    several = processes.count() > 1
    seen: dict[str, Any] = {
        "norm": train("norm", directory=folder / "norm"),
        "mlp": train("mlp", accumulate=2, class_weights=(1.0, 2.0, 1.0), sampler="balanced"),
        "chunks": train("norm", steps_per_dispatch=3),
        "fsdp": train("norm", fsdp=True, **MOMENTUM),
        "held": held(),
        "stream": train(
            "mlp", cj.data.Splits(cj.data.stream(batches, 5), splits().validation), epochs=1
        ),
        "step": train("mlp", step=own_step()),
        "stopped": train("mlp", callbacks=[stop_in_epoch_1], loggers=[cj.training.loggers.CSV()],
                         directory=folder / "stopped"),
        "rate": rate(),
    }  # fmt: skip
    if not several:
        seen["whole"] = train("norm", **MOMENTUM)
    else:
        seen["again"] = train("norm")["hash"]
        seen["failed"] = [failing_in(i, folder / f"failed{i}") for i in range(2)]
        seen["taken"] = error_of(partial(train, "norm", directory=folder / "norm"))
        seen["signalled"] = signalled(folder / "signalled")
        seen["unlike"], seen["late"] = unlike(), late()
        seen["relative"] = relative(folder)
        seen["odd"] = error_of(partial(train, "mlp", batch_size=7))
    return seen


def unlike() -> list[str]:
    """What comes of processes that are given different things."""
    s, last = splits(), processes.index()
    fewer = cj.data.Splits(s.train.subset(np.arange(len(s.train) - last)), s.validation)
    return [
        error_of(partial(train, "mlp", seed=last, epochs=1 + last)),
        error_of(partial(train, "mlp", fewer)),
        error_of(partial(train, "mlp", callbacks=[stop_in_epoch_1] * last)),
    ]


def late() -> str:
    """A training to which one process comes later than a lost one would be given up."""
    usual, meeting.LOST_SECONDS = meeting.LOST_SECONDS, 1.0
    time.sleep(2 * processes.index())
    try:
        return error_of(partial(train, "mlp", epochs=1))
    finally:
        meeting.LOST_SECONDS = usual


def relative(folder: Path) -> str:
    """Where a training says it was recorded, of processes in working directories of their own."""
    here, own = Path.cwd(), folder / f"in{processes.index()}"
    own.mkdir()
    os.chdir(own)
    try:
        config = replace(SETTINGS, epochs=1)
        return str(cj.fit(model("mlp"), splits(), config, directory="run", verbose=False).directory)
    finally:
        os.chdir(here)


def killed(folder: Path) -> None:
    """All processes end at a step, once the checkpoint of another one is there."""

    def kill(done: int) -> None:
        if done == 4:
            while not (folder / "killed" / "checkpoints" / "2").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    after_every_dispatch(kill)
    train("norm", checkpoint_every=2, directory=folder / "killed")


def main(folder: Path, part: str) -> None:
    meeting.LOST_SECONDS = 20.0
    cj.configure_runtime(allocator=False, distributed="JAX_NUM_PROCESSES" in os.environ)
    seen: dict[str, Any] = {"devices": jax.device_count()}
    if part in ("one", "two"):
        seen |= many(folder)
    elif part == "four":
        seen |= {"norm": train("norm"), "fsdp": train("norm", fsdp=True, **MOMENTUM)}
    elif part == "over" and processes.is_first():
        seen["alone"] = error_of(partial(train, "mlp"))
    if part in ("again", "four", "single"):
        seen["resumed"] = train("norm", resume=True, directory=folder / "killed")
    (folder / f"{part}-{processes.index()}.json").write_text(json.dumps(seen))
    if part == "two":
        killed(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
