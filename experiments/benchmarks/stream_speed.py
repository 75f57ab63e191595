"""Photos that are decoded batch by batch: images/s, waiting, memory, time to the first batch.

A folder of JPEGs is made of real photos (`photo_folder`), and its shards (`cj.data.shard`). Each
measurement is a process of its own, the peers alternate: cnnjax on the folder and on the shards,
by threads, by processes of grain's and with the fast decoder where it is installed, and PyTorch's
DataLoader with as many workers as there are cores, which opens, converts and resizes with Pillow as
torchvision's ImageFolder does. All give shuffled batches of uint8. Keras'
`image_dataset_from_directory` needs TensorFlow: where that is not installed it is left out.

A process reads as fast as it can for some seconds, and then for a device that would take so many
images a second, for which it sleeps: how long it waits for a batch meanwhile, as a share of the
time, is what training would lose. Memory is that of a process and of those it started, what they
share counted once (PSS).

Command:   pip install -e ".[bench,fast,grain]" && \\
           python -m experiments.benchmarks.stream_speed --photos FOLDER [--images 100000]
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

import cnnjax as cj
from cnnjax.core.places import Place, expanded
from experiments.benchmarks.peers import alternate, ratios, spread
from experiments.benchmarks.photo_folder import photo_folder

_OF_A_MEASUREMENT = ("folder", "images", "side", "size", "batch", "seconds", "device")
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    photos: Place = "../shared/data/cats_vs_dogs_small"
    """Holds the JPEGs that the folder is made of."""
    folder: Place = "data/stream_speed"
    """Where folders and shards are made; those that are there stay."""
    images: int = 2000
    """Files of the folder."""
    side: int = 256
    """Of the files, in pixels."""
    size: int = 224
    """Of the batches, in pixels."""
    batch: int = 128
    """Images of a batch."""
    seconds: float = 5.0
    """Of each of the two parts of a measurement."""
    device: float = 400.0
    """Images a second that the device of the second part takes."""
    rounds: int = 3
    """Alternations of all peers."""
    peers: tuple[str, ...] = ()
    """Which of them; default: all that are installed."""
    out: Place | None = None
    """A JSON file for the figures."""
    measure: str | None = None
    """Measure one peer in this process, and print what it did as JSON."""


@dataclass(frozen=True)
class Measured:
    """What one process did.

    Args:
        rate: images/s, as fast as it can.
        cpu: milliseconds of all cores together for an image meanwhile, which bear a busy machine.
        waiting: share of the time of the second part that passed without a batch.
        first: seconds from the first look at the files to the first batch; imports are not counted.
        memory: MiB, the larger of those after the two parts.
    """

    rate: float
    cpu: float
    waiting: float
    first: float
    memory: float


def folder_of(config: Config) -> Path:
    """The folder of JPEGs."""
    return expanded(config.folder) / f"{config.side}x{config.images}"


def shards_of(config: Config) -> Path:
    """Its shards."""
    return expanded(config.folder) / f"{config.side}x{config.images}-shards"


def ours(config: Config, shards: bool, workers: int, decoder: str) -> Iterator[Any]:
    """Batches of cnnjax, without end."""
    data = cj.data.load(
        shards_of(config) if shards else folder_of(config),
        image_size=(config.size, config.size), memory_budget=0, decoder=decoder,
    ).train  # fmt: skip
    loader = cj.data.Loader(data, config.batch, shuffle=True, workers=workers)
    for epoch in itertools.count():
        yield from cj.data.prefetch(loader.epoch(epoch), place=_as_it_is, threaded=True)


def _as_it_is(batch: Any) -> Any:
    return batch


def torch_loader(config: Config) -> Iterator[Any]:
    """Batches of PyTorch's DataLoader, without end."""
    import numpy as np
    import torch
    from PIL import Image

    classes = sorted(os.listdir(folder_of(config)))
    files = [
        (str(folder_of(config) / name / file), label)
        for label, name in enumerate(classes)
        for file in sorted(os.listdir(folder_of(config) / name))
    ]

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            path, label = files[index]
            with Image.open(path) as image:
                photo = image.convert("RGB").resize(
                    (config.size, config.size), Image.Resampling.BILINEAR
                )
            return torch.from_numpy(np.array(photo)), label

    loader = torch.utils.data.DataLoader(
        Photos(), config.batch, shuffle=True, num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )  # fmt: skip
    while True:
        yield from loader


PEERS: dict[str, Callable[[Config], Iterator[Any]]] = {
    "folder": lambda config: ours(config, False, 0, "pillow"),
    "shards": lambda config: ours(config, True, 0, "pillow"),
    "shards, fast": lambda config: ours(config, True, 0, "fast"),
    "shards, grain": lambda config: ours(config, True, os.cpu_count() or 1, "pillow"),
    "torch": torch_loader,
}

_NEEDS = {"shards, fast": "simplejpeg", "shards, grain": "grain", "torch": "torch"}


def measured(config: Config, batches: Iterator[Any]) -> Measured:
    """Read some seconds as fast as can be, then some more as a device would."""
    began = time.perf_counter()
    next(batches)
    first = time.perf_counter() - began
    count, began, cpu = 0, time.perf_counter(), _cpu_seconds()
    while (passed := time.perf_counter() - began) < config.seconds:
        next(batches)
        count += config.batch
    rate, memory, cpu = count / passed, _memory(), _cpu_seconds() - cpu
    waited, began = 0.0, time.perf_counter()
    while (passed := time.perf_counter() - began) < config.seconds:
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
        time.sleep(config.batch / config.device)
    return Measured(rate, 1000 * cpu / count, waited / passed, first, max(memory, _memory()))


def _memory() -> float:
    """MiB of this process and of those it started."""
    total = 0
    for process in _processes():
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _cpu_seconds() -> float:
    """Of this process and of those it started, so far."""
    ticks = 0
    for process in _processes():
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _processes() -> list[str]:
    own = os.getpid()
    of_threads = Path(f"/proc/{own}/task").glob("*/children")  # each thread has those it started
    return [str(own), *(child for file in of_threads for child in file.read_text().split())]


def _measured_apart(config: Config, peer: str) -> Measured:
    """`measured` in a process of its own."""
    options = [f"--{name}={getattr(config, name)}" for name in _OF_A_MEASUREMENT]
    command = [sys.executable, "-m", "experiments.benchmarks.stream_speed", *options]
    done = subprocess.run(
        [*command, f"--measure={peer}"], cwd=_CHECKOUT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{peer}: {done.stderr[-2000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def prepare(config: Config) -> dict[str, float]:
    """Make the folder and its shards; seconds of what was done now."""
    seconds = {}
    steps: dict[str, Callable[[], Any]] = {
        "making the folder": lambda: photo_folder(
            folder_of(config), expanded(config.photos), config.images, config.side
        ),
        "looking at all files": lambda: cj.data.scan_folder(folder_of(config)),
        "looking at them again": lambda: cj.data.scan_folder(folder_of(config)),
        "writing the shards": lambda: cj.data.shard(folder_of(config), shards_of(config)),
        "opening the shards": lambda: cj.data.load(
            shards_of(config), image_size=(config.size, config.size), memory_budget=0
        ),
    }
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - began
        print(f"{name}: {seconds[name]:.2f} s", flush=True)
    return seconds


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    if config.measure is not None:
        print(json.dumps(asdict(measured(config, PEERS[config.measure](config)))))
        os._exit(0)  # other threads and processes are still at the batches after these
    seconds = prepare(config)
    names = [name for name in config.peers or PEERS if _is_there(name)]
    results: dict[str, list[Measured]] = {name: [] for name in names}

    def rate(name: str, _: int) -> float:
        results[name].append(_measured_apart(config, name))
        return results[name][-1].rate

    rates = alternate(names, config.rounds, rate, _show)
    work = f"{config.images:,} JPEGs of {config.side}x{config.side} to {config.size}x{config.size}"
    cores = f"{os.cpu_count()} cores, medians of {config.rounds}"
    print(f"\n{work}, batch {config.batch}, {cores}:")
    for name, all_of_it in results.items():
        rate_, cpu, waiting, first, memory = (
            statistics.median(getattr(one, field) for one in all_of_it)
            for field in ("rate", "cpu", "waiting", "first", "memory")
        )
        beside = spread(ratios(rates[name], rates["torch"])) if "torch" in rates else "-"
        print(f"{name:16} {rate_:7,.0f} images/s  / torch: {beside}  {cpu:.2f} ms CPU an image  "
            f"waiting {waiting:6.1%}  "
              f"first batch {first:5.2f} s  {memory:6,.0f} MiB")  # fmt: skip
    if config.out:
        figures = {name: [asdict(one) for one in some] for name, some in results.items()}
        expanded(config.out).write_text(json.dumps({"seconds": seconds, "peers": figures}))


def _is_there(name: str) -> bool:
    library = _NEEDS.get(name)
    there = library is None or importlib.util.find_spec(library) is not None
    if not there:
        print(f"{name}: left out, as {library} is not installed")
    return there


def _show(number: int, rates: dict[str, float]) -> None:
    shown = "  ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    print(f"round {number + 1}: images/s  {shown}", flush=True)


if __name__ == "__main__":
    cli = tyro.cli(
        Config, prog="python -m experiments.benchmarks.stream_speed", description=__doc__
    )
    main(cli)
