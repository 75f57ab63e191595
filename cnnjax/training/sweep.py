"""The same training many times: for several seeds, and for lists of settings."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.config import FILES, SEED, TrainingConfig
from cnnjax.core import processes
from cnnjax.core.checks import whole_number
from cnnjax.core.coordination import check_joined
from cnnjax.core.places import expanded
from cnnjax.core.settings import names
from cnnjax.core.storage import text_hash
from cnnjax.core.text import plain, qualified_name, without_address
from cnnjax.data import Dataset, Splits, as_splits
from cnnjax.metrics import Measure
from cnnjax.models import Model
from cnnjax.training.callbacks import Callback, Observer
from cnnjax.training.loggers import Logger
from cnnjax.training.loop import fit
from cnnjax.training.objective import Objective
from cnnjax.training.own_step import Step
from cnnjax.training.result import Run
from cnnjax.training.stopping import NonFiniteLoss
from cnnjax.training.swept import Settings, Sweep, text_of

_LONGEST = 120  # characters of a folder's name; file systems take 255 bytes


def sweep(
    make_model: Callable[..., Model],
    data: Splits | Dataset | tuple[np.ndarray, np.ndarray],
    config: TrainingConfig | None = None,
    *,
    seeds: int | Iterable[int] = 3,
    directory: str | Path | None = None,
    resume: bool = False,
    verbose: bool = True,
    metrics: Mapping[str, Measure] | None = None,
    objective: Objective | None = None,
    step: Step | None = None,
    callbacks: Callable[[], Sequence[Observer]] | None = None,
    loggers: Callable[[], Sequence[Logger]] | None = None,
    **lists: Sequence[Any] | np.ndarray | jax.Array,
) -> Sweep:
    """Train a model for several seeds and every combination of listed settings.

    The runs go one after the other through one compiled step, and each ends in the same bits as
    `fit` alone. (Replicas in one program, by `vmap`, cost more per replica on CPUs:
    `experiments.benchmarks.many_seeds` measures it.) A setting that a step depends on is compiled
    once; a seed never is.

    Args:
        make_model: (seed, **arguments) -> Model, e.g. `partial(create_model, "lenet")`.
        data: as in `fit`.
        config: of all runs but for the seed and what is listed.
        seeds: a number of seeds, counted from `config.seed`, or the seeds.
        directory: gets a run directory per run, e.g. learning_rate=0.001/seed0; None keeps nothing.
            Folders that would have the same name have a hash of their settings behind it.
        resume: take finished runs in the directory as they are and go on with the others.
        verbose: print a line for every run.
        metrics, objective, step: as in `fit`, of every run.
        callbacks, loggers: functions that make those of a run, e.g.
            lambda: [cj.training.loggers.CSV()],
            since what has seen one run would carry it into the next.
        lists: name -> values to try, a sequence or an array [values]. Fields of `TrainingConfig`
            (learning_rate=(1e-3, 1e-4)) are set there, all others are arguments of make_model
            (dropout=(0.0, 0.5)).

    Returns:
        A Sweep; print it.

    Raises:
        ValueError: for no or repeated seeds, an empty list, a setting that belongs to the sweep,
            callbacks or loggers that are no function or make the same objects again;
            with a directory also for different functions of one name.
        NonFiniteLoss: if every run diverged; of some it is a line, and the others go on.

    >>> import cnnjax as cj
    >>> from functools import partial
    >>> found = cj.sweep(partial(cj.create_model, "mlp", units=(16,)), cj.data.load("digits"),
    ...                  cj.TrainingConfig(epochs=1), seeds=2, learning_rate=(1e-3, 1e-2),
    ...                  verbose=False)
    >>> found.values("test_accuracy").shape
    (2, 2)
    """
    check_joined("sweep")
    config, splits = config or TrainingConfig(), as_splits(data)
    if config.resume:
        raise ValueError("resume is an argument of sweep, not of its config: give resume=True")
    if config.seed and isinstance(seeds, Iterable):
        raise ValueError(
            f"seed={config.seed} of config would be ignored, since seeds={seeds!r} names the seeds"
        )
    chosen = _seeds(seeds, config.seed)
    for name in names(config, SEED, FILES):
        if name in lists:
            instead = "seeds=" if name in names(config, SEED) else f"{name}= of config"
            raise ValueError(f"{name} is no list of a sweep: give {instead}")
    combinations = _combinations(lists)
    own_callbacks, own_loggers = _Maker("callbacks", callbacks), _Maker("loggers", loggers)
    folders: Sequence[Path | None] = [None] * len(combinations)
    if directory is not None:
        folders = [expanded(directory) / name for name in _folders(combinations)]
    fields = {one.name for one in dataclasses.fields(config)}
    diverged: NonFiniteLoss | None = None
    rows: list[tuple[Run | None, ...]] = []
    for settings, folder in zip(combinations, folders, strict=True):
        arguments = {k: v for k, v in settings.items() if k not in fields}
        trained = {k: v for k, v in settings.items() if k in fields}
        row: list[Run | None] = []
        for seed in chosen:
            place = folder / f"seed{seed}" if folder else None
            one = replace(config, **trained, seed=seed, resume=resume)
            model = make_model(seed=seed, **arguments)
            try:
                run = fit(
                    model, splits, one, directory=place, verbose=False, metrics=metrics,
                    objective=objective, step=step, callbacks=own_callbacks.make(),
                    loggers=own_loggers.make(), report=False,
                )  # fmt: skip
                line = _line(settings, seed, run)
            except NonFiniteLoss as error:
                run, line, diverged = None, _begin(settings, seed) + f"  {error}", error
            row.append(run)
            if verbose and processes.is_first():
                print(line, flush=True)
        rows.append(tuple(row))
    if diverged and not any(run for row in rows for run in row):
        raise diverged
    return Sweep(chosen, tuple(combinations), tuple(rows), dict(metrics or {}))


class _Maker:
    """Makes the callbacks or the loggers of each run anew.

    Args:
        name: of the argument.
        make: that was given.
    """

    def __init__(self, name: str, make: Callable[[], Sequence[Any]] | None):
        if make is not None and (not callable(make) or isinstance(make, Callback | Logger)):
            raise ValueError(
                f"{name} of a sweep must be a function that makes those of a run, lambda: [...], "
                f"got {plain(without_address(repr(make)))}"
            )
        self.name, self._make = name, make
        self._before: list[Any] = []  # held, so that no other object has the place of one

    def make(self) -> Sequence[Any]:
        """Those of the next run.

        Raises:
            ValueError: if one is that of a run before, which would carry it into this one.
        """
        made = () if self._make is None else self._make()
        for one in made if isinstance(made, Sequence) else ():  # `fit` refuses the others
            # A plain function is the same for every run.
            if isinstance(one, Callback | Logger) and any(one is other for other in self._before):
                raise ValueError(
                    f"{self.name} of a sweep made the {type(one).__name__} of a run before once "
                    "more: make a new one within the function"
                )
            self._before.append(one)
        return made


def _seeds(seeds: int | Iterable[int], first: int) -> tuple[int, ...]:
    if isinstance(seeds, np.ndarray | jax.Array):
        seeds = seeds.tolist()
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        chosen = tuple(whole_number("seeds", seed, least=0) for seed in seeds)
    else:
        chosen = tuple(range(first, first + whole_number("seeds", seeds)))
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"seeds must be a number >= 1, or different seeds, got {seeds!r}")
    return chosen


def _combinations(lists: Mapping[str, Sequence[Any] | np.ndarray | jax.Array]) -> list[Settings]:
    found: dict[str, Sequence[Any]] = {}
    for name, given in lists.items():
        values: Any = given
        if isinstance(given, np.ndarray | jax.Array) and given.ndim == 1:
            values = given.tolist()
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name} must be a list of values to try, got {values!r}")
        found[name] = values
    return [dict(zip(found, one, strict=True)) for one in itertools.product(*found.values())]


def _folders(combinations: Sequence[Settings]) -> list[str]:
    """A folder's name for every combination, the same in every process.

    Raises:
        ValueError: if different ones cannot be told apart.
    """
    names = [_folder(settings) for settings in combinations]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        alike = [i for i, other in enumerate(names) if other == name]
        written = [_as_json(combinations[i]) for i in alike]
        known: dict[str, dict[str, list[Any]]] = {}
        for text, named in written:
            before = known.setdefault(text, named)
            if before != named:
                argument = next(k for k in named if before[k] != named[k])
                called = _name(named[argument][0])
                raise ValueError(
                    f"{argument} has different values that are all called {called}, so their "
                    "runs cannot have folders of their own: give the functions names of their own "
                    "(def at the top of a module, or a dataclass with its settings), or no "
                    "directory"
                )
        if len(known) > 1:
            for i, (text, _) in zip(alike, written, strict=True):
                names[i] = f"{name}-{text_hash(text)[:12]}"
    return names


def _folder(settings: Settings) -> str:
    # Where a function lies in memory is another place in the next process.
    said = without_address(text_of(settings))
    name = re.sub(r"[^\w.=,+-]+", "_", said)
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{text_hash(said)[:12]}"


def _as_json(settings: Settings) -> tuple[str, dict[str, list[Any]]]:
    """Settings as JSON, and for each what stands there by its name alone."""
    named: dict[str, list[Any]] = {name: [] for name in settings}
    texts = {k: json.dumps(v, default=partial(_plain, named[k])) for k, v in settings.items()}
    return json.dumps(texts), named


def _plain(named: list[Any], value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return value.tolist()
    named.append(value)
    return [_name(value), without_address(str(value))]


def _name(value: Any) -> str:
    return without_address(qualified_name(value) if callable(value) else str(value))


def _line(settings: Settings, seed: int, run: Run) -> str:
    numbers = {k.replace("_", " "): v for k, v in run.metrics.items() if not np.ndim(v)}
    figures = "  ".join(f"{k} {v:.4f}" for k, v in numbers.items())
    figures = figures or f"loss {run.history['loss'][-1]:.4f}"
    return f"{_begin(settings, seed)}  {figures}  ({run.seconds:.0f} s)"


def _begin(settings: Settings, seed: int) -> str:
    return f"{text_of(settings)} seed {seed}:".strip()
