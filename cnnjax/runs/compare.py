"""What is not as a run's record has it: results, and what they came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.core import trees
from cnnjax.core.runtime import code_version, machine, versions
from cnnjax.data import Splits
from cnnjax.metrics import recorded
from cnnjax.models import Model
from cnnjax.runs.caller import state_of
from cnnjax.runs.directory import RunDirectory
from cnnjax.runs.resuming import with_default_settings, without_seed
from cnnjax.runs.ties import config_changed, model_changes

# Of an epoch's line: how long it took is not a result.
_TIMES = ("seconds", "images_per_second", "waiting")


def result_changes(
    record: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    history: Mapping[str, Any],
) -> list[str]:
    """In what another result is not that of a run, to the bit, a line each.

    Args:
        record, epochs: of the run.
        result: of the other, its metrics and, as "parameters", their hash.
        history: of the other, what its epochs hold, [epochs] each.
    """
    before = {"parameters": record.get("parameter_hash"), **record.get("metrics", {})}
    lines = _changes(before, result)
    count = len(history["epoch"])
    if len(epochs) != count:
        lines.append(f"epochs: {len(epochs)} then, {count} now")
    for i, epoch in enumerate(epochs[:count]):
        then = {k: v for k, v in epoch.items() if k not in _TIMES}
        now = {k: recorded(v[i]) for k, v in history.items() if k not in _TIMES}
        if changes := _changes(then, now):
            lines.append(f"history from epoch {i + 1} on: {'; '.join(changes)}")
            break
    return lines


def circumstances(
    run: RunDirectory,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    data: Splits,
    model: Model,
    settings: Mapping[str, Any],
) -> list[str]:
    """What is not as it was when a run was made, a line each.

    Args:
        run: its directory.
        record, config: of it.
        data, model: what is trained on and with now.
        settings: of now: "settings", "loss", "conv_engine" and "opt_state".
    """
    lines: list[str] = []
    if config_changed(run.path, record):
        lines.append("config.json is not the one that the run was started with")
    for change in model_changes(run.path, record):
        lines.append(f"model.json is not that of the run: {change}")
    seed = config["training"]["seed"]
    if seed != record["seed"]:
        lines.append(f"seed: {record['seed']} then, {seed} in config.json now")
    if trees.tree_hash(model.variables) != record["initial_hash"]:
        lines.append(
            "initial parameters: none that the model gets from the run's seed or seed 0; if they "
            "came from elsewhere, give it: cj.reproduce(run, model=...)"
        )
    then: dict[str, Any] = {k: record[k] for k in ("versions", "machine", "code")}
    for other in record.get("resumed", []):
        for change in _changes(then, {k: other[k] for k in then}):
            lines.append(f"the run was resumed elsewhere: {change}")
    now: dict[str, Any] = {"versions": versions(), "machine": machine(), "code": code_version()}
    if caller := record.get("caller"):
        then |= {"caller": caller}
        now |= {"caller": state_of(caller["file"]) if "file" in caller else caller}
    then |= {"settings": with_default_settings(config["training"]), "loss": config["loss"]}
    then |= {"conv_engine": config["conv_engine"], "opt_state": config.get("opt_state")}
    # Through JSON, as the record went.
    now |= json.loads(json.dumps(settings))
    for side in (then, now):
        side["settings"] = without_seed(side["settings"])
    parts = data.parts
    for name in dict.fromkeys([*record["data"], *parts]):
        before, part = record["data"].get(name, {}), parts.get(name)
        then[f"data {name}"] = {k: before.get(k) for k in ("examples", "fingerprint")}
        now[f"data {name}"] = {
            "examples": len(part) if part else None,
            "fingerprint": part.fingerprint if part else None,
        }
    return lines + _changes(then, now)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for every value that differs, nested ones by their path."""
    before, after = trees.flatten(then), trees.flatten(now)
    return [
        f"{name.replace('/', ' ')}: {_text(before.get(name))} then, {_text(after.get(name))} now"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return repr(float(value))
    text = str(value)
    return f"{text[:16]}..." if len(text) == 64 else text
