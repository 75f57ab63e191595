"""The loaders of data sets and of streams, and what cannot be asked of a stream."""

from __future__ import annotations

from functools import partial
from typing import Any

from cnnjax.config import TrainingConfig
from cnnjax.core import processes
from cnnjax.data import Dataset, Loader, Stream, StreamLoader
from cnnjax.models import ModelSpec


def training_loader(
    data: Dataset | Stream, config: TrainingConfig, spec: ModelSpec
) -> Loader | StreamLoader:
    """The batches to train on.

    Args:
        data: the training data.
        config: its batch_size, sampler, seed and workers.
        spec: of the model.

    Raises:
        ValueError: for a setting that a stream cannot honour.
    """
    if isinstance(data, Stream):
        _check_stream(data, config)
        return evaluation_loader(data, config.batch_size, spec)
    return Loader(
        data,
        config.batch_size,
        shuffle=config.sampler is None,
        seed=config.seed,
        process_index=processes.index(),
        process_count=processes.count(),
        sampler=config.sampler,
        workers=config.workers,
    )


def evaluation_loader(
    data: Dataset | Stream, batch_size: int, spec: ModelSpec, *, alone: bool = False
) -> Loader | StreamLoader:
    """The batches to evaluate on, in their order; those of a stream have a size of their own.

    Args:
        data: to evaluate on.
        batch_size: of a data set.
        spec: of the model.
        alone: whether this process goes through all of the data, not its part of every batch.

    Raises:
        ValueError: for a stream whose batches do not divide among the processes.
    """
    index, count = (0, 1) if alone else (processes.index(), processes.count())
    if not isinstance(data, Stream):
        return Loader(data, batch_size, process_index=index, process_count=count)
    check = partial(spec.task.check_labels, outputs=spec.output_shape, model=spec.name)
    return StreamLoader(data, check, process_index=index, process_count=count)


def _check_stream(data: Stream, config: TrainingConfig) -> None:
    if config.batch_size != data.batch_size:
        raise ValueError(
            f"batch_size={config.batch_size} is not that of {data.name}, whose batches have "
            f"{data.batch_size} examples: give batch_size={data.batch_size}"
        )
    refused: tuple[tuple[str, Any, bool], ...] = (
        ("sampler", config.sampler, config.sampler is not None),
        ("workers", config.workers, config.workers > 0),
        ("class_weights", config.class_weights, config.class_weights == "balanced"),
    )
    for name, value, given in refused:
        if given:
            raise ValueError(
                f"{name}={value!r} needs all training data at hand, and {data.name} is a stream: "
                "leave it out"
            )
