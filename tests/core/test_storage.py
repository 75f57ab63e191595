"""Files that are complete or absent."""

import hashlib
import os
import subprocess
import sys
import time

import pytest

from cnnjax.core import storage
from cnnjax.core.storage import (
    is_remains,
    sweep,
    text_hash,
    write_directory,
    write_file,
    write_text,
)


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


# Remains


def remains(tmp_path, place=None, process=999_999_999, name="a.txt"):
    """A file as a process that was killed leaves it."""
    path = tmp_path / f".{name}.{place or storage._place()}-{process}-0123abcd.tmp"
    path.write_text("half")
    return path


@pytest.mark.thorough
def test_what_a_killed_process_leaves_goes_when_its_folder_is_next_written_to(tmp_path):
    code = """
import os, sys
from pathlib import Path
from cnnjax.core.storage import write_directory, write_file
kill = lambda beside: (beside / "x" if beside.is_dir() else beside).write_text("") or os._exit(9)
if sys.argv[2] == "file":
    write_file(Path(sys.argv[1]) / "a.txt", kill)
else:
    write_directory(Path(sys.argv[1]) / "a", kill, lambda path: True)
"""
    for kind in ("file", "directory"):
        folder = tmp_path / kind
        folder.mkdir()
        done = subprocess.run([sys.executable, "-c", code, folder, kind], check=False)
        assert done.returncode == 9
        (left,) = folder.iterdir()
        assert is_remains(left.name)
        write_text(folder / "b.txt", "")
        assert [p.name for p in folder.iterdir()] == ["b.txt"]


def test_remains_of_a_process_that_lives_stay(tmp_path):
    left = remains(tmp_path, process=os.getpid())
    sweep(tmp_path)
    assert left.exists()


def test_remains_of_another_machine_stay_until_they_are_old(tmp_path):
    left = remains(tmp_path, place="00000000")
    sweep(tmp_path)
    assert left.exists()
    long_ago = time.time() - 8 * 86_400
    os.utime(left, (long_ago, long_ago))
    sweep(tmp_path)
    assert not left.exists()


def test_what_older_versions_left_goes_only_where_its_name_is_known(tmp_path):
    for name in (".run.json.999999999", ".diary.999999999"):
        (tmp_path / name).write_text("half")
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path, known=("run.json",))
    assert [p.name for p in tmp_path.iterdir()] == [".diary.999999999"]


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        ".a.txt",
        ".a.txt.tmp",
        "a.txt.0123abcd-5-0123abcd.tmp",
        ".a.txt.0123ABCD-5-0123abcd.tmp",
        ".a.txt.0123abcd-x-0123abcd.tmp",
        ".a.txt.0123abcd-5-0123abcd.tmp.png",
    ],
)
def test_other_names_are_no_remains(tmp_path, name):
    assert not is_remains(name, known=("a.txt",))
    (tmp_path / name).write_text("mine")
    sweep(tmp_path, known=("a.txt",))
    assert (tmp_path / name).read_text() == "mine"


def test_a_link_among_remains_goes_and_what_it_points_to_stays(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("mine")
    link = remains(tmp_path)
    link.unlink()
    link.symlink_to(target)
    sweep(tmp_path)
    assert not link.is_symlink()
    assert (target / "file").read_text() == "mine"


def test_a_folder_that_is_not_there_has_nothing_to_sweep(tmp_path):
    sweep(tmp_path / "nowhere")


def test_the_longest_name_of_a_file_can_be_written(tmp_path):
    for letter in ("a", "\u00e4", "\u5b57"):
        name = letter * (255 // len(letter.encode()))
        write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


def test_two_threads_write_one_file_and_one_of_them_wins(tmp_path):
    file = tmp_path / "a.txt"

    def write(beside):
        beside.write_text("outer")
        write_text(file, "inner")

    write_file(file, write)
    assert file.read_text() == "outer"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_hash_is_of_the_bytes():
    wanted = hashlib.sha256(b"\xc3\xa4").hexdigest()[:16]
    assert text_hash("\u00e4") == text_hash(b"\xc3\xa4") == wanted
