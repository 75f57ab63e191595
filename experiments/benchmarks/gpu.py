"""All that is to be known of one GPU, within eight minutes, as one JSON file.

Trains the MNIST convnet, the deep CIFAR net, the cats convnet at 150x150 and ResNet50 at 224x224
(float32, TF32, bfloat16) by `cj.fit`, and beside it in PyTorch (compiled, channels last, the same
precision) and Keras (JAX backend); kills a training and resumes it with `deterministic=True`, which
must end in the same bits; trains 32 seeds by vmap and one after the other; measures what a step
takes of the device; runs a part of the tests. Images are random, of the real shapes, so that no
data need to be there. Each section is a process of its own with a time limit: one that fails, or
for which a library is missing or no time is left, says so and leaves the rest alone. The file is
written after each section.

Command:   pip install -e ".[cuda,bench,test]" && experiments/benchmarks/gpu.sh [--out gpu.json]
           Without a GPU `--dry` goes through the same sections with tiny sizes, in two minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from cnnjax.core.storage import write_text
from cnnjax.core.table import table
from cnnjax.core.target import PRODUCTS
from experiments.benchmarks import gpu_here

_CHECKOUT = Path(__file__).resolve().parents[2]
_LEAST = 5.0  # seconds, of which a section needs more to start
_LAST_WORDS = 1500  # letters of an error


@dataclass(frozen=True)
class Config:
    """Options of the script."""

    out: str = "gpu.json"
    """The file to write."""
    minutes: float = 8.0
    """For everything together; what there is no time for is left out, and said to be."""
    dry: bool = False
    """Tiny sizes, on whatever device there is: whether the script works, and nothing of speed."""
    only: str | None = None
    """Sections whose names begin with this."""


@dataclass(frozen=True)
class Section:
    """What one process does.

    Args:
        name: of its results.
        code: Python that prints them as JSON, last of all.
        limit: seconds that it may take.
        needs: a package without which it is left out.
        environment: variables beside those of this process.
    """

    name: str
    code: str
    limit: float = 60.0
    needs: str = "jax"
    environment: Mapping[str, str] = field(default_factory=dict)


def sections(dry: bool) -> list[Section]:
    """All of them, what is needed most first."""
    call = f"from experiments.benchmarks import gpu_here; gpu_here.{{}}({dry})"
    trainings = gpu_here.DRY_TRAININGS if dry else gpu_here.TRAININGS
    peers = [_training(worker, *one) for worker in ("torch", "keras") for one in trainings]
    return [
        Section("machine", call.format("facts"), 40),
        *(_training("cnnjax", *one) for one in trainings),
        Section("resume", call.format("resume"), 90),
        Section("seeds", call.format("seeds"), 60),
        *peers,
        Section("profile", call.format("profile"), 60),
        Section("tests", call.format("tests"), 90, needs="pytest"),
    ]


def _training(worker: str, net: str, precision: str, steps: int) -> Section:
    from experiments.benchmarks.twins import setting_of

    arguments = (worker, net, steps * setting_of(net).batch, gpu_here.EPOCHS, precision)
    environment = {
        "cnnjax": {},
        "keras": {
            "KERAS_BACKEND": "jax",
            "JAX_DEFAULT_MATMUL_PRECISION": PRODUCTS[precision],
        },
        "torch": {"JAX_PLATFORMS": "cpu"},  # which names the layers there, and leaves the GPU alone
    }
    return Section(
        f"train/{net}/{precision}/{worker}",
        f"from experiments.benchmarks import twins; twins.measure_here{arguments!r}",
        limit=75,
        needs="jax" if worker == "cnnjax" else worker,
        environment=environment[worker],
    )


def main(config: Config) -> None:
    """Run the sections and print what came of them."""
    began, found = time.monotonic(), dict[str, dict[str, Any]]()
    result: dict[str, Any] = {"command": sys.argv, "dry": config.dry, "sections": found}
    for section in sections(config.dry):
        if config.only is not None and not section.name.startswith(config.only):
            continue
        left = 60 * config.minutes - (time.monotonic() - began)
        found[section.name] = one = run(section, left)
        result["seconds"] = round(time.monotonic() - began, 1)
        write_text(Path(config.out), json.dumps(result, indent=1) + "\n")
        print(f"{section.name:32} {one['seconds']:6.1f} s  {one['error'] or 'ok'}", flush=True)
    print(f"\n{speeds(found)}\n\nall of it: {config.out}")


def run(section: Section, left: float) -> dict[str, Any]:
    """What a section found, its seconds, and its error where there was one.

    Args:
        section: to run.
        left: seconds for all that is still to come.
    """
    if importlib.util.find_spec(section.needs) is None:
        return {"seconds": 0.0, "error": f"{section.needs} is not installed"}
    if left < _LEAST:
        return {"seconds": 0.0, "error": "left out: there was no time left"}
    began, limit = time.monotonic(), min(section.limit, left)
    process = subprocess.Popen(
        [sys.executable, "-c", section.code],
        cwd=_CHECKOUT,
        env={**os.environ, **section.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its children end with it
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"seconds": round(limit, 1), "error": f"stopped after its {limit:.0f} seconds"}
    seconds = round(time.monotonic() - began, 1)
    if process.returncode:
        return {"seconds": seconds, "error": err[-_LAST_WORDS:] or f"status {process.returncode}"}
    return {"seconds": seconds, "error": None, **json.loads(out.strip().splitlines()[-1])}


def speeds(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Images a second of the trainings, medians of all epochs but the first, as a table."""
    rows: dict[str, dict[str, str]] = {}
    for name, one in found.items():
        if name.startswith("train/"):
            _, net, precision, worker = name.split("/")
            rate = f"{statistics.median(one['rates'][1:]):,.0f}" if "rates" in one else "-"
            rows.setdefault(f"{net}, {precision}", {})[worker] = rate
    workers = ("cnnjax", "torch", "keras")
    head = ("images/s", *workers)
    body = [(row, *(rates.get(w, "-") for w in workers)) for row, rates in rows.items()]
    return table([head, *body], "<>")


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.gpu", description=__doc__))
