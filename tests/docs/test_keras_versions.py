"""The table of what differs between Keras 2 and 3 names tests that there are."""

from __future__ import annotations

import re

from commands import ROOT


def test_every_test_that_the_table_names_is_there() -> None:
    table = (ROOT / "docs" / "keras_versions.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table)
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"
