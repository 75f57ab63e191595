"""Files that are complete or absent."""

import pytest

from cnnjax.storage import write_directory, write_file, write_text


def test_text_is_written_in_utf8_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    for text in ("ä and 字\n", "second"):
        write_text(file, text)
        assert file.read_bytes() == text.encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def write(beside):
        assert beside.parent == tmp_path
        beside.write_text("new")
        assert file.read_text() == "old"

    write_file(file, write)
    assert file.read_text() == "new"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def write(beside):
        beside.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_file(file, write)
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_is_complete_or_absent(tmp_path):
    folder, whole = tmp_path / "below" / "a", []

    def write(beside, text="new"):
        (beside / "file").write_text(text)

    def is_whole(folder):
        whole.append(folder)
        return (folder / "file").read_text() != "damaged"

    write_directory(folder, write, is_whole)
    assert ((folder / "file").read_text(), whole) == ("new", [])
    write_directory(folder, lambda beside: write(beside, "another process"), is_whole)
    assert ((folder / "file").read_text(), whole) == ("new", [folder])
    (folder / "file").write_text("damaged")
    write_directory(folder, write, is_whole)
    assert (folder / "file").read_text() == "new"
    with pytest.raises(ZeroDivisionError):
        write_directory(folder, lambda beside: 1 / 0, is_whole)
    assert [p.name for p in folder.parent.iterdir()] == ["a"]
