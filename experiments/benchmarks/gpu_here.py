"""What the processes of the GPU script do: each prints what it found as JSON, last of all."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_LAST_WORDS = 1500  # letters of an error

# (net, precision, steps of an epoch)
TRAININGS = (
    ("resnet50", "bfloat16", 16),
    ("mnist_convnet", "float32", 900),
    ("cifar_deep", "float32", 300),
    ("cats_convnet", "float32", 100),
    ("resnet50", "float32", 8),
    ("resnet50", "tf32", 16),
)
DRY_TRAININGS = (("mnist_convnet", "float32", 2), ("mnist_convnet", "bfloat16", 2))
EPOCHS = 4

TESTS = (
    "tests/nn/test_layers.py",
    "tests/nn/test_norm.py",
    "tests/training/test_accumulation.py",
    "tests/training/test_remat.py",
    "tests/training/test_profile.py",
)
DRY_TESTS = ("tests/core/test_peaks.py",)


def facts(dry: bool) -> None:
    """Print the machine, the versions and the driver; whether it is a dry run changes nothing."""
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
    device = {"machine": machine(), "driver": driver, "code": code_version()}
    print(json.dumps({**device, "versions": {**versions(), **peers}}))


def resume(dry: bool) -> None:
    """Train, train and be killed, resume; print whether the bits are the same."""
    hashes, began = {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, kill in (("through", 0), ("killed", 7), ("killed", 0)):
            directory = str(Path(folder) / name)
            code = (
                "from experiments.benchmarks import gpu_here; "
                f"gpu_here.train_deterministically({directory!r}, {kill}, {dry})"
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


def seeds(dry: bool) -> None:
    """Print seconds a replica and step of many seeds at once, and of one after the other."""
    import cnnjax as cj
    from experiments.benchmarks.many_seeds import ways_of

    cj.configure_runtime()
    name, replicas, steps, rounds = ("mlp", 2, 2, 1) if dry else ("mnist_convnet", 32, 20, 3)
    ways = ways_of(name, replicas, 64)
    step_seconds = {
        way: statistics.median(ways[way](steps) for _ in range(rounds))
        for way in ("alone", "vmapped")
    }
    print(json.dumps({"model": name, "replicas": replicas, "step_seconds": step_seconds}))


def profile(dry: bool) -> None:
    """Print what steps take of the device."""
    import cnnjax as cj
    from experiments.benchmarks.twins import random_data, setting_of

    cj.configure_runtime()
    found = {}
    for name, precision, steps in DRY_TRAININGS[:1] if dry else TRAININGS[:3]:
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


def tests(dry: bool) -> None:
    """Run a part of the tests on the device and print what came of them."""
    chosen: Sequence[str] = DRY_TESTS if dry else TESTS
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print(json.dumps({"status": done.returncode, "summary": lines[-1:], "failed": failed}))
