"""`cnnjax data list` and `cnnjax data prepare`, with a server at hand and without one."""

from __future__ import annotations

import hashlib
import re
import time
from functools import partial

import pytest
import raw_files
from commands import python, start

import cnnjax as cj
from cnnjax.data.prepare import RawFile, building


@pytest.fixture
def data(cnnjax):
    """Run `cnnjax data ...`; gives (stdout, stderr)."""
    return partial(cnnjax, "data")


@pytest.fixture
def mnist(server, monkeypatch):
    """A server that has a small MNIST."""
    files = raw_files.mnist(train=30, test=10)
    found = [
        RawFile(f"{server.base}/{name}", name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    ]
    monkeypatch.setattr(building, "raw_files", lambda name: found)
    server.answer = lambda handler: handler.serve(files[handler.path.removeprefix("/")])


def test_from_nothing_to_a_training(data, mnist, tmp_path):
    out, _ = data("list", "--data-dir", tmp_path)
    assert "no data sets" in out
    assert re.search("  mnist +handwritten digits, 28x28 grey, 10 classes; download 11 MiB", out)
    out, err = data("prepare", "mnist", "--data-dir", tmp_path)
    where = tmp_path / "mnist" / "3.0.1"
    assert out == ""
    assert err.splitlines()[1:] == ["writing mnist", f"mnist is prepared, in {where}"]
    out, _ = data("list", "--data-dir", tmp_path)
    here, _, absent = out.partition("To be had by")
    assert re.search("  mnist +handwritten digits", here)
    assert "\n  mnist " not in absent
    _, err = data("prepare", "mnist", "--data-dir", tmp_path)
    assert err == f"mnist is prepared already, in {where}\n"
    splits = cj.data.load("mnist", data_dir=tmp_path)
    config = cj.TrainingConfig(epochs=1, batch_size=10)
    run = cj.fit(cj.create_model("mlp", units=(8,)), splits, config)
    assert run.history["step"].tolist() == [3]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "command",
    [("cnnjax", "data", "list"), ("experiments.quickstart", "--help")],
    ids=["a verb", "the help of an experiment"],
)
@pytest.mark.thorough
def test_a_reader_who_has_had_enough_is_no_error(command, tmp_path):
    child = start("-m", *command, TFDS_DATA_DIR=str(tmp_path))
    with child:
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 141


def test_all_names_are_checked_before_anything_is_downloaded(data, tmp_path):
    _, err = data("prepare", "mnist", "cifar", "--data-dir", tmp_path, status=1)
    assert err.startswith("error: there is no recipe for a data set 'cifar'.")
    assert "cifar10" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_without_network_it_takes_less_than_five_seconds_to_say_so(tmp_path):
    """A real host, by a proxy where nothing listens: one line, also from a fresh process."""
    proxy = {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
    }
    code = "import sys; from cnnjax.cli import main; main(sys.argv[1:])"
    start = time.monotonic()
    done = python("-c", code, "data", "prepare", "mnist", "--data-dir", tmp_path, status=1, **proxy)
    assert time.monotonic() - start < 60  # of which the imports take most on a busy machine
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: cannot download https://storage.googleapis.com/cvdf-datasets/")
    assert f"put the file by hand at {tmp_path / 'downloads' / 'mnist'}" in line
    assert line.endswith("Needs no files: --data digits")
