"""Names of classes as folders: every system takes them, none meets another, they come back."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

from cnnjax.data.readers.file_names import is_clutter
from cnnjax.data.readers.folder_names import folder_names

ODD = [
    "cat", "and/or", "..", ".", "...", ".hidden", "Ant", "ant", "ANT", "\u00e9", "e\u0301", "CON",
    "con.txt", "nul", "a:b", "a\\b", 'a*?"<>|', "x ", "x.", " lead", "tab\t", "%41nt", "a%2Fb",
    "~3", "__MACOSX", "Thumbs.db", "@eaDir", "\u732b", "\U0001f431", "stra\u00dfe", "strasse",
]  # fmt: skip
LONG = ["a" * 300, "A" * 300, "\u65e5" * 100, "\u65e5" * 101]


def test_folders_are_safe_and_no_two_are_one() -> None:
    found = folder_names([*ODD, "", *LONG])
    folded = {unicodedata.normalize("NFC", name).casefold() for name in found}
    assert len(folded) == len(found)
    for name in found:
        assert name.isprintable()
        assert not set(name) & set('/\\:*?"<>|')
        assert name[0] not in ". "
        assert name[-1] not in ". "
        assert name.partition(".")[0].lower() not in {"con", "nul"}
        assert not is_clutter(name)
        assert len(name.encode()) <= 205


def test_names_come_back_but_for_long_ones() -> None:
    assert [unquote(name) for name in folder_names(ODD)] == ODD


def test_plain_names_stay_as_they_are() -> None:
    names = [
        "cat",
        "Great Dane",
        "n02123045",
        "snow_leopard",
        "caf\u00e9",
        "\u732b",
        "it's (a) dog",
    ]
    assert list(folder_names(names)) == names
