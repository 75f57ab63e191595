"""Save a model, and load it from where that or a run left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.core.hub import PREFIX, hub_directory, hub_place
from cnnjax.core.places import expanded
from cnnjax.models import Model, UnreadableModel, load_model, save_model
from cnnjax.models.saved import WEIGHTS_FILE, rebuild
from cnnjax.models.saved_spec import MODEL_FILE, read_saved
from cnnjax.runs.checkpoint import Checkpoints
from cnnjax.runs.contents import CHECKPOINTS, RUN_FILE, holds_run
from cnnjax.runs.ties import check_before_loading
from cnnjax.task import Preprocessing, Task

# What `save` writes.
_FILES = ["*.json", "*.safetensors"]


def save(model: Model, directory: str | Path) -> Path:
    """Save architecture, weights, labels and preprocessing.

    Args:
        model: what to save.
        directory: made if needed; a model in it is replaced.

    Returns:
        The directory.

    Raises:
        UnreadableModel: if it is a run directory.
    """
    directory = expanded(directory)
    if holds_run(directory):
        raise UnreadableModel(
            f"{directory} is a run directory, whose model is in its checkpoints: save elsewhere"
        )
    save_model(model, directory)
    return directory


def load(
    directory: str | Path,
    module: Any = None,
    *,
    task: Task | Mapping[str, Task] | None = None,
    preprocessing: Preprocessing | Mapping[str, Preprocessing] | None = None,
    step: int | None = None,
    allow_changed: Sequence[str] = (),
) -> Model:
    """Load a model.

    Args:
        directory: that `save` wrote, or a run directory, whose best checkpoint is loaded (the
            latest where nothing was monitored); or "hf://owner/name", with "@" and a revision,
            that `push` wrote.
        module: for a model of `Model.from_module` or `Model.from_nnx`: the module, whose code is
            not stored; its class, its settings and what it computes must be those of then.
        task, preprocessing: of your own, whose code is not stored either; {name: one} of several.
        step: of a run: that checkpoint instead of the best one.
        allow_changed: ("module",) takes another module, if the weights fit it.

    Returns:
        The model, with labels and preprocessing.

    Raises:
        UnreadableModel: if there is no model, or a run has no checkpoint yet.
        CheckpointError, DamagedWeights: if what is there was changed or cut off.
        DownloadError: if what is on a hub cannot be had.

    Warns:
        UserWarning: if the records of a run are damaged, so that it is not known whether its
            checkpoints and model.json belong together.
    """
    if str(directory).startswith(PREFIX):
        directory = _downloaded(str(directory))
    directory = expanded(directory)
    if not directory.is_dir():
        raise UnreadableModel(f"{directory} does not exist or is no directory")
    if (directory / WEIGHTS_FILE).is_file():
        return load_model(
            directory,
            module,
            task=task,
            preprocessing=preprocessing,
            allow_changed=allow_changed,
        )
    if not (directory / RUN_FILE).is_file():
        raise UnreadableModel(
            f"{directory} is neither a saved model ({MODEL_FILE} and {WEIGHTS_FILE}) nor a run "
            f"directory ({RUN_FILE} and {CHECKPOINTS}/)"
        )
    if not (directory / CHECKPOINTS).is_dir():
        raise UnreadableModel(f"the run {directory} has no checkpoint yet")
    run_id = check_before_loading(directory)
    checkpoints = Checkpoints(directory / CHECKPOINTS, read_only=True, run_id=run_id)
    try:
        if not checkpoints.steps():
            raise UnreadableModel(f"the run {directory} has no checkpoint yet")
        variables, _ = checkpoints.load_variables(step)
    finally:
        checkpoints.close()
    saved = read_saved(directory, task, preprocessing)
    return rebuild(saved, module, variables, directory, allow_changed=allow_changed)


def _downloaded(text: str) -> Path:
    """The directory of a model on a hub."""
    place = hub_place(text)
    if place.file:
        raise UnreadableModel(
            f"{place} is a file: cj.load takes hf://owner/name, and cj.create_model(NAME, "
            "weights=...) a file of weights"
        )
    return hub_directory(place, _FILES)
