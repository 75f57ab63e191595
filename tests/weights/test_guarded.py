"""HDF5 files that crash their reader or never let it go, and the process that reads them."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import cnnjax
from cnnjax.weights import DamagedWeights, guarded, read_weights

FILES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "files"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.eye(3, dtype=np.float32)
    return path


class Instead:
    """Starts something else in place of the reader."""

    def __init__(self, monkeypatch, code):
        def start(path, member, seconds):
            return subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )

        monkeypatch.setattr(guarded, "_start", start)


READY = "import os, sys, time; os.write(1, b'R'); "


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_is_one_line(how, small, monkeypatch):
    Instead(monkeypatch, f"{READY} os.kill(os.getpid(), {int(how)})")
    with pytest.raises(DamagedWeights, match=r"is damaged: reading it crashes the HDF5 library$"):
        read_weights(small)


@pytest.mark.parametrize("waiting", ["time.sleep(60)", "[0 for _ in iter(int, 1)]"])
def test_what_never_ends_is_ended(waiting, small, monkeypatch):
    monkeypatch.setattr(guarded, "_SECONDS", 0.1)
    Instead(monkeypatch, READY + waiting)
    start = time.monotonic()
    with pytest.raises(DamagedWeights, match=r"is damaged: reading it does not end$"):
        read_weights(small)
    assert time.monotonic() - start < 5


def test_a_reader_that_cannot_start_says_so(small, monkeypatch):
    Instead(monkeypatch, "raise SystemExit(1)")
    with pytest.raises(DamagedWeights, match=r"cannot be read: .*python.* did not start h5py"):
        read_weights(small)


@pytest.mark.sample(1)
@pytest.mark.skipif(not FILES.is_dir(), reason=f"needs {FILES}")
@pytest.mark.parametrize("name", ["flipped_hangs.h5", "flipped_segfaults.weights.h5"])
@pytest.mark.thorough
def test_files_with_one_flipped_bit(name):
    start = time.monotonic()
    with pytest.raises(DamagedWeights, match=r"is damaged: reading it (does not end|crashes)"):
        read_weights(FILES / name)
    assert time.monotonic() - start < 10


@pytest.mark.thorough
def test_the_reader_is_quick(small):
    read_weights(small)
    times = []
    for _ in range(5):
        start = time.monotonic()
        read_weights(small)
        times.append(time.monotonic() - start)
    assert min(times) < 0.5  # the others wait for other work of the machine


def test_nothing_is_left_of_it(small):
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("needs Linux")
    before, handles = children.read_text(), len(os.listdir("/proc/self/fd"))
    read_weights(small)
    assert children.read_text() == before
    assert len(os.listdir("/proc/self/fd")) == handles


@pytest.mark.thorough
def test_a_script_without_a_main_guard_from_another_folder(small, tmp_path):
    """Modules in the working directory are not imported in place of the real ones."""
    (tmp_path / "h5py.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')")
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "script.py").write_text(
        f"from cnnjax.weights import read_weights\nprint(read_weights({str(small)!r}).layers[0])\n"
    )
    root = str(Path(cnnjax.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(folder / "script.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "StoredLayer(name='dense'" in done.stdout


def test_a_name_with_spaces_and_dashes(small):
    path = small.rename(small.with_name("-x y'\"ü.weights.h5"))
    assert np.array_equal(read_weights(path).layers[0].arrays["0"], np.eye(3))


def test_values_come_as_they_are(tmp_path):
    """Other orders of bytes and axes, chunks, compression, no values at all."""
    values = np.random.default_rng(0).normal(size=(40, 30))
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group["0"] = values.astype(">f4")
        group["1"] = values.astype("<f8")
        group.create_dataset("2", data=values.astype("f2"), chunks=(7, 7), compression="gzip")
        group.create_dataset("3", data=values.astype("f4"), shuffle=True, compression="lzf")
        group["4"] = np.zeros((0, 3), "f4")
        group["5"] = np.float32(3)
    arrays = list(read_weights(path).layers[0].arrays.values())
    single = values.astype(np.float32)
    for i in (0, 1, 3):
        assert np.array_equal(arrays[i], single)
    assert np.array_equal(arrays[2], values.astype(np.float16))
    assert arrays[4].shape == (0, 3)
    assert arrays[5] == 3
    assert all(array.dtype == np.float32 for array in arrays)


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["plain", "stored", "deflated"])
def test_large_arrays_lie_in_the_file_as_they_are(kind, tmp_path):
    """They are not sent: above a MiB, of these types of numbers, in one piece."""
    values = np.random.default_rng(0).normal(size=(700, 800)).astype(np.float32)
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group["0"] = values
        group["1"] = values.astype(">f4")
        group["2"] = values.astype("f8")
        group["3"] = values.astype("f2")
        group.create_dataset("4", data=values, chunks=(70, 80))
        group.create_dataset("5", (700, 800), "f4", fillvalue=2)
        group["6"] = values.view("u2").reshape(700, 1600).view("V2")[:, 1::2]
    if kind in ("stored", "deflated"):
        archive = tmp_path / "m.keras"
        how = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(archive, "w", how) as file:
            file.writestr("metadata.json", "{}")
            file.write(path, "model.weights.h5")
        path = archive
    arrays = list(read_weights(path).layers[0].arrays.values())
    for i in (0, 1, 2, 4):
        assert np.array_equal(arrays[i], values)
    assert np.array_equal(arrays[3], values.astype(np.float16))
    assert (arrays[5] == 2).all()
    np.testing.assert_allclose(arrays[6], values, rtol=0.01)
