"""What a folder of a million files costs before the first image is decoded: seconds and memory.

The files are hard links to a few, in class folders of 1,000, so that a million of them are made in
a minute; what a first look at them would have found is written down for them, as if each had a
content of its own. Measured is, in a process of its own, what every start of a training does: to
see that no file's name, size or time has changed, the data set, and orders of epochs.

Command:   python -m experiments.benchmarks.folder_listing [--files 1280000]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

import cnnjax as cj
from cnnjax.core.places import Place, expanded
from cnnjax.core.storage import staged
from cnnjax.data.readers import scan
from cnnjax.data.readers.folders import paths_below

_CHECKOUT = Path(__file__).resolve().parents[2]
_IN_A_FOLDER = 1000
_LINKS = 50_000  # that one file may have on any usual file system


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    files: int = 1_280_000
    """As many as ImageNet has images to train on."""
    folder: Place = "data/folder_listing"
    """Where the folder is made; one that is there stays."""
    measure: bool = False
    """Measure in this process."""


def made(config: Config) -> Path:
    """The folder of so many files."""
    target = expanded(config.folder).absolute() / str(config.files)
    if target.is_dir():
        return target
    with staged(target) as staging:
        built = staging / "built"
        for label in range(-(-config.files // _IN_A_FOLDER)):
            (built / f"class{label:04d}").mkdir(parents=True)
        for number in range(config.files):
            source = staging / f"{number // _LINKS}.png"
            if not source.exists():
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(source)
            label, place = divmod(number, _IN_A_FOLDER)
            os.link(source, built / f"class{label:04d}" / f"n{label:08d}_{place:04d}.png")
        built.rename(target)
    return target


def write_down(folder: Path) -> None:
    """What a first look would have found, of files that differ in their content."""
    candidates = [scan.Candidate("train", 0, file) for file in paths_below(folder)]
    memory = scan._memory_of(folder, candidates)
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps([(f"{n:032x}", "") for n in range(len(candidates))]))


def measure(folder: Path) -> None:
    """Print the steps of a start, each with its seconds and the memory so far."""
    _show("import", 0.0)
    began = time.perf_counter()
    splits = cj.data.load(folder, image_size=(224, 224), memory_budget=0)
    _show("load", time.perf_counter() - began)
    began = time.perf_counter()
    splits = splits.with_validation(0.02)
    _show("set a validation part aside", time.perf_counter() - began)
    loader = cj.data.Loader(splits.train, 256, shuffle=True)
    for epoch in range(3):
        began = time.perf_counter()
        loader.order(epoch)
        _show(f"order of epoch {epoch}", time.perf_counter() - began)
        time.sleep(1.0)  # an epoch


def _show(what: str, seconds: float) -> None:
    # Not `getrusage`, whose peak begins with that of the process which started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    print(f"{what:28} {seconds:7.2f} s  peak memory so far {memory:7,.0f} MiB", flush=True)


def main(config: Config) -> None:
    """Make the folder, and measure in a process of its own."""
    if config.measure:
        measure(made(config))
        return
    write_down(made(config))
    print(f"{config.files:,} files")
    options = [f"--files={config.files}", f"--folder={config.folder}", "--measure"]
    command = [sys.executable, "-m", "experiments.benchmarks.folder_listing", *options]
    subprocess.run(command, cwd=_CHECKOUT, check=True)


if __name__ == "__main__":
    program = "python -m experiments.benchmarks.folder_listing"
    main(tyro.cli(Config, prog=program, description=__doc__))
