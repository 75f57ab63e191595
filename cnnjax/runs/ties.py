"""What ties config.json and model.json to the record of a run: a hash, and a repetition."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.core import trees
from cnnjax.core.reading import Unreadable, read_json
from cnnjax.core.storage import text_hash
from cnnjax.core.text import plain
from cnnjax.models import UnreadableModel
from cnnjax.models.saved_spec import MODEL_FILE
from cnnjax.runs.contents import CONFIG_FILE
from cnnjax.runs.record import read_config, read_record
from cnnjax.runs.resuming import in_short, with_defaults
from cnnjax.runs.seal import ID, RunError, changed

# Hashes of config.json: the present one, and, from a resumption to the end, the one before it,
# with the model.json of that time.
CONFIG_HASH, _CONFIG_BEFORE, _MODEL_BEFORE = "config_hash", "config_hash_before", "model_before"


def ties(directory: Path, config_text: str, *, resumed: bool) -> dict[str, Any]:
    """What a record holds of the config.json that is written with it, and of the one before."""
    facts: dict[str, Any] = {CONFIG_HASH: text_hash(config_text)}
    before = _config_hash(directory)
    if resumed and before != facts[CONFIG_HASH]:
        # Whichever of the two is there when the process is killed, it is known.
        facts |= {_CONFIG_BEFORE: before, _MODEL_BEFORE: _model(directory)}
    return facts


def without_those_before(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record that holds of the present config.json alone."""
    return {k: v for k, v in record.items() if k not in (_CONFIG_BEFORE, _MODEL_BEFORE)}


def config_changed(directory: Path, record: Mapping[str, Any]) -> bool:
    """Whether config.json is not the one of the record."""
    known = [record[k] for k in (CONFIG_HASH, _CONFIG_BEFORE) if record.get(k) is not None]
    return bool(known) and _config_hash(directory) not in known


def model_changes(directory: Path, record: Mapping[str, Any]) -> list[str]:
    """In what model.json is not as config.json repeats it, a line each.

    Raises:
        RunError: if config.json is damaged.
        UnreadableModel: if model.json is not readable.
    """
    ours = with_defaults(read_config(directory))["model"]
    theirs = _model(directory)
    if theirs is None or "name" not in ours:  # a record of before there were models in it
        return []
    if not isinstance(theirs, dict):
        return [f"it is {plain(theirs, 60)}"]
    if theirs == record.get(_MODEL_BEFORE):
        return []
    theirs = with_defaults({"model": theirs})["model"]
    return trees.differences(trees.flatten(ours), trees.flatten(theirs))


def check_tied(directory: Path, record: Mapping[str, Any]) -> None:
    """Check that config.json and model.json are those of the record.

    Raises:
        RunError: if one is not.
        UnreadableModel: if model.json is not readable.
    """
    _check_config(directory, record)
    if lines := model_changes(directory, record):
        raise RunError(_model_changed(directory, lines))


def check_before_loading(directory: Path) -> str | None:
    """Check that model.json is the run's own; returns the id that its checkpoints must have.

    Damaged records keep nobody from the weights, whose checkpoints have digests of their own:
    they are warned of.

    Raises:
        UnreadableModel: if model.json is another than the one of the run.
    """
    run_id = None
    try:
        record = read_record(directory)
        run_id = record.get(ID) or ""
        _check_config(directory, record)
        lines = model_changes(directory, record)
    except RunError as error:
        warnings.warn(
            f"whether the checkpoints and {MODEL_FILE} belong together is not known: {error}",
            stacklevel=3,
        )
        return run_id
    if lines:
        raise UnreadableModel(_model_changed(directory, lines))
    return run_id


def _check_config(directory: Path, record: Mapping[str, Any]) -> None:
    read_config(directory)
    if config_changed(directory, record):
        raise changed(directory / CONFIG_FILE)


def _config_hash(directory: Path) -> str | None:
    """Of config.json as it is; None where there is none."""
    try:
        return text_hash((directory / CONFIG_FILE).read_bytes())
    except FileNotFoundError:
        return None


def _model(directory: Path) -> Any:
    """The content of model.json, None where there is none."""
    file = directory / MODEL_FILE
    try:
        return read_json(file, "model description")
    except FileNotFoundError:
        return None
    except Unreadable as error:
        raise UnreadableModel(f"{file} is not a model description: {error}") from None


def _model_changed(directory: Path, lines: Sequence[str]) -> str:
    return (
        f"{directory / MODEL_FILE} was changed since the run wrote it "
        f"({in_short(lines)}): put back what was there"
    )
