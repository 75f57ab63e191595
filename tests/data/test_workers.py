"""Batches of other processes, through grain: the same, wherever they begin and however many."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import Dataset, Loader, UnreadableImage, load
from cnnjax.data.workers import Workers

pytest.importorskip("grain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for i in range(17):
        path = root / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def data(folder) -> Dataset:
    return load(folder, image_size=(6, 5), memory_budget=0).train


def check_same(batches, others) -> None:
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert type(one[key]) is type(other[key]) is np.ndarray
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.thorough
@pytest.mark.parametrize(("workers", "process"), [(1, 0), (2, 1)])
def test_the_batches_are_ours_for_any_number_of_workers_and_processes(data, workers, process):
    ours = Loader(data, 6, True, 3, process, 2)
    theirs = Loader(data, 6, True, 3, process, 2, workers=workers)
    check_same(ours.epoch(2, 1), theirs.epoch(2, 1))
    check_same(ours.epoch(3), theirs.epoch(3))  # without starting processes anew
    del theirs
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.thorough
def test_a_training_has_the_same_bits_and_leaves_no_process(data):
    def trained(workers: int) -> str:
        config = cj.TrainingConfig(epochs=2, batch_size=6, workers=workers)
        model = cj.create_model("mlp", input_shape=(6, 5, 3), num_classes=2, units=(4,))
        return trees.tree_hash(cj.fit(model, data, config, verbose=False).model.variables)

    assert trained(0) == trained(1)
    assert not multiprocessing.active_children()


@pytest.mark.thorough
def test_an_error_of_a_worker_is_ours(folder, tmp_path):
    data = load(folder, image_size=(6, 5), memory_budget=0).train
    lost = Dataset(
        cj.data.FileImages(tmp_path, data.inputs.files, data.inputs.hashes, data.inputs.decoding),
        data.labels,
    )
    with pytest.raises(UnreadableImage, match=r"\.png: no such file"):
        next(Loader(lost, 6, workers=1).epoch(0))


KILLED = """
import sys, time
from cnnjax.data import Loader, load
from multiprocessing import active_children

if __name__ == "__main__":
    data = load(sys.argv[1], image_size=(6, 5), memory_budget=0).train
    loader = Loader(data, 6, workers=1)
    for epoch in range(9):
        for batch in loader.epoch(epoch):
            print(active_children()[0].pid, flush=True)
            sys.stdin.readline()
"""


@pytest.mark.thorough
def test_workers_end_with_a_process_that_is_killed_and_by_no_other_signal(folder, tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = [sys.executable, str(tmp_path / "killed.py"), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes) as process:
        worker = int(process.stdout.readline())
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        for _ in range(8):  # more than were made before
            print(file=process.stdin, flush=True)
            assert int(process.stdout.readline()) == worker
        process.send_signal(signal.SIGKILL)
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker goes on")


UNGUARDED = """
import sys
from cnnjax.data import Loader, load

data = load(sys.argv[1], image_size=(6, 5), memory_budget=0).train
print(next(Loader(data, 6, workers=1).epoch(0))["labels"].shape)
"""


@pytest.mark.thorough
def test_a_script_says_why_it_has_no_workers_and_one_without_a_file_ends_in_silence(
    folder, tmp_path
):
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    for how in ([str(tmp_path / "unguarded.py")], ["-c", UNGUARDED]):
        arguments = [sys.executable, *how, str(folder)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if how[0] == "-c":
            assert (done.returncode, done.stdout, done.stderr) == (0, "(6,)\n", "")
        else:
            assert done.stderr.splitlines()[-1].startswith("RuntimeError: one of workers=1 has end")


class _Counted:
    """In place of grain's iterator: numbers from a first one on."""

    def __init__(self, first: int, log: list[str]):
        self.number, self.log = first - 1, log

    def __next__(self) -> dict[str, int]:
        self.number += 1
        return {"number": self.number}

    def close(self) -> None:
        self.log.append("closed")


def test_processes_are_started_anew_only_where_batches_do_not_follow(monkeypatch):
    log: list[str] = []

    def started(self, first):
        log.append(f"started at {first}")
        return _Counted(first, log)

    monkeypatch.setattr(Workers, "_started", started)
    workers = Workers(str, 2)
    assert [int(workers.batch(n)["number"]) for n in (3, 4, 5, 9, 10, 10)] == [3, 4, 5, 9, 10, 10]
    workers.close()
    assert log == [
        "started at 3", "closed", "started at 9", "closed", "started at 10", "closed",
    ]  # fmt: skip


class _Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, seed, epoch, data):
        return np.arange(6)


def test_workers_that_would_have_nothing_to_do_are_refused(data, monkeypatch):
    with pytest.raises(ValueError, match=r"workers=2 is for data that is read batch by batch, and"):
        Loader(load("digits").train, 6, workers=2)
    with pytest.raises(ValueError, match=r"workers must be .*-1"):
        Loader(data, 6, workers=-1)
    with pytest.raises(ValueError, match=r"workers=1 is for data and a sampler .*: cannot pickle"):
        next(Loader(data, 6, sampler=_Locked(), workers=1).epoch(0))
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(
        ValueError, match=r"workers=2 needs grain, .*: pip install 'cnnjax\[grain\]'"
    ):
        Loader(data, 6, workers=2)
