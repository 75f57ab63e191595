"""Whose code called, named within its checkout, so that records know no place of a machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import ROOT

from cnnjax.runs.caller import state_of


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def test_a_file_of_a_checkout_is_named_from_there_on(tmp_path: Path) -> None:
    file = tmp_path / "own" / "net.py"
    file.parent.mkdir()
    file.write_text("rate = 1\n")
    assert state_of(file).keys() == {"file", "hash"}
    assert state_of(file)["file"] == str(file)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    state = state_of(file)
    assert state["file"] == "own/net.py"
    assert state.keys() == {"file", "hash", "commit", "modified"}
    assert not state["modified"]
    file.write_text("rate = 2\n")
    assert state_of(file)["modified"]


def test_a_file_as_a_record_names_it_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = state_of("experiments/quickstart.py")
    assert named["hash"]
    assert named == state_of(ROOT / "experiments" / "quickstart.py")
