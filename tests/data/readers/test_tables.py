"""CSV files: the one reader of their rows, and the classes that labels stand for."""

import csv
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnjax.data import DataNotFound, load, scan_table
from cnnjax.data.readers.class_labels import labelled_rows
from cnnjax.data.readers.csv_rows import header_of, read_rows
from cnnjax.data.series.windows import read_column


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path: Path, *columns: str) -> list[list[str]]:
    return [row for _, row in read_rows(path, columns or header_of(path))]


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, st.integers().map(str)), min_size=1, max_size=6),
    end=st.sampled_from(["\r\n", "\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_pythons_writer_wrote_comes_back(tmp_path_factory, rows, end, quoting):
    file = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(file, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator=end, quoting=quoting).writerows([("a", "b", "c"), *rows])
    assert rows_of(file) == [list(row) for row in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ends_of_lines_and_marks_of_byte_order(tmp_path, end, mark):
    lines = ["a, b", "1,2", "", '"3\n3","4"', "", ""]
    file = write(tmp_path / "a.csv", mark + end.join(lines))
    assert rows_of(file) == [["1", "2"], ["3\n3", "4"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 values, the header has 2: put texts with commas"),
        ("a,b\n1,2\n1,234.5,\n", "line 3 has 3 values, the header has 2"),  # 1,234.5 and no b
        ("a,b\n1,2,\n1,2\n", "line 3 has 2 values, the header has 2"),
        ("a,b,\n1,2\n1,2,3\n", "line 3 has 3 values, the header has 2"),
        ("a,b\n1,2\n3\n", "line 3 has 1 values, the header has 2$"),
        ('a,b\n"1\n\n",2\n3\n', "line 5 has 1 values"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3, unexpected end of data"),
        ('a,b\n"1" 2,3\n', "line 2, ',' expected after"),
        ("a,b\n1,2\n3\0,4\n", "line 3, it holds a null byte, so it is no text in UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8 text, but UTF-16: save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-be"), "line 1, it holds a null byte"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1, it holds a null byte"),
        ("a,b\n" + "1,2\n" * 5000 + "é,2\n", None),
        (("a,b\n" + "1,2\n" * 5000 + "é,2\n").encode("latin-1"), r"\(byte 0xe9 in line 5,002\)"),
        ("a,b\n", "holds no rows below its header"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, message):
    file = write(tmp_path / "a.csv", content)
    if message is None:
        assert len(rows_of(file, "b")) == 5001
        return
    with pytest.raises(ValueError, match=message) as caught:
        rows_of(file, *(header_of(file) and ["b"]))
    assert "\n" not in str(caught.value)


def test_a_line_without_an_end_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnjax.data.readers.csv_rows._LONGEST", 1000)
    with pytest.raises(ValueError, match="line 2, it has more than 1,000 characters"):
        rows_of(write(tmp_path / "a.csv", "a,b\n" + "x" * 2000), "a")
    quoted = 'a,b\n"' + "x,y\n" * 500
    with pytest.raises(ValueError, match=r"line 2, field larger than field limit \(1000\)"):
        rows_of(write(tmp_path / "a.csv", quoted), "a")


def test_names_of_columns_are_equal_in_both_forms_of_unicode(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
    file = write(tmp_path / "a.csv", f"{decomposed},b\n1,2\n")
    assert read_column(file, composed).tolist() == [1]
    assert read_column(file, decomposed).tolist() == [1]
    with pytest.raises(ValueError, match="has 2 columns 'größe': one is needed"):
        read_column(write(tmp_path / "b.csv", f"{decomposed},{composed}\n1,2\n"), composed)


def test_no_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "b.csv").symlink_to("absent")
    (tmp_path / "c.csv").symlink_to("/dev/zero")
    (tmp_path / "d.csv").mkdir()
    for name, message in (
        ("a", "is a pipe, not a regular file"),
        ("c", "is a device, not a regular file"),
        ("d", "is a directory, not a regular file"),
    ):
        with pytest.raises(ValueError, match=message):
            read_column(tmp_path / f"{name}.csv", "x")
    with pytest.raises(DataNotFound, match="is a link that leads nowhere"):
        read_column(tmp_path / "b.csv", "x")


# Labels


def classes(path: Path, *labels: str, names: list[str] | None = None) -> list[str]:
    """The class of each of some labels, twice in a file."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *(("x", name) for name in labels * 2)])
    found, rows = labelled_rows(path, "text", "label", names)
    return [found[row.label] for row in rows[: len(rows) // 2]]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["0", "0.0", "1", "1.0"], ["0", "0", "1", "1"]),
        (["0.0", "1.0", "2.0"], ["0", "1", "2"]),  # as pandas writes a column with a gap
        (["+1", "1", "1e0", " 1 ", "10"], ["1", "1", "1", "1", "10"]),
        (["-1", "-1.00", "1."], ["-1", "-1", "1"]),
        (["-0", "0", "7"], ["0", "0", "7"]),
        (["01", "02", "10"], ["01", "02", "10"]),  # codes
        (["1", "b", "c"], ["1", "b", "c"]),
        (["cat", " cat", "dog "], ["cat", "cat", "dog"]),
        (["caf\u00e9", "cafe\u0301", "th\u00e9"], ["caf\u00e9", "caf\u00e9", "th\u00e9"]),
        (["none", "NA", "b"], ["none", "NA", "b"]),
        (["1" + "0" * 40, "2", "3"], ["1" + "0" * 40, "2", "3"]),
    ],
)
def test_labels_that_are_equal_as_numbers_are_one_class(tmp_path, labels, names):
    assert classes(tmp_path / "a.csv", *labels) == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["01", "1", "2"], r"has the labels '01' \(line 2\) and '1' \(line 3\), which are one num"),
        (["00501", "501", "90210"], "has the labels '00501' .* and '501' "),
        (["a", "1", "1.0"], r"has the labels '1' \(line 3\) and '1\.0' \(line 4\)"),
        (["1e3", "1000", "x"], "'1e3' .* and '1000' .*, which are one number"),
        (["1", "\uff11", "2"], "which are one number"),  # a full-width 1
        (["1", "2", "nan"], r"line 4: 'nan' stands for a label that is missing"),
        (["1.0", "NaN", "2.0"], r"line 3: 'NaN' stands for a label that is missing"),
        (["a", "<NA>", "b"], "line 3: '<NA>' stands for"),
        (["a", "b", " "], "line 4: the label is empty"),
        (["1", "2.5", "1.0"], "2.5 is a number with a fraction, and no class"),
    ],
)
def test_labels_that_are_in_doubt_are_named(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        classes(tmp_path / "a.csv", *labels)


def test_given_classes_are_compared_likewise(tmp_path):
    file = tmp_path / "a.csv"
    assert classes(file, "0.0", "1", "1.0", "2", names=["1.0", "0"]) == ["0", "1.0", "1.0"]
    assert classes(file, "01", "02", "10", names=["10", "01"]) == ["01", "10"]
    assert classes(file, "e\u0301", "b", names=["b", "\u00e9"]) == ["\u00e9", "b"]
    assert classes(file, "a", "nan", "b", names=["nan", "a"]) == ["a", "nan"]
    with pytest.raises(ValueError, match=r"class_names holds 1.* twice, as numbers are compared"):
        classes(file, "0", "1", "1.0", names=["1", "1.0"])
    with pytest.raises(ValueError, match="no row has the label '1'"):
        classes(file, "01", "02", names=["1", "02"])


# Tables of images


def image_list(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4, 3), 40 * i, np.uint8)
        Image.fromarray(pixels).save(folder / name)


def test_files_are_found_whatever_form_of_unicode_the_disk_has(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "ünö") for form in ("NFC", "NFD"))
    image_list(
        tmp_path, f"{decomposed}/{composed}.png", f"{composed}1.png", f"{decomposed}2.png", "3.png"
    )
    named = [f"{composed}/{decomposed}.png", f"{decomposed}1.png", f"{composed}2.png", "3.png"]
    lines = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(named)]
    file = write(tmp_path / "a.csv", "\n".join(["path,label", *lines]))
    train = load(file, image_size=(4, 4)).train
    assert train.inputs[:, 0, 0, 0].tolist() == [0, 40, 80, 120]


def test_pipes_in_a_table_are_set_aside_and_odd_names_are_missing(tmp_path):
    image_list(tmp_path, "0.png", "1.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to("absent")
    rows = "path,label\n0.png,a\n1.png,b\n0.png,a\n"
    scan = scan_table(write(tmp_path / "a.csv", rows + "pipe.png,b\n"))
    assert scan.set_aside == (("pipe.png", "no regular file (a pipe, a socket or a device)"),)
    for name in ("nowhere.png", "x" * 300 + ".png", ".", "0.png/x"):
        with pytest.raises(DataNotFound, match=r"line 5: .* does not exist \(1 of 4 files are"):
            scan_table(write(tmp_path / "a.csv", rows + f"{name},b\n"))
