"""What is released: one version everywhere, and files that must be in the wheel."""

from __future__ import annotations

import re
import tomllib

from commands import ROOT

import cnnjax as cj

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
    assert cj.__version__ == version


def test_every_file_of_the_package_that_is_no_code_is_in_the_wheel() -> None:
    package = ROOT / "cnnjax"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["cnnjax"]
    shipped = {file for pattern in patterns for file in package.glob(pattern)}
    others = {f for f in package.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert others == shipped


def test_data_of_others_is_named_with_its_licence() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "cnnjax/data/readers/digits.npz" in notice
    assert "CC BY 4.0" in notice
    assert set(PROJECT["project"]["license-files"]) == {"LICENSE", "NOTICE"}
