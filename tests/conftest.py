"""Shared fixtures: real data where it is at hand, a compilation cache, small data sets."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import Server

# Before Keras is imported anywhere: the oracle runs on JAX.
os.environ.setdefault("KERAS_BACKEND", "jax")
# Most of the time of most tests goes into compiling, which takes less than half as long this way.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled programs are kept between tests and runs; decoded data only for this session."""
    import jax

    from cnnjax.core.runtime import configure_runtime

    configure_runtime(allocator=False)
    os.environ["CNNJAX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    # A strange type or rank is an error here, not a silent promotion.
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def _few_programs() -> Iterator[None]:
    """Programs are dropped before their memory maps reach what Linux allows a process (65,530).

    With a single worker, which runs all tests, XLA would crash there.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
        import jax

        from cnnjax.training import shared

        shared.forget()
        jax.clear_caches()


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
