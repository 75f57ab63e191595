"""Arguments and surroundings that cannot be meant: one line and an exit status, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, environment
from PIL import Image

import cnnjax as cj
from cnnjax.cli.parser import parse

Output = tuple[str, str]
BIG = str(2**63)
LONG = "a" * 5000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image, a folder of images, a saved model, a pipe."""
    root = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    for label in "ab":
        (root / "images" / label).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / label / f"{number}.png")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(root / "digit.png")
    cj.save(cj.create_model("lenet", num_classes=2), root / "model")
    os.mkfifo(root / "pipe")
    return root


SMALL = "--set units=2, --input-shape 3 3 1"

CASES = [
    # arguments, status, words of the line
    (f"summary lenet --input-shape {BIG} {BIG} 1", 1, "input_shape must be of numbers up to"),
    ("summary lenet --input-shape 0 0 1", 1, "input_shape must be (height, width, channels)"),
    ("summary lenet --input-shape ² 28 1", 2, "Error parsing --input-shape"),
    (f"summary lenet --num-classes {BIG}", 1, "num_classes must be at most 4294967295"),
    ("summary lenet --num-classes -1", 1, "num_classes must be a whole number >= 1, got -1"),
    ("summary mobilenet --alpha nan", 1, "must be one of 0.25, 0.5, 0.75, 1.0, got nan"),
    ("summary mobilenet --alpha 1 --alpha 1", 2, "--alpha is given twice"),
    ("summary lenet --num-classes 2 --num-classes=3", 2, "--num-classes is given twice"),
    ("summary mlp --set units=1 --set units=2", 1, "units is given twice"),
    (f"summary mlp --set units={'(' * 3000}", 1, "units must be whole numbers >= 1"),
    ("summary ~no.such.user/x", 2, "~no.such.user/x begins with a user who has no home"),
    ("summary EMPTY", 2, "model: the path is empty"),
    (f"summary {LONG}", 1, "File name too long"),
    ("filters model --layer conv1 --size 1000000", 1, "size must be at most 4096, got 1000000"),
    (f"filters model --layer conv1 --steps {BIG}", 1, "steps must be at most 4294967295"),
    ("filters model --layer conv1 --seed -1", 1, "seed must lie in [0, 2^32), got -1"),
    (f"filters model --layer conv1 --filters {BIG}", 1, "layer 'conv1' has no filter 92233"),
    ("filters ~no.such.user --layer conv1", 2, "begins with a user who has no home"),
    ("filters model --layer conv1 --layer conv2", 2, "--layer is given twice"),
    (f"predict model digit.png --top {BIG}", 1, "top must be at most 4294967295"),
    ("predict model digit.png --top 0", 1, "top must be a whole number >= 1, got 0"),
    ("predict model EMPTY", 2, "the path is empty"),
    ("predict model images", 1, "images: not a readable image"),
    ("predict digit.png model", 1, "digit.png does not exist or is no directory"),
    (f"predict --model mlp {SMALL} --weights EMPTY digit.png", 2, "--weights: the path is empty"),
    (f"predict --model mlp {SMALL} --weights pipe digit.png", 1, "weight file pipe is a pipe"),
    (f"predict --model mlp {SMALL} --weights /dev/zero digit.png", 1, "/dev/zero is a device"),
    (f"predict --model mlp {SMALL} --weights model digit.png", 1, "weight file model is a dir"),
    ("gradcam model digit.png --target 0 --out digit.png", 1, "File exists: 'digit.png'"),
    (f"gradcam model digit.png --target {BIG} --out g", 1, "is out of range"),
    ("gradcam model digit.png --target ² --out g", 1, "target='²'"),
    (f"data info images --image-size {BIG} {BIG}", 1, "image_size must be (height, width)"),
    ("data info images --image-size 1000000 1000000", 1, "there is not enough memory"),
    ("data info pipe", 1, "data set 'pipe' was not found"),
    ("data info ~no.such.user", 2, "begins with a user who has no home"),
    ("data scan EMPTY", 2, "the path is empty"),
    ("data scan pipe", 1, "does not exist, or is a file"),
    (f"data show images --per-class {BIG} --out x.png", 1, "per_class must be at most"),
    ("data show images --seed -1 --out x.png", 1, "seed must lie in [0, 2^32), got -1"),
    ("data show images --out images/a/0.png", 1, "lies in the folder of the data set"),
    ("data show images --out images/c/../sheet.png", 1, "lies in the folder of the data set"),
    ("data show images --out pipe", 1, "--out must be a .png file, got pipe"),
    (f"data show images --out {LONG}.png", 1, "File name too long"),
    ("data show images --seed 1 --out x.png --seed 2", 2, "--seed is given twice"),
    ("data list --data-dir ~no.such.user", 2, "begins with a user who has no home"),
    ("data prepare mnist --data-dir digit.png", 1, "digit.png is a file: give a directory"),
    ("report digit.png", 1, "digit.png"),
    ("results digit.png", 1, "digit.png does not exist or is no folder"),
    ("results --out EMPTY", 2, "--out: the path is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "words"), CASES, ids=[c[0][:60] for c in CASES])
@pytest.mark.thorough
def test_one_line(
    arguments: str,
    status: int,
    words: str,
    cnnjax: Callable[..., Output],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = {f: f.read_bytes() for f in sorted(place.rglob("*")) if f.is_file()}
    given = ["" if word == "EMPTY" else word for word in arguments.split()]
    out, err = cnnjax(*given, status=status)
    assert out == ""
    last = err.splitlines()[-1]
    assert "error: " in last
    assert words in last
    # Of files it is said that they are read.
    more = [line for line in err.splitlines()[:-1] if not line.startswith("reading ")]
    assert not more
    assert {f: f.read_bytes() for f in sorted(place.rglob("*")) if f.is_file()} == before


def test_an_output_that_is_a_pipe_is_not_replaced(
    cnnjax: Callable[..., Output], place: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "sheet.png")
    _, err = cnnjax("data", "show", place / "images", "--out", tmp_path / "sheet.png", status=1)
    assert "not a regular file, which is not replaced" in err
    assert (tmp_path / "sheet.png").is_fifo()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["--data-dir=a", "--data_dir", "b"], "--data-dir is given twice"),
        (["--out", ""], "--out: the path is empty"),
        (["--out", "~no.such.user/x"], "--out: the path ~no.such.user/x begins with a user who"),
        (["--data", "~no.such.user"], "--data: the path ~no.such.user begins with a user who"),
        (["--seed", "\x1b[2J"], "Error parsing --seed"),
        (["--seed", "²"], "Error parsing --seed"),
        (["--nonsense\x1b\x07"], "Unrecognized"),
    ],
)
def test_options_of_experiments(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cnnjax.recipes import Options

    monkeypatch.delenv("CNNJAX_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop:
        parse(Options, arguments, "quickstart")
    assert stop.value.code == 2
    _, err = capsys.readouterr()
    assert words in err
    assert all(c.isprintable() or c == "\n" for c in err)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("{} list | head -1", 0, ""),
        ("{} list >&-", 0, ""),
        ("{} list <&- 2>&- | cat", 0, ""),
        ("{} list >/dev/full", 1, "error: [Errno 28] No space left on device\n"),
        ("{} summary nothing 2>/dev/full", 1, ""),
        ("{} summary nothing 2>&-", 1, ""),
        ("PYTHONIOENCODING=ascii {} list", 0, ""),
        ("HOME= XDG_CACHE_HOME= CNNJAX_CACHE_DIR= TMPDIR=/nonexistent {} list", 0, ""),
        (
            "TFDS_DATA_DIR='~no.such.user' {} data list", 1,
            "error: the path ~no.such.user begins with a user who has no home directory here\n",
        ),
        ("{} summary $'a\\xffb\\x9b' 2>&1 | grep -c 'error: .*a.udcffb'", 0, ""),
    ],
)  # fmt: skip
@pytest.mark.thorough
def test_streams_and_surroundings(shell: str, status: int, said: str) -> None:
    command = f"set -o pipefail; {shell.format(f'{sys.executable} -m cnnjax')}"
    if "|" in shell:
        command += "; exit ${PIPESTATUS[1]}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (status, said)
