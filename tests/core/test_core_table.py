"""Tables of text: columns as wide as their widest cell, and nothing in them that is obeyed."""

from __future__ import annotations

from cnnjax.core.table import table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("", "parameters", "kind"), ("conv1", "320", "Conv2D")]
    assert table(rows, "<><").splitlines() == [
        "       parameters  kind",
        "conv1         320  Conv2D",
    ]


def test_a_rule_is_as_wide_as_the_table() -> None:
    assert table([("a", "b"), ("long", 12)], rules=[1]).splitlines() == [
        "a      b",
        "--------",
        "long  12",
    ]


def test_floats_have_three_digits_and_none_is_a_dash() -> None:
    assert table([(0.123456, float("nan"), 1234567.0)]) == "0.123  -  1.23e+06"


def test_what_a_cell_holds_is_shown_and_not_obeyed() -> None:
    assert table([("a\x1b[2J\nb", 1)]) == "a\\x1b[2J\\nb  1"


def test_no_rows_are_no_lines() -> None:
    assert table([]) == ""
