"""Shared fixtures: real data where it is at hand, a compilation cache, small data sets."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import CACHE
from servers import Server

# Before Keras is imported anywhere: the oracle runs on JAX.
os.environ.setdefault("KERAS_BACKEND", "jax")
# Most of the time of most tests goes into compiling, which takes less than half as long this way.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"
# Above so much memory, or so many maps of it, a worker drops its compiled programs: Linux allows
# 65,530 maps, beyond which XLA would crash.
MOST_BYTES, MOST_MAPS = 1_200_000_000, 40_000


@pytest.hookimpl(tryfirst=True)  # before the choice by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `sample(n)` the cases after the first n become thorough."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        sample = item.get_closest_marker("sample")
        if sample and not item.get_closest_marker("thorough"):
            test = item.path, item.originalname
            seen[test] += 1
            if seen[test] > sample.args[0]:
                item.add_marker("thorough")


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled programs are kept between tests and runs, also those of other processes; decoded
    data only for this session.
    """
    import jax

    from cnnjax.core.runtime import configure_runtime
    from cnnjax.training import fit

    # Each report takes time; tests of reports ask for them.
    fit.__wrapped__.__kwdefaults__["report"] = False
    configure_runtime(allocator=False, compilation_cache=CACHE / "xla")
    os.environ["CNNJAX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    # A strange type or rank is an error here, not a silent promotion.
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def _few_programs() -> Iterator[None]:
    """Between modules programs are dropped where a process has become large.

    The compilation cache has them where another module needs them again.
    """
    yield
    if _resident() < MOST_BYTES and _maps() < MOST_MAPS:
        return
    import jax

    from cnnjax.training import shared

    shared.forget()
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _maps() -> int:
    """Memory maps of this process; 0 where there is no /proc."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where there is no /proc."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * resource.getpagesize() if pages.exists() else 0


@pytest.fixture(scope="session")
def tfds_dir() -> Path:
    folder = Path(os.environ.get("TFDS_DATA_DIR") or SHARED / "data" / "tfds")
    if not (folder / "mnist").is_dir():
        pytest.skip(f"needs real data: no {folder / 'mnist'}")
    return folder


@pytest.fixture
def squares() -> tuple[np.ndarray, np.ndarray]:
    """96 images 12x12 of three classes that a small net learns at once: where the square lies."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 3
    images = rng.integers(0, 40, (96, 12, 12, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3:9, 4 * label : 4 * label + 4] += 200
    return images, labels.astype(np.int32)


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server, by default of one file."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nothing listens: bound, so that nobody else gets the port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/file.bin"


@pytest.fixture
def cnnjax(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, str]]:
    """Runs a verb in this process and checks its exit status: cnnjax("list", status=0)."""
    from cnnjax import cli

    for name in ("CNNJAX_COMPILATION_CACHE", "CNNJAX_ALLOCATOR"):
        monkeypatch.setenv(name, "0")  # the settings of this process stay
    monkeypatch.delenv("CNNJAX_TRACEBACK", raising=False)

    def call(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
        found: object = 0
        capsys.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            found = stop.code
        out, err = capsys.readouterr()
        assert found == status, out + err
        return out, err

    return call
