"""Mutated files of data: data, or one line on what is wrong; no hang and no other error."""

import gzip
import io
import random
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import Vocabulary, load, load_series, load_texts

pytestmark = pytest.mark.thorough

MUTATIONS = 5000  # of each format
SMOKE = 40
LONGEST = 10.0  # seconds that a single file may take

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.arange(6, dtype=np.uint8) % 3

# Bytes that mean something to one of the formats.
TOKENS = (
    b"\0", b"\n", b"\r", b'"', b",", b";", b"\t", b"(", b")", b"{", b"[", b"]", b"'", b"-", b".",
    b"1e999", b"nan", b"99999999999", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\xa9", b"e\xcc\x81",
    b"\x1b[2J", b"../", b"/dev/zero", b"01", b"1.0", b"13/13/2020", b"L", b"|O", b"\xff" * 4,
)  # fmt: skip


def npz(folder: Path) -> tuple[Path, bytes]:
    stream = io.BytesIO()
    save = np.savez_compressed if folder.name.endswith("1") else np.savez
    save(stream, x=IMAGES, y=LABELS, label_names=["a", "b", "c"])
    return folder / "a.npz", stream.getvalue()


def idx(folder: Path) -> tuple[Path, bytes]:
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 6) + LABELS.tobytes()
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    images = bytes([0, 0, 8, 3]) + struct.pack(">3I", *IMAGES.shape) + IMAGES.tobytes()
    return folder / "train-images-idx3-ubyte", images


def packed_idx(folder: Path) -> tuple[Path, bytes]:
    file, content = idx(folder)
    return file.with_name(f"{file.name}.gz"), gzip.compress(content, mtime=0)


def table(folder: Path) -> tuple[Path, bytes]:
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{i}.png")
    parts = ("train", "train", "train", "train", "test", "val")
    rows = [f'{i}.png,"{i % 2}",{part}' for i, part in enumerate(parts)]
    return folder / "a.csv", "\n".join(["path,label,split", *rows, ""]).encode()


def rows(folder: Path) -> tuple[Path, bytes]:
    lines = [f'"film, {word} ones",{i % 2}.0' for i, word in enumerate(("a", "b", "c", "d", "é"))]
    return folder / "a.csv", "\r\n".join(["text,label", *lines, ""]).encode()


def series(folder: Path) -> tuple[Path, bytes]:
    lines = [f"{1 + i % 28:02}/{1 + i // 28:02}/2020 10:00,{i}.5,x" for i in range(40)]
    return folder / "a.csv", "\n".join(["date,load,note", *lines, ""]).encode()


def vocabulary(folder: Path) -> tuple[Path, bytes]:
    Vocabulary(("the", "film", "é")).save(folder / "v.json")
    return folder / "v.json", (folder / "v.json").read_bytes()


FORMATS: dict[str, tuple[Callable[[Path], tuple[Path, bytes]], Callable[[Path], object]]] = {
    "npz": (npz, load),
    "idx": (idx, load),
    "idx.gz": (packed_idx, load),
    "csv of images": (table, lambda file: load(file, image_size=(5, 4))),
    "csv of texts": (rows, lambda file: load_texts(file, length=4)),
    "csv of a series": (series, lambda file: load_series(file, "load", length=3, horizon=2)),
    "vocabulary": (vocabulary, Vocabulary.load),
}


def mutated(content: bytes, choose: random.Random) -> bytes:
    """One to four changes: a bit, a byte, a token, a cut, a part left out or standing twice."""
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        place = choose.randrange(len(changed) + 1)
        end = min(place + choose.choice((1, 2, 4, 16, 100)), len(changed))
        kind = choose.randrange(7)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << choose.randrange(8)
        elif kind == 1 and place < len(changed):
            changed[place] = choose.randrange(256)
        elif kind == 2:
            changed[place:place] = choose.choice(TOKENS)
        elif kind == 3:
            token = choose.choice(TOKENS)
            changed[place : place + len(token)] = token
        elif kind == 4:
            del changed[place:end]
        elif kind == 5:
            changed[place:place] = changed[place:end]
        elif kind == 6 and choose.randrange(8) == 0:
            del changed[place:]
    return bytes(changed)


def repacked(content: bytes, choose: random.Random) -> bytes:
    """A mutation; of gzip half of the time of what is within: packed bits rarely get there."""
    if content[:2] != b"\x1f\x8b" or choose.random() < 0.5:
        return mutated(content, choose)
    return gzip.compress(mutated(gzip.decompress(content), choose), 1, mtime=0)


def refused(file: Path, read: Callable[[Path], object], number: int) -> Exception | None:
    """The error of a documented type that reading raises; None where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(file)
    except (ValueError, FileNotFoundError) as error:
        return error
    except Exception as error:
        error.add_note(f"mutation {number}: {file.read_bytes()[:500]!r}")
        raise
    return None


def check(name: str, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Read so many mutations of a format; how many were read and how many refused."""
    make, read = FORMATS[name]
    file, content = make(folder)
    choose = random.Random(f"{name} {seed}")
    outcomes = {"read": 0, "refused": 0}
    for number in range(count):
        file.write_bytes(repacked(content, choose))
        began = time.monotonic()
        refusal = refused(file, read, number)
        outcomes["read" if refusal is None else "refused"] += 1
        if refusal is not None:
            text = str(refusal)
            assert type(refusal) is not UnicodeDecodeError, f"mutation {number}"
            assert file.name in text or str(folder) in text, f"mutation {number}: {text!r}"
            assert text.isprintable(), f"mutation {number}: {text!r}"
            assert len(text) < 2000, f"mutation {number}: {text!r}"
        assert time.monotonic() - began < LONGEST, f"mutation {number}"
    return outcomes


@pytest.mark.parametrize("name", FORMATS)
def test_some_mutations_are_read_or_refused_in_one_line(tmp_path, name):
    assert sum(check(name, tmp_path, SMOKE, seed=0).values()) == SMOKE


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_mutations_are_read_or_refused_in_one_line(tmp_path, name):
    outcomes = check(name, tmp_path, MUTATIONS, seed=1)
    print(name, outcomes)
    assert min(outcomes.values()) > 0
