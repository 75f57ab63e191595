"""A disk that takes no more: one error with the file's name, and nothing left beside it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file

import cnnjax as cj
from cnnjax import plot
from cnnjax.core import storage, trees
from cnnjax.plot import figures
from cnnjax.weights import load_safetensors, save_npz, save_safetensors, write_weights_h5


@contextmanager
def a_small_disk(size: int = 4096) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def model() -> cj.Model:
    """Of 40,000 bytes and more."""
    return cj.create_model("mlp", input_shape=(10, 10, 1), num_classes=3, units=(100,))


def image() -> Figure:
    """Whose file has more than 4096 bytes."""
    figure = Figure(figsize=(3, 3))
    noise = np.random.default_rng(0).random((99, 99))
    figure.add_axes((0, 0, 1, 1)).imshow(noise, interpolation="nearest")
    return figure


WRITERS: dict[str, Callable[[cj.Model, Path], object]] = {
    "export.weights.h5": cj.export_weights,
    "export.safetensors": cj.export_weights,
    "export.npz": cj.export_weights,
    "saved": cj.save,
    "figure.png": lambda model, path: figures.save(image(), path),
    "gallery.png": lambda model, path: plot.save_image(path.parent, path.stem, image()),
    "text.json": lambda model, path: storage.write_text(path, "a" * 5000),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [0, 1, 4095])
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    name: str, size: int, model: cj.Model, tmp_path: Path
) -> None:
    with a_small_disk(size), pytest.raises(OSError) as caught:  # noqa: PT011
        WRITERS[name](model, tmp_path / name)
    assert caught.value.errno == errno.EFBIG
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_there_before_stays(name: str, model: cj.Model, tmp_path: Path) -> None:
    WRITERS[name](model, tmp_path / name)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    with a_small_disk(), pytest.raises(OSError):  # noqa: PT011
        WRITERS[name](model, tmp_path / name)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_the_bytes_are_those_of_the_libraries_own_writers(tmp_path: Path) -> None:
    """safetensors' save_file; for HDF5 what h5py reads."""
    tree = {"b": {"kernel": np.arange(6, dtype=np.float32)}, "a": {"bias": np.zeros((2, 0))}}
    save_safetensors(tree, tmp_path / "ours.safetensors")
    flat = trees.flatten(tree)
    hashes = {name: trees.leaf_hash(array) for name, array in flat.items()}
    save_file(flat, tmp_path / "theirs.safetensors", metadata=hashes)
    ours, theirs = ((tmp_path / f"{who}.safetensors").read_bytes() for who in ("ours", "theirs"))
    assert len(ours) == len(theirs)  # the order of the metadata is left to chance there
    np.testing.assert_array_equal(
        load_safetensors(tmp_path / "theirs.safetensors")["b"]["kernel"], tree["b"]["kernel"]
    )
    write_weights_h5([("first", "dense", tree["b"])], tmp_path / "ours.weights.h5")
    with h5py.File(tmp_path / "ours.weights.h5") as file:
        np.testing.assert_array_equal(file["layers/dense/vars/0"][()], tree["b"]["kernel"])
        assert file["layers/dense/vars"].attrs["name"] == "first"


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe"])
@pytest.mark.parametrize("write", [save_npz, save_safetensors])
def test_a_pipe_or_device_is_not_replaced(
    kind: str, write: Callable[..., None], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    if kind == "device":
        place = Path("/dev/null")
    else:
        os.mkfifo(tmp_path / "pipe")
        place.symlink_to(tmp_path / "pipe") if "link" in kind else (tmp_path / "pipe").rename(place)
    with pytest.raises(OSError, match="not a regular file, which is not replaced"):
        write({"a": {"b": np.zeros(3)}}, place)
    assert place.exists()
    assert not place.is_file()
