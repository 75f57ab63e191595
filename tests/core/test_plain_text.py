"""Foreign names on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.core.text import plain, plain_lines


@given(st.text(), st.integers(16, 300))
def test_whatever_the_name_only_printable_characters_are_shown(text: str, most: int) -> None:
    shown = plain(text, most)
    assert shown.isprintable()
    assert len(shown) <= 2 * most


@pytest.mark.parametrize("text", ["cats", "Café 猫", "/data/train/n01440764", "a b"])
def test_a_harmless_name_is_shown_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize("code", ["\x1b", "\x07", "\r", "\n", "\u202e", "\x9b", "\udcff"])
def test_characters_that_a_terminal_obeys_are_escaped(code: str) -> None:
    assert code not in plain(f"cats{code}dogs")
    assert plain(f"cats{code}dogs").startswith("cats\\")


def test_the_lines_of_a_message_stay_lines() -> None:
    assert plain_lines("one\ntwo\x1b[1m") == "one\ntwo\\x1b[1m"
