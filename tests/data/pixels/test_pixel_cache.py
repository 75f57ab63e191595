"""Decoded pixels on disk: whatever is done to their files, they are those that were written."""

import json
import os
import shutil
import time
import zlib

import numpy as np
import pytest

from cnnjax.core.storage import write_directory
from cnnjax.data.pixels import cache
from cnnjax.data.pixels.cache import kept_pixels, open_pixels, write_pixels

RNG = np.random.default_rng(0)
SHAPE = (10, 6, 5, 3)
PIXELS = RNG.integers(0, 256, SHAPE, dtype=np.uint8)
OTHERS = {"labels.npy": bytes(range(100)), "encoding.txt": b"PNG"}


def make(folder, pixels=PIXELS):
    write_directory(
        folder,
        lambda beside: write_pixels(
            beside, folder.name, pixels.shape, iter([pixels[:3], pixels[3:3], pixels[3:]]),
            lambda: OTHERS,
        ),
        lambda there: False,
    )  # fmt: skip
    return folder


def opened(folder):
    return open_pixels(folder, others=tuple(OTHERS))


@pytest.fixture(params=[1, 7, 64, 128 + 900, 2**23], ids="blocks of {}".format)
def blocks(request, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", request.param)


@pytest.mark.usefixtures("blocks")
def test_what_was_written_is_opened_and_checked_by_zlib(tmp_path):
    folder = make(tmp_path / "cache")
    np.testing.assert_array_equal(opened(folder), PIXELS)
    kept = json.loads((folder / "checksums.json").read_text())
    assert kept["folder"] == "cache"
    size = cache._BLOCK
    for name, checksums in kept["files"].items():
        content = (folder / name).read_bytes()
        starts = range(0, len(content) + 1, size)
        assert checksums == [zlib.crc32(content[i : i + size]) for i in starts]


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "encoding.txt", "checksums.json"])
def test_no_flip_cut_or_addition_goes_unnoticed(tmp_path, file, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 300)
    folder = make(tmp_path / "cache")
    whole = (folder / file).read_bytes()
    for position in RNG.integers(0, len(whole), 25).tolist():
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(RNG.integers(8))
        for damaged in (bytes(flipped), whole[:position], whole + b"\0" * (position + 1)):
            (folder / file).write_bytes(damaged)
            assert opened(folder) is None
    (folder / file).unlink()
    assert opened(folder) is None
    os.mkfifo(folder / file)
    assert opened(folder) is None
    (folder / file).unlink()
    (folder / file).write_bytes(whole)
    assert opened(folder) is not None


def test_two_blocks_that_change_places_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 128)
    folder = make(tmp_path / "cache")
    content = (folder / "images.npy").read_bytes()
    swapped = content[:128] + content[256:384] + content[128:256] + content[384:]
    (folder / "images.npy").write_bytes(swapped)
    assert opened(folder) is None


def test_files_of_another_cache_are_not_taken_for_these(tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other", 255 - PIXELS)
    shutil.copy(other / "images.npy", one / "images.npy")
    assert opened(one) is None
    shutil.copy(other / "checksums.json", one / "checksums.json")
    assert opened(one) is None
    shutil.rmtree(one)
    shutil.move(other, one)
    assert opened(one) is None


def test_a_cache_without_checksums_is_made_again(tmp_path):
    folder = make(tmp_path / "cache")
    (folder / "checksums.json").unlink()
    assert opened(folder) is None
    for kept in ("[]", "{}", "[" * 100_000, '{"folder": "cache", "files": 3}', "null"):
        (folder / "checksums.json").write_text(kept)
        assert opened(folder) is None
    np.testing.assert_array_equal(kept_pixels(folder, SHAPE, iter([PIXELS])), PIXELS)
    np.testing.assert_array_equal(open_pixels(folder), PIXELS)


def test_a_large_cache_is_compared_again_once_its_file_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHECKED", 10)
    compared = []
    checksums = cache._checksums
    monkeypatch.setattr(
        cache, "_checksums", lambda file: compared.append(file.name) or checksums(file)
    )
    folder = make(tmp_path / "cache")
    compared.clear()
    for wanted in (["images.npy"], []):
        assert opened(folder) is not None
        assert [name for name in compared if name == "images.npy"] == wanted
        compared.clear()
    content = (folder / "images.npy").read_bytes()
    state = (folder / "images.npy").stat()
    time.sleep(0.02)
    (folder / "images.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(folder / "images.npy", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert opened(folder) is None
    (folder / "images.npy").write_bytes(content)
    assert opened(folder) is not None
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "cache")
    compared.clear()
    assert opened(copy) is not None
    assert "images.npy" in compared


def test_opening_takes_milliseconds(tmp_path):
    folder = make(tmp_path / "cache", np.zeros((60_000, 28, 28, 1), np.uint8))
    start = time.perf_counter()
    assert opened(folder) is not None
    assert time.perf_counter() - start < 0.2
