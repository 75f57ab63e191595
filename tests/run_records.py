"""Records of runs that never were, for the tables made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def fake(folder: Path, seed: int, accuracy: float, **changes: Any) -> Path:
    """A run directory with what the table reads."""
    folder.mkdir(parents=True)
    record = {
        "status": "finished",
        "experiment": "small",
        "recipe": "tuned",
        "seed": seed,
        "ended": f"2026-01-0{1 + seed}T00:00:00",
        "data": {"train": {"name": "squares train", "examples": 10, "fingerprint": "a"}},
        "best_epoch": 2,
        "metrics": {"test_accuracy": accuracy, "test_loss": 0.5},
        "reported": {"test_accuracy": 0.9, "test_loss": 0.45},
        "seconds": 10.0 + seed,
        "parameters": 1234,
        "machine": {"processor": "Some CPU", "cores": 2, "backend": "cpu"},
        "versions": {"jax": "0.10.2"},
        "code": {"commit": "0123456789", "modified": False},
        "command": f"python -m experiments.small --recipe tuned --seed {seed} --out somewhere",
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(record))
    training = {"seed": seed, "epochs": 2, "keep": 1, "resume": False, "checkpoint_every": None}
    (folder / "config.json").write_text(json.dumps({"training": training}))
    epochs = [{"epoch": 1, "accuracy": 0.5}, {"epoch": 2, "accuracy": 0.99}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    return folder


def rows(file: Path, heading: str) -> list[list[str]]:
    part = file.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
