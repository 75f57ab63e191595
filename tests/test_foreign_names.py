"""Names that hold what a terminal obeys: whatever verb prints them, they come out as text."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.core import progress, terminal
from cnnjax.core.places import expanded
from cnnjax.runs.report import write_report
from cnnjax.runs.seal import sealed

Output = tuple[str, str]
SMALL = ("mlp", "--input-shape", "3", "3", "1", "--set", "units=2,", "--num-classes", "2")

# Clear the screen, ring, begin a line, write backwards, a C1 control, the title of the window.
FOREIGN = "a\x1b[2J\x07\nerror: b\u202e\x9b1m\x1b]0;t"


def check(*texts: str, lines: int | None = None) -> None:
    """Every character is printable but the newlines that end our own lines."""
    for text in texts:
        assert all(c.isprintable() or c == "\n" for c in text), ascii(text)
        assert not any(line.startswith("error: b") for line in text.splitlines()), text
    if lines is not None:
        assert [len(text.splitlines()) for text in texts[-1:]] == [lines], texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes in a folder; its name, theirs and the files' are foreign."""
    root = tmp_path_factory.mktemp("data") / FOREIGN
    rng = np.random.default_rng(0)
    for label in (FOREIGN, "plain"):
        (root / label).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}{FOREIGN}.png")
        (root / label / f"broken{FOREIGN}.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in a folder of a foreign name."""
    place = tmp_path_factory.mktemp("runs") / FOREIGN
    config = cj.TrainingConfig(epochs=2, batch_size=64, optimizer="adam", monitor=None)
    digits = cj.data.load("digits")
    model = cj.create_model("lenet", label_names=digits.train.label_names)
    cj.fit(model, digits, config, directory=place, verbose=False)
    write_report(place)
    return place


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model whose classes have foreign names."""
    names = (FOREIGN, "b\rc", "d\u2066")
    small = cj.create_model("lenet", num_classes=3, label_names=names)
    return cj.save(small, tmp_path_factory.mktemp("model") / FOREIGN)


def test_data_verbs(cnnjax: Callable[..., Output], folder: Path, tmp_path: Path) -> None:
    out, err = cnnjax("data", "scan", folder)
    check(out, err)
    assert "a\\x1b[2J\\x07\\nerror: b\\u202e\\x9b1m" in out
    out, err = cnnjax("data", "info", folder)
    check(out, err)
    assert sum("\\x1b" in line for line in out.splitlines()) >= 3  # place, title, class
    check(*cnnjax("data", "show", folder, "--out", tmp_path / f"{FOREIGN}.png"))
    check(*cnnjax("data", "show", folder, "--export", tmp_path / FOREIGN))
    check(*cnnjax("data", "show", folder, "--classes", f"x{FOREIGN}", status=1), lines=1)
    check(*cnnjax("data", "show", folder, "--split", FOREIGN, status=1), lines=1)
    check(*cnnjax("data", "list", "--data-dir", folder))


@pytest.mark.parametrize(
    "header", ["path,label", f'path,"label{FOREIGN}"', f'"{FOREIGN}",label', f'text,"{FOREIGN}"']
)
def test_tables(header: str, cnnjax: Callable[..., Output], folder: Path, tmp_path: Path) -> None:
    table = tmp_path / f"{FOREIGN}.csv"
    image = next((folder / "plain").glob("0*"))
    table.write_text(f'{header}\n"{image}","{FOREIGN}"\n"{image}.x","c\x1b"\n')
    for verb in ("info", "scan", "show"):
        for status in (0, 1):
            try:
                check(*cnnjax("data", verb, table, status=status))
                break
            except AssertionError as error:
                if status == 1 or "assert 1 == 0" not in str(error):
                    raise


@pytest.mark.thorough
def test_models_and_runs(
    cnnjax: Callable[..., Output], folder: Path, model: Path, run: Path, tmp_path: Path
) -> None:
    image = next((folder / "plain").glob("0*"))
    broken = next((folder / "plain").glob("broken*"))
    for place in (model, run):
        out, err = cnnjax("predict", place, image, broken, "--top", "3", status=1)
        check(out, err, lines=1)
        assert len(out.splitlines()) == 2  # the image, and how its size was changed
        check(*cnnjax("summary", place))
        check(*cnnjax("gradcam", place, image, "--out", tmp_path / FOREIGN))
        check(*cnnjax("gradcam", place, image, "--target", FOREIGN * 2, status=1), lines=1)
        check(*cnnjax("activations", place, image, "--layers", FOREIGN, status=1), lines=1)
    check(*cnnjax("report", run))
    check(*cnnjax("report", folder, status=1), lines=1)
    check(*cnnjax("predict", folder, image, status=1), lines=1)


def test_weight_files(cnnjax: Callable[..., Output], folder: Path, tmp_path: Path) -> None:
    image = next((folder / "plain").glob("0*"))
    for ending in ("npz", "safetensors", "h5", "pth"):
        file = tmp_path / f"{FOREIGN}.{ending}"
        file.write_bytes(b"\x1b[2J\x07")
        check(*cnnjax("predict", "--model", *SMALL, "--weights", file, image, status=1), lines=1)
    layer = {FOREIGN: {FOREIGN: np.zeros(3, np.float32)}}
    for ending, save in (
        ("npz", cj.weights.save_npz),
        ("safetensors", cj.weights.save_safetensors),
    ):
        save(layer, tmp_path / f"layer.{ending}")
        file = tmp_path / f"layer.{ending}"
        check(*cnnjax("predict", "--model", *SMALL, "--weights", file, image, status=1), lines=1)


def test_arguments(cnnjax: Callable[..., Output]) -> None:
    for arguments in (
        ("summary", FOREIGN),
        ("summary", "lenet", "--set", f"{FOREIGN}=1"),
        ("summary", "mlp", "--set", f"units={FOREIGN}"),
        ("data", "info", FOREIGN),
        ("data", "prepare", FOREIGN),
        ("results", FOREIGN),
    ):
        check(*cnnjax(*arguments, status=1), lines=1)
    for arguments in ((FOREIGN,), ("list", FOREIGN), ("summary", "lenet", "--alpha", FOREIGN)):
        check(*cnnjax(*arguments, status=2))


@pytest.mark.thorough
def test_results_are_text_in_markdown(
    cnnjax: Callable[..., Output], run: Path, tmp_path: Path
) -> None:
    record = json.loads((run / "run.json").read_text())
    record["experiment"] = "e<script>alert(1)</script>|\x1b[2J\nf"
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (other / "run.json").write_text(sealed(record))
    out, err = cnnjax("results", other, "--out", tmp_path / f"{FOREIGN}.md")
    check(out, err)
    page = (tmp_path / f"{FOREIGN}.md").read_text()
    check(page)
    assert "<script" not in page
    rows = [line for line in page.splitlines() if "alert(1)" in line]
    assert len(rows) == 2  # figures, provenance
    for row in rows:
        assert row.startswith("| e&lt;script>alert(1)&lt;/script>\\|\\x1b[2J f |")


def test_a_bar_shows_its_name_and_what_is_printed_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cursor moves by the bar's own sequences; none of those in names is left."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    with terminal.plain_output(), progress.progress_bar(FOREIGN) as move:
        move(1, 2)
        print(FOREIGN, file=sys.stderr)
    text = seen.getvalue()
    assert "\x1b[2K" in text  # a bar was drawn
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_narrow_encoding_shows_escapes(encoding: str) -> None:
    """A terminal of an old locale: arrows and accents are no error there."""
    bytes_written = io.BytesIO()
    stream = terminal.PlainStream(io.TextIOWrapper(bytes_written, encoding, newline="\n"))
    print("± → é\ud800", file=stream)  # type: ignore[call-overload]
    stream.flush()
    shown = bytes_written.getvalue().decode(encoding)
    assert shown.rstrip("\n").isprintable()
    assert shown.startswith({"ascii": "\\xb1 \\u2192", "latin-1": "± \\u2192"}.get(encoding, "± →"))


@pytest.mark.parametrize("path", ["", "a\0b", "~no.such.user", "~no.such.user/x\x1b"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValueError, match=r"^the path (is empty|a\\x00b has|~no\.such\.user)") as it:
        expanded(path)
    check(str(it.value), lines=1)
