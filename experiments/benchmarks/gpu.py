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

import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from cnnjax.core.storage import write_text
from cnnjax.core.table import table

_CHECKOUT = Path(__file__).resolve().parents[2]
_LEAST = 5.0  # seconds, of which a section needs more to start
_LAST_WORDS = 1500  # letters of an error

# As JAX calls the precisions; Keras leaves the choice to it.
_PRODUCTS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "default"}

# (net, precision, steps of an epoch)
TRAININGS = (
    ("resnet50", "bfloat16", 16),
    ("mnist_convnet", "float32", 900),
    ("cifar_deep", "float32", 300),
    ("cats_convnet", "float32", 100),
    ("resnet50", "float32", 8),
    ("resnet50", "tf32", 16),
)
_DRY_TRAININGS = (("mnist_convnet", "float32", 2), ("mnist_convnet", "bfloat16", 2))
_EPOCHS = 4

TESTS = (
    "tests/nn/test_layers.py",
    "tests/nn/test_norm.py",
    "tests/training/test_accumulation.py",
    "tests/training/test_remat.py",
    "tests/training/test_profile.py",
)
_DRY_TESTS = ("tests/core/test_peaks.py",)


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
    call = f"from experiments.benchmarks import gpu; gpu.{{}}({dry})"
    ours = [_training("cnnjax", *one) for one in (_DRY_TRAININGS if dry else TRAININGS)]
    peers = [
        _training(worker, *one)
        for worker in ("torch", "keras")
        for one in (_DRY_TRAININGS if dry else TRAININGS)
    ]
    return [
        Section("machine", call.format("machine_here"), 40),
        *ours,
        Section("resume", call.format("resume_here"), 90),
        Section("seeds", call.format("seeds_here"), 60),
        *peers,
        Section("profile", call.format("profile_here"), 60),
        Section("tests", call.format("tests_here"), 90, needs="pytest"),
    ]


def _training(worker: str, net: str, precision: str, steps: int) -> Section:
    from experiments.benchmarks.twins import setting_of

    arguments = (worker, net, steps * setting_of(net).batch, _EPOCHS, precision)
    environment = {
        "cnnjax": {},
        "keras": {
            "KERAS_BACKEND": "jax",
            "JAX_DEFAULT_MATMUL_PRECISION": _PRODUCTS[precision],
        },
        "torch": {"JAX_PLATFORMS": "cpu"},  # which names the layers there, and leaves the GPU alone
    }
    return Section(
        f"train/{net}/{precision}/{worker}",
        f"from experiments.benchmarks import twins; twins.measure_here{arguments!r}",
        needs="jax" if worker == "cnnjax" else worker,
        environment=environment[worker],
    )


def main(config: Config) -> None:
    """Run the sections and print what came of them."""
    began, found = time.monotonic(), {}
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


def machine_here(dry: bool) -> None:
    """Print the machine, the versions and the driver."""
    from cnnjax.core.runtime import code_version, machine, versions

    driver = None
    if shutil.which("nvidia-smi"):
        query = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
        asked = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=False)
        driver = asked.stdout.strip() or asked.stderr.strip()
    peers = {}
    for name in ("torch", "keras"):
        spec = importlib.util.find_spec(name)
        peers[name] = importlib.metadata.version(name) if spec else "not installed"
    facts = {"machine": machine(), "versions": {**versions(), **peers}, "driver": driver}
    print(json.dumps({**facts, "code": code_version()}))


def resume_here(dry: bool) -> None:
    """Train, train and be killed, resume; print whether the bits are the same."""
    hashes, began = {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, kill in (("through", 0), ("killed", 7), ("killed", 0)):
            directory = str(Path(folder) / name)
            code = (
                "from experiments.benchmarks import gpu; "
                f"gpu.train_deterministically({directory!r}, {kill}, {dry})"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=False
            )
            if done.returncode != (-signal.SIGKILL if kill else 0):
                raise RuntimeError(f"status {done.returncode}: {done.stderr[-_LAST_WORDS:]}")
            if not kill:
                hashes[name] = done.stdout.strip().splitlines()[-1]
    same = hashes["through"] == hashes["killed"]
    print(json.dumps({"same_bits": same, **hashes, "trained": round(time.monotonic() - began, 1)}))


def train_deterministically(directory: str, kill: int, dry: bool) -> None:
    """Train into a run directory, or go on with the run there, and print the parameters' hash.

    Args:
        directory: of the run.
        kill: step after which the process kills itself, as a lost machine would; 0: never.
        dry: with a small net.
    """
    import cnnjax as cj
    from experiments.benchmarks.twins import random_data, setting_of

    class Kill(cj.training.Callback):
        every = max(kill, 1)

        def on_step(self, moment: cj.training.Moment) -> None:
            if kill and moment.step >= kill:
                os.kill(os.getpid(), signal.SIGKILL)

    cj.configure_runtime()
    setting = setting_of("mnist_convnet" if dry else "cifar_deep")
    name = "mlp" if dry else "cifar_deep"
    model = cj.create_model(name, input_shape=setting.shape, num_classes=10)
    config = cj.TrainingConfig(
        epochs=2, batch_size=32, deterministic=True, checkpoint_every=2, resume=True
    )
    run = cj.fit(
        model,
        random_data(setting, 320),
        config,
        directory=directory,
        callbacks=[Kill()] if kill else [],
        verbose=False,
    )
    print(run.parameter_hash)


def seeds_here(dry: bool) -> None:
    """Print seconds a replica and step of many seeds at once, and of one after the other."""
    import cnnjax as cj
    from experiments.benchmarks.many_seeds import ways_of

    cj.configure_runtime()
    name, replicas, steps, rounds = ("mlp", 2, 2, 1) if dry else ("mnist_convnet", 32, 20, 3)
    ways = ways_of(name, replicas, 64)
    seconds = {
        way: statistics.median(ways[way](steps) for _ in range(rounds))
        for way in ("alone", "vmapped")
    }
    print(json.dumps({"model": name, "replicas": replicas, "seconds": seconds}))


def profile_here(dry: bool) -> None:
    """Print what steps take of the device."""
    import contextlib
    import io

    import cnnjax as cj
    from experiments.benchmarks.twins import random_data, setting_of

    cj.configure_runtime()
    found = {}
    for name, precision, steps in _DRY_TRAININGS[:1] if dry else TRAININGS[:3]:
        setting = setting_of(name)
        model = cj.create_model(name, input_shape=setting.shape, num_classes=10)
        data = random_data(setting, steps * setting.batch)
        config = cj.TrainingConfig(
            epochs=4,
            batch_size=setting.batch,
            precision=precision,
            steps_per_dispatch=min(steps, 20),
        )
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            profile = cj.training.Profile(folder, steps=2 if dry else 40)
            cj.fit(model, data, config, callbacks=[profile], verbose=False)
        found[f"{name}/{precision}"] = profile.figures
    print(json.dumps({"steps": found}))


def tests_here(dry: bool) -> None:
    """Run a part of the tests on the device and print what came of them."""
    chosen: Sequence[str] = _DRY_TESTS if dry else TESTS
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print(json.dumps({"status": done.returncode, "summary": lines[-1:], "failed": failed}))


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.gpu", description=__doc__))
