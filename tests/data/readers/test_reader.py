"""A format of one's own: one file, by public names alone."""

import runpy

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.data.readers import formats

MODULE = """
import cnnjax as cj
import numpy as np

@cj.data.reader("NAME.planes (4x4 pixels)", lambda path: path.suffix == ".planes")
def load_planes(path, reading):
    content = path.read_bytes()
    if len(content) % 16:
        raise ValueError(f"{path} has {len(content)} bytes, which are no whole planes")
    images = np.frombuffer(content, np.uint8).reshape(-1, 4, 4, 1)
    return cj.data.Splits(cj.data.from_arrays(images, np.arange(len(images)) % 2))
"""


@pytest.fixture
def planes(tmp_path, monkeypatch):
    """A file of a format that a module of its own adds."""
    monkeypatch.setattr(formats, "_READERS", [*formats._READERS])
    (tmp_path / "planes_format.py").write_text(MODULE)
    runpy.run_path(str(tmp_path / "planes_format.py"))
    file = tmp_path / "a.planes"
    file.write_bytes(bytes(range(64)))
    return file


def test_a_format_is_added_by_one_file(planes):
    splits = cj.data.load(planes, validation=0.5)
    assert (len(splits.train), len(splits.validation)) == (2, 2)
    whole = cj.data.load(planes).train
    assert whole.inputs.tobytes() == planes.read_bytes()
    assert splits.source["data"] == str(planes)
    again = cj.data.reload(splits.source)
    np.testing.assert_array_equal(again.train.inputs, splits.train.inputs)
    assert cj.data.describe(splits).parts["train"].examples == 2


def test_its_refusals_are_one_sentence(planes):
    planes.write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"^\S*a\.planes has 3 bytes, which are no whole planes$"):
        cj.data.load(planes)
    (planes.parent / "a.unknown").touch()
    with pytest.raises(
        cj.data.DataNotFound, match=r"NAME\.csv .*, or NAME\.planes \(4x4 pixels\)$"
    ):
        cj.data.load(planes.parent / "a.unknown")


def test_the_last_reader_that_matches_reads(planes):
    cj.data.reader("NAME.planes (anything)", lambda path: path.name == "a.planes")(dict)
    with pytest.raises(TypeError):
        cj.data.load(planes)
    cj.data.reader("NAME.planes (anything)", lambda path: path.name == "a.planes")(lambda *_: 3)
    with pytest.raises(
        ValueError, match=r"a\.planes: the reader of NAME\.planes \(anything\) must"
    ):
        cj.data.load(planes)
    known = [reader.expected for reader in formats._READERS]
    assert len(known) == len(set(known))
