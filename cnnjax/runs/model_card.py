"""The page of a model on a hub, written from its spec and, where there is one, its run's record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.core import trees
from cnnjax.core.checks import shape_text
from cnnjax.core.text import plain
from cnnjax.models import Model
from cnnjax.runs.contents import holds_run
from cnnjax.runs.record import commit_of, read_config, read_record

# More class names than this are a list of their own, in model.json.
_MOST_NAMES = 20


def model_card(model: Model, repository: str, directory: Path | None) -> str:
    """Markdown with the hub's head: what the model is, how to load it, what its run measured.

    Args:
        model: that is uploaded.
        repository: "owner/name".
        directory: of the run that trained it; None where it is not known.
    """
    spec = model.spec
    names = spec.label_names if isinstance(spec.label_names, tuple) else ()
    facts = {
        "model": spec.name,
        **{k: v for k, v in (spec.arguments or {}).items()},
        "input": shape_text(spec.input_shape),
        "preprocessing": spec.facts()["preprocessing"],
        "classes": ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else ""),
        "weights at first": spec.weights or "random",
        "paper": spec.paper,
    }
    parts = [
        "---\nlibrary_name: cnnjax\ntags:\n- cnnjax\n- jax\n---",
        f"# {plain(repository.rpartition('/')[2])}",
        _table(facts),
        f'```python\nimport cnnjax as cj\n\nmodel = cj.load("hf://{repository}")\n'
        "probabilities = cj.predict(model, images)\n```",
    ]
    if directory is not None and holds_run(directory):
        parts += _of_run(read_record(directory), read_config(directory))
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_run(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What was measured, on which data, with which settings and versions."""
    data = {
        part: f"{facts.get('name')}, {facts.get('examples', 0):,} examples, fingerprint "
        f"{facts.get('fingerprint')}"
        for part, facts in record.get("data", {}).items()
    }
    run = {
        "seed": record.get("seed"),
        "best epoch": record.get("best_epoch"),
        "parameter hash": record.get("parameter_hash"),
        "commit": commit_of(record),
        **record.get("versions", {}),
    }
    metrics = {k: f"{v:.4f}" for k, v in (record.get("metrics") or {}).items() if _is_number(v)}
    return [
        "## Measured",
        _table(metrics),
        "## Data",
        _table(data),
        "## Training",
        _table(trees.flatten(config.get("training", {}))),
        _table(run),
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _table(facts: Mapping[str, Any]) -> str:
    rows = [(k, v) for k, v in facts.items() if v not in (None, "", (), [], {})]
    lines = [f"| {_cell(k.replace('_', ' '))} | {_cell(v)} |" for k, v in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _cell(value: Any) -> str:
    return plain(value, 300).replace("|", "\\|")
