"""The ideas run as written, within their lines, and go on in the same bits after a kill."""

from __future__ import annotations

import ast
import itertools
import runpy
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import after_every_dispatch

import cnnjax as cj
from cnnjax.training import Interrupted

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "ideas"

# The most lines that each may have, without docstring, imports, comments and empty lines.
MOST_LINES = {
    "distillation": 20,
    "fgsm": 15,
    "loss_metric_optimizer": 15,
    "multilabel": 10,
    "nnx_transfer": 15,
    "optuna_pruning": 15,
    "own_source": 5,
    "segmentation": 25,
    "simclr": 40,
    "vit_tokens": 15,
}


def lines_of(text: str) -> int:
    """Lines of code, without docstring, imports, comments and what is empty."""
    tree = ast.parse(text)
    left_out = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    if ast.get_docstring(tree):
        left_out.append(tree.body[0])
    without = {n for node in left_out for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    numbered = enumerate(text.splitlines(), 1)
    return sum(1 for n, line in numbered if n not in without and line.split("#")[0].strip())


def test_every_idea_is_here() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} == set(MOST_LINES)


@pytest.mark.parametrize("name", MOST_LINES)
def test_an_idea_has_few_lines(name: str) -> None:
    assert lines_of((FOLDER / f"{name}.py").read_text()) <= MOST_LINES[name]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[cj.Run]:
    """What `cj.fit` returned, in order; nothing is printed."""
    returned: list[cj.Run] = []
    original = cj.fit

    def fit(*arguments: Any, **named: Any) -> cj.Run:
        returned.append(original(*arguments, **{**named, "verbose": False}))
        return returned[-1]

    monkeypatch.setattr(cj, "fit", fit)
    return returned


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "simclr" else n for n in MOST_LINES]
)
def test_an_idea_runs_and_goes_on_in_the_same_bits_after_a_kill(
    name: str, runs: list[cj.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in {"optuna_pruning": ["optuna"], "own_source": ["datasets"]}.get(name, []):
        pytest.importorskip(package)
    file = str(FOLDER / f"{name}.py")
    for folder in ("through", "killed"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "through")
    steps = itertools.count(1)
    undo = after_every_dispatch(lambda _: next(steps))
    try:
        runpy.run_path(file)
    finally:
        undo()
    through = [run.parameter_hash for run in runs]
    assert through
    runs.clear()

    # Near the end, so that what is trained before is found finished.
    left = itertools.count(next(steps) - 3, -1)

    def stop(_: int) -> None:
        if next(left) == 0:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.chdir(tmp_path / "killed")
    undo = after_every_dispatch(stop)
    try:
        with pytest.raises(Interrupted):
            runpy.run_path(file)
    finally:
        undo()
    runs.clear()
    runpy.run_path(file)
    assert [run.parameter_hash for run in runs] == through
