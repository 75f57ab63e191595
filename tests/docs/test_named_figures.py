"""Figures that are named elsewhere stand in RESULTS.md, whose tables are made from the records."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FIGURE = re.compile(r"\d+\.\d+ ± \d+\.\d+")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_every_figure_of_a_page_stands_in_the_results(page: Path) -> None:
    assert unknown_figures(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "file", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda file: file.stem
)
def test_every_figure_of_an_experiment_stands_in_the_results(file: Path) -> None:
    module = ast.parse(file.read_text(encoding="utf-8"))
    assert unknown_figures(ast.get_docstring(module) or "") == []


def unknown_figures(text: str) -> list[str]:
    """Means with deviations that no table of RESULTS.md has."""
    results = FIGURE.findall((ROOT / "RESULTS.md").read_text(encoding="utf-8"))
    return [figure for figure in FIGURE.findall(" ".join(text.split())) if figure not in results]
