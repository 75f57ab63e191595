"""`cnnjax export`: the file and its line, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import cnnjax as cj

Output = tuple[str, str]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return cj.save(cj.create_model("mlp", units=(4,)), tmp_path / "saved")


def test_a_saved_model_becomes_a_file(
    cnnjax: Callable[..., Output], saved: Path, tmp_path: Path
) -> None:
    out, _ = cnnjax("export", saved, tmp_path / "m.stablehlo", "--batch", "2", "--logits")
    assert "images float32 [2, 28, 28, 1] -> logits float32 [2, 10]; run again by jax" in out
    assert (tmp_path / "m.stablehlo").is_file()


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("m.pt", (), "path must end with .stablehlo or .onnx, got"),
        ("m.stablehlo", ("--batch", "0"), "batch must be a name, or a whole number >= 1, got 0"),
        ("m.stablehlo", ("--size", "8", "8"), "input_shape=(8, 8, 1) is none that mlp takes"),
    ],
)
def test_what_cannot_be_exported_is_a_line(
    cnnjax: Callable[..., Output],
    saved: Path,
    tmp_path: Path,
    name: str,
    options: tuple[str, ...],
    error: str,
) -> None:
    _, err = cnnjax("export", saved, tmp_path / name, *options, status=1)
    assert err.startswith("error: ")
    assert error in err
