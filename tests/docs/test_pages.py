"""What the pages tell to type runs: code as it stands, commands by their options."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cnnjax.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
# What the pages write where a reader has a name of their own.
PLACEHOLDER = re.compile(r"\b(NAME|FILE|FOLDER|RUN|DATA|DIR|DIRECTORY)\b")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language; `py` marks Python that needs more than the page has."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def lines(page: Path) -> list[str]:
    """Commands of a page, in blocks and within sentences and tables, without their comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    in_blocks = [line for block in blocks(page, "sh") for line in block.split("\n")]
    in_text = re.findall(r"`((?:cnnjax|python -m experiments)[^`]*)`", text)
    return [line.split("  #")[0].split(" # ")[0].strip() for line in in_blocks + in_text]


@pytest.mark.thorough
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    assert len(names) > 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(page.with_suffix("").parts))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    verbs = parser._verbs()
    for line in lines(page):
        for command in re.split(r"&&|\|", line):
            words = command.replace("...", "").split()
            if words[:1] == ["cnnjax"] and len(words) > 1 and not words[1].startswith("-"):
                name = " ".join(words[1:3])
                assert name in verbs or words[1] in verbs, line
            if words[:2] == ["python", "-m"] and words[2].startswith("experiments."):
                if PLACEHOLDER.search(words[2]):
                    continue
                assert importlib.util.find_spec(words[2]), line
