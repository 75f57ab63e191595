"""Arrays beyond the memory budget lie on disk, and are the same."""

import gzip
import mmap
import os
import resource
import struct

import numpy as np
import pytest

from cnnjax.data import from_source, load
from cnnjax.data.readers.idx import read_idx
from cnnjax.data.room import room

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.arange(6, dtype=np.uint8) % 2


def write_npz(folder):
    np.savez(folder / "a.npz", x_train=IMAGES, y_train=LABELS)
    return folder / "a.npz"


def write_packed_npz(folder):
    np.savez_compressed(folder / "a.npz", x_train=IMAGES, y_train=LABELS)
    return folder / "a.npz"


def write_idx(folder, opened=open, suffix=""):
    for array, name in ((IMAGES, "images-idx3"), (LABELS, "labels-idx1")):
        with opened(folder / f"train-{name}-ubyte{suffix}", "wb") as file:
            file.write(struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape))
            file.write(array.tobytes())
    return folder


def write_packed_idx(folder):
    return write_idx(folder, gzip.open, ".gz")


def base_of(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.parametrize("write", [write_npz, write_packed_npz, write_idx, write_packed_idx])
def test_an_array_beyond_the_budget_is_mapped(tmp_path, monkeypatch, write):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    source = write(tmp_path)
    kept, mapped = load(source).train, load(source, memory_budget=100).train
    assert isinstance(base_of(kept.inputs), bytearray)
    assert isinstance(base_of(mapped.inputs), mmap.mmap)
    np.testing.assert_array_equal(mapped.inputs[..., 0], IMAGES)
    np.testing.assert_array_equal(mapped.labels, LABELS)
    assert mapped.fingerprint == kept.fingerprint
    assert not os.listdir(tmp_path / "cache" / "data")  # gone with the arrays, whatever happens


def test_a_full_disk_is_an_error_and_not_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    source = tmp_path / "a.npz"
    np.savez_compressed(source, x=np.zeros((2, 200, 200), np.uint8), y=LABELS[:2])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/data'"):
            room(60_000, 0)
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/data'"):
            load(source, memory_budget=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("budget", [-1, float("nan"), "4 GB", None])
def test_a_budget_that_is_none_is_refused(tmp_path, budget):
    file = write_idx(tmp_path) / "train-images-idx3-ubyte"
    for read in (
        lambda: load("digits", memory_budget=budget),
        lambda: read_idx(file, budget),
        lambda: from_source([(IMAGES[0], 0), (IMAGES[1], 1)], memory_budget=budget),
    ):
        with pytest.raises(ValueError, match="memory_budget must be a finite number >= 0, got "):
            read()
