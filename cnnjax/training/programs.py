"""The programs of a training for a device that need not be there: lowered from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.config import TrainingConfig
from cnnjax.core import target
from cnnjax.models import Model
from cnnjax.training import scans
from cnnjax.training.given import Given
from cnnjax.training.shared import make_steps
from cnnjax.training.state import TrainState

Shapes = Any  # a pytree of jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Work:
    """A training of which only the shapes are known.

    Args:
        model: its architecture; the weights play no part.
        config: the settings of the training.
        examples: {"inputs": [N, ...], "labels": [N, ...]} as the data set has them, of which the
            program keeps all on the device.
    """

    model: Model
    config: TrainingConfig
    examples: Mapping[str, Any]

    @classmethod
    def of(cls, model: Model, config: TrainingConfig, count: int) -> Work:
        """Of a model on so many examples of its own shape, images of 8 bits.

        Args:
            model: whose task is one of the usual ones.
            config: as above.
            count: of the examples.
        """
        spec = model.spec
        inputs = spec.sample(count)
        if spec.takes_images:
            inputs = jax.ShapeDtypeStruct(inputs.shape, jnp.uint8)
        shape = spec.task.label_shape(spec.output_shape)
        kind = jnp.int32 if spec.task.label_kind == "integer" else jnp.float32
        return cls(
            model, config, {"inputs": inputs, "labels": jax.ShapeDtypeStruct((count, *shape), kind)}
        )


def traced_step(work: Work, platform: str, devices: Sequence[Any] = ()) -> Any:
    """One training step, traced for a kind of device, its state donated.

    Args:
        work: the training.
        platform: "cpu", "gpu" or "tpu".
        devices: among which the batch is divided, e.g. those of `jax.experimental.topologies`; ()
            for one that is not named, which is enough for lowering and not for compiling.

    Returns:
        What `jax.jit(step).trace(...)` does.
    """
    size = work.config.batch_size
    rows = jax.tree.map(
        lambda one: jax.ShapeDtypeStruct((size, *one.shape[1:]), one.dtype), work.examples
    )
    with target.compiling_for(platform):
        step, state = _step_and_state(work)
        batch = {**_on(devices, {**rows, **_places(size)}, "data"), "epoch": _epoch(devices)}
        return jax.jit(step, donate_argnums=0).trace(_on(devices, state), batch)


def traced_scan(work: Work, platform: str, steps: int, devices: Sequence[Any] = ()) -> Any:
    """So many steps over data on the device as one program; arguments as in `traced_step`."""
    flat = jax.eval_shape(scans.flat, work.examples)
    places = _on(devices, _places(steps, work.config.batch_size), None, "data")
    with target.compiling_for(platform):
        step, state = _step_and_state(work)
        scan = scans.resident(step, work.examples)
        return jax.jit(scan, donate_argnums=0).trace(
            _on(devices, state),
            _on(devices, flat),
            places["index"],
            places["mask"],
            _epoch(devices),
        )


def lowered_for(traced: Any, platform: str) -> Any:
    """What is traced for a kind of device as it is sent to that device's compiler."""
    return traced.lower(lowering_platforms=(target.LOWERED_FOR[platform],))


def _step_and_state(work: Work) -> tuple[Any, Shapes]:
    steps = make_steps(work.model, Given.checked(work.model.spec.task), work.config, 1000)
    optimizer = steps.optimizer
    assert optimizer is not None  # there is no step of the caller's own

    def created(variables: Any) -> TrainState:
        model, average = work.model.replace(variables=variables), work.config.average > 0
        return TrainState.create(model, optimizer, frozen=work.config.frozen, average=average)

    return steps.train, jax.eval_shape(created, work.model.variables)


def _places(*shape: int) -> dict[str, Any]:
    integers = jax.ShapeDtypeStruct(shape, jnp.int32)
    return {"index": integers, "mask": jax.ShapeDtypeStruct(shape, jnp.bool_)}


def _epoch(devices: Sequence[Any]) -> Any:
    return _on(devices, jax.ShapeDtypeStruct((), jnp.int32))


def _on(devices: Sequence[Any], shapes: Shapes, *axes: str | None) -> Shapes:
    """Shapes of arrays that lie on devices, divided along the axes named."""
    if not devices:
        return shapes
    sharding = NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec(*axes))
    return jax.tree.map(
        lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=sharding), shapes
    )
