"""Shards: the files as they were, whole or absent, and a training on them as on the folder."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import DataNotFound, Loader, UnreadableImage, load, shard

array_record = pytest.importorskip("array_record.python.array_record_module")

COUNT = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of two classes, two sizes and two formats, in two splits."""
    root = tmp_path_factory.mktemp("pets") / "pets"
    rng = np.random.default_rng(0)
    for i in range(COUNT + 5):
        split = "train" if i < COUNT else "test"
        path = root / split / ("cat", "dog")[i % 2] / f"{i:02}{('.png', '.jpg')[i % 3 == 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (8, 10, 3) if i % 5 else (12, 9, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory) -> Path:
    return shard(folder, tmp_path_factory.mktemp("out") / "pets", examples_per_shard=5)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_stay_as_they_are_in_the_order_of_the_folder(folder, shards):
    """Read back by array_record itself."""
    scan = cj.data.scan_folder(folder)
    for split, part in scan.parts.items():
        contents = []
        for file in sorted(shards.glob(f"{split}-*.array_record")):
            contents += array_record.ArrayRecordReader(str(file)).read_all()
        assert contents == [(folder / file).read_bytes() for file in part.files]
    index = json.loads((shards / "shards.json").read_text())
    assert index["class_names"] == ["cat", "dog"]
    assert index["splits"]["train"]["examples_per_class"] == [12, 11]
    assert sorted(path.name for path in shards.iterdir()) == [
        "shards.json", "test-00000-of-00001.array_record", "test.npy",
        *(f"train-{i:05d}-of-00005.array_record" for i in range(5)), "train.npy",
    ]  # fmt: skip


@pytest.mark.parametrize("budget", [0, 2**30])
def test_they_are_the_data_set_of_the_folder(folder, shards, budget):
    options = {"image_size": (6, 5), "memory_budget": budget, "resize": "crop"}
    files, records = load(folder, **options), load(shards, **options)
    for name in ("train", "test"):
        one, other = files.parts[name], records.parts[name]
        assert other.fingerprint == one.fingerprint
        np.testing.assert_array_equal(other.inputs[:], one.inputs[:])
        np.testing.assert_array_equal(other.labels, one.labels)
        assert other.label_names == one.label_names
    assert records.train.inputs.is_read == (budget > 0)
    again = cj.data.reload(json.loads(json.dumps(records.source)))
    assert again.train.fingerprint == records.train.fingerprint


def test_they_are_described_as_the_folder_is(folder, shards):
    options = {"image_size": (6, 5), "memory_budget": 0}
    files, records = (cj.data.describe(load(path, **options)) for path in (folder, shards))
    for field in ("examples", "mean", "fingerprint", "cache", "repeated"):
        one, other = (getattr(found.parts["train"], field) for found in (files, records))
        np.testing.assert_array_equal(one, other)
    assert records.shared == files.shared


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(-COUNT, COUNT - 1), max_size=14), st.slices(COUNT), st.integers(0, 9))
def test_any_index_is_that_of_the_folder(folder, shards, rows, part, row):
    options = {"image_size": (6, 5), "memory_budget": 0}
    files, records = load(folder, **options).train.inputs, load(shards, **options).train.inputs
    for index in (np.array(rows, np.int64), part, row):
        np.testing.assert_array_equal(records[index], files[index])
    chosen = np.array(rows, np.int64)
    np.testing.assert_array_equal(records.subset(part).subset(slice(1, 3))[:], files[part][1:3])
    assert records.subset(chosen).content_hash == files.subset(chosen).content_hash


def test_a_training_on_shards_has_the_bits_of_one_on_the_folder(folder, shards):
    def trained(source) -> str:
        data = load(source, image_size=(8, 8), memory_budget=0)
        config = cj.TrainingConfig(epochs=2, batch_size=8)
        model = cj.create_model("mlp", input_shape=(8, 8, 3), num_classes=2, units=(4,))
        return trees.tree_hash(cj.fit(model, data, config, verbose=False).model.variables)

    assert trained(shards) == trained(folder)


def test_a_run_that_was_begun_on_the_folder_goes_on_with_the_shards(folder, shards, tmp_path):
    def trained(source, epochs, directory=None) -> str:
        data = load(source, image_size=(8, 8), memory_budget=0)
        resume = directory is not None and epochs > 1
        config = cj.TrainingConfig(epochs=epochs, batch_size=8, resume=resume)
        model = cj.create_model("mlp", input_shape=(8, 8, 3), num_classes=2, units=(4,))
        run = cj.fit(model, data, config, directory=directory, verbose=False)
        return trees.tree_hash(run.model.variables)

    trained(folder, 1, tmp_path / "run")
    assert trained(shards, 2, tmp_path / "run") == trained(folder, 2)


@pytest.mark.parametrize("kill_at", [0, 1, 4, 6])
def test_interrupted_and_started_again_it_ends_in_the_same_files(folder, shards, tmp_path, kill_at):
    target = tmp_path / "pets"

    def interrupt(done: int, total: int) -> None:
        nonlocal kill_at
        kill_at -= 1
        if kill_at <= 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard(folder, target, examples_per_shard=5, tick=interrupt)
    with pytest.raises(DataNotFound, match=r"pets are not complete: run cnnjax data shard once mo"):
        load(target, image_size=(6, 5))
    written = {file: file.stat().st_mtime_ns for file in target.glob("*.array_record")}
    assert written
    assert shard(folder, target, examples_per_shard=5) == target
    assert {file: file.stat().st_mtime_ns for file in written} == written
    assert files_of(target) == files_of(shards)
    before = {file: file.stat().st_mtime_ns for file in target.glob("*.array_record")}
    shard(folder, target, examples_per_shard=5)  # complete: nothing is written anew
    assert {file: file.stat().st_mtime_ns for file in before} == before


KILLED = """
import sys, time
from cnnjax.data import shard

def tick(*_):
    print("+", flush=True)
    time.sleep(9)

shard(sys.argv[1], sys.argv[2], examples_per_shard=5, tick=tick)
"""


@pytest.mark.thorough
def test_killed_it_goes_on_likewise(folder, shards, tmp_path):
    target = tmp_path / "pets"
    arguments = [sys.executable, "-c", KILLED, str(folder), str(target)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "+\n"
        process.send_signal(signal.SIGKILL)
    assert len(list(target.glob("*.array_record"))) == 1
    shard(folder, target, examples_per_shard=5)
    assert files_of(target) == files_of(shards)


def copied(shards: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    target.mkdir()
    for name, content in files_of(shards).items():
        (target / name).write_bytes(content)
    return target


def test_a_lost_or_cut_shard_is_named_and_written_anew(folder, shards, tmp_path):
    target = copied(shards, tmp_path)
    file = target / "train-00001-of-00005.array_record"
    whole = file.read_bytes()
    file.write_bytes(whole[:-70_000])
    with pytest.raises(DataNotFound, match=r"train-00001-of-00005\S* is damaged: copy .* \(it has"):
        load(target, image_size=(6, 5))
    shard(folder, target, examples_per_shard=5)
    assert file.read_bytes() == whole
    file.unlink()
    with pytest.raises(DataNotFound, match=r"record is damaged: copy it anew.* \(it is missing, "):
        load(target, image_size=(6, 5))


@pytest.mark.parametrize("where", [70, 300])
def test_a_changed_byte_is_named(shards, tmp_path, where):
    target = copied(shards, tmp_path)
    file = target / "train-00001-of-00005.array_record"
    content = bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    images = load(target, image_size=(6, 5), memory_budget=0).train.inputs
    with pytest.raises((DataNotFound, UnreadableImage), match=r"train-00001-of-00005|image 5"):
        images[:]


def test_shards_of_other_images_are_named(shards, tmp_path):
    target = copied(shards, tmp_path)
    names = [f"train-0000{i}-of-00005.array_record" for i in (0, 1)]
    sizes = {(target / name).stat().st_size for name in names}
    contents = [(target / name).read_bytes() for name in names]
    for name, content in zip(names, reversed(contents), strict=True):
        (target / name).write_bytes(content)
    if len(sizes) > 1:
        pytest.fail("the shards were to have one size")
    images = load(target, image_size=(6, 5), memory_budget=0).train.inputs
    with pytest.raises(UnreadableImage, match=r"image \d: its content is not the one that was wr"):
        images[:]
    (target / "train.npy").write_bytes((target / "test.npy").read_bytes())
    with pytest.raises(
        DataNotFound, match=r"train\.npy is damaged: .* \(it is not the one that be"
    ):
        load(target, image_size=(6, 5))


def test_an_index_that_is_none_is_named(shards, tmp_path):
    target = copied(shards, tmp_path)
    index = json.loads((target / "shards.json").read_text())
    train = index["splits"]["train"]
    for text, message in (
        ("[]", r"shards\.json is no index of shards of version 1"),
        ("{", r"shards\.json cannot be read: "),
        (json.dumps({**index, "version": 2}), "no index of shards of version 1"),
    ):
        (target / "shards.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            load(target, image_size=(6, 5))
    for changed in (
        {"splits": 3}, {"splits": {}}, {"splits": {"test": train}}, {"splits": {"train": {}}},
        {"splits": {"train": train, "../a": train}}, {"class_names": 3}, {"class_names": [3, 4]},
        {"image_size": 3}, {"image_size": [3, 4]}, {"image_size": [0, 4, 3]},
        *({"splits": {"train": {**train, name: value}}} for name, value in (
            ("examples", 0), ("examples", "7"), ("examples_per_shard", 0), ("bytes", [3]),
            ("bytes", None), ("bytes", 3), ("bytes", ["a"] * 5),
        )),
    ):  # fmt: skip
        (target / "shards.json").write_text(json.dumps({**index, **changed}))
        with pytest.raises(ValueError, match=r"shards\.json is damaged: "):
            load(target, image_size=(6, 5))


def test_what_cannot_be_honoured_is_refused(folder, shards, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"holds images, which may have any size: give image_size"):
        load(shards)
    for names in ("cd", 3):
        with pytest.raises(ValueError, match="class_names must be a list of names, got "):
            load(shards, image_size=(6, 5), class_names=names)
    with pytest.raises(
        ValueError, match=r"class_names is dog, cat, and the shards .* cat, dog: sh"
    ):
        load(shards, image_size=(6, 5), class_names=["dog", "cat"])
    with pytest.raises(FileExistsError, match="pets holds shards of other images, or of other set"):
        shard(folder, shards, examples_per_shard=6)
    with pytest.raises(FileExistsError, match="holds something else: give another folder"):
        shard(folder, folder.parent)
    for inside in (folder, folder / "new", folder / ".." / "pets" / "new"):
        with pytest.raises(ValueError, match="lies in the folder of the data set, which it would"):
            shard(folder, inside)
    with pytest.raises(ValueError, match=r"examples_per_shard must be .* got 0"):
        shard(folder, tmp_path / "a", examples_per_shard=0)
    with pytest.raises(ValueError, match="out is needed for splits"):
        shard(load("digits"))
    data = cj.data.from_arrays(np.zeros((4, 8, 8, 2), np.uint8), [0, 1, 0, 1], ("a", "b"))
    with pytest.raises(ValueError, match="of 1 or 3 channels, and those of arrays have 2"):
        shard(cj.data.Splits(data), tmp_path / "a")
    images = np.zeros((4, 8, 8, 3), np.uint8)
    for labels, task in ((images[..., 0], "dense"), (np.eye(4)[:, :2], "multilabel")):
        data = cj.data.from_arrays(images, labels, ("a", "b"), task=task)
        with pytest.raises(ValueError, match="arrays has no classes with names, as shards have"):
            shard(cj.data.Splits(data), tmp_path / "a")
    stream = cj.data.stream(lambda epoch: [(images, [0, 1, 0, 1])], 1, label_names=("a", "b"))
    with pytest.raises(ValueError, match="needs all examples at hand, and stream is a stream"):
        shard(cj.data.Splits(stream), tmp_path / "a")
    files = load(folder, image_size=(8, 8), memory_budget=0).train
    data = cj.data.from_arrays(images, [0, 1, 0, 1], ("cat", "dog"))
    with pytest.raises(ValueError, match="files of any size in one part of the data set, and in"):
        shard(cj.data.Splits(data, test=files), tmp_path / "a")
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    for call in (lambda: shard(folder, tmp_path / "a"), lambda: load(shards, image_size=(6, 5))):
        with pytest.raises(ValueError, match="need array_record, which is not installed here"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_changed_meanwhile_is_named(folder, tmp_path):
    splits = load(folder, image_size=(6, 5), memory_budget=0)
    images = splits.train.inputs
    object.__setattr__(images, "hashes", ("0" * 32, *images.hashes[1:]))
    with pytest.raises(ValueError, match="image 0 of pets train was changed while it was written"):
        shard(splits, tmp_path / "a")


def test_a_full_disk_is_named_and_leaves_no_shard(folder, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a shard cannot be written: .*too large") as caught:
            shard(folder, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["plan.json"]


def test_shards_that_are_written_anew_in_another_size_are_read_anew(folder, tmp_path):
    """Also where there are as many of them, of the same images."""
    target = tmp_path / "a"
    for size in (12, 20):
        shard(folder, target, examples_per_shard=size)
        images = load(target, image_size=(6, 5), memory_budget=0).train.inputs
        np.testing.assert_array_equal(
            images[:], load(folder, image_size=(6, 5), memory_budget=0).train.inputs[:]
        )
        shutil.rmtree(target)


def test_more_shards_are_open_than_a_process_is_let_have_files(folder, tmp_path):
    target = shard(folder, tmp_path / "a", examples_per_shard=1)
    script = (
        "import resource, sys, cnnjax as cj\n"
        "there = len(__import__('os').listdir('/proc/self/fd'))\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (there + 9, hard))\n"
        "data = cj.data.load(sys.argv[1], image_size=(6, 5), memory_budget=0)\n"
        "print(data.train.inputs[:].shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, target], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"({COUNT}, 6, 5, 3)\n"


def test_a_damaged_shard_is_named_while_its_images_are_cached(shards, tmp_path):
    target = copied(shards, tmp_path)
    file = target / "train-00001-of-00005.array_record"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)
    with pytest.raises(DataNotFound, match=r"train-00001-of-00005\.array_record is damaged"):
        load(target, image_size=(7, 5))


def test_images_of_one_size_need_none_and_are_kept_without_loss(tmp_path):
    digits = load("digits", train_examples=40)
    folder = shard(digits, tmp_path / "digits", examples_per_shard=15)
    again = load(folder)
    for name, part in digits.parts.items():
        np.testing.assert_array_equal(again.parts[name].inputs[:], part.inputs)
        np.testing.assert_array_equal(again.parts[name].labels, part.labels)
    assert files_of(shard(digits, tmp_path / "again", examples_per_shard=15)) == files_of(folder)
    assert load(folder, memory_budget=0).train.fingerprint == again.train.fingerprint


def test_shards_have_the_size_that_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)  # 12 KiB each, also as PNG
    data = cj.data.from_arrays(images, np.arange(60) % 2, ("a", "b"))
    folder = shard(cj.data.Splits(data), tmp_path / "a", shard_mb=0.25)
    sizes = [file.stat().st_size for file in sorted(folder.glob("*.array_record"))]
    assert len(sizes) == 3
    assert max(sizes) < 0.5 * 2**20


def test_the_parts_of_all_processes_joined_are_the_batch_of_one(shards):
    data = load(shards, image_size=(6, 5), memory_budget=0).train
    whole = Loader(data, 6, shuffle=True).batch(1, 2)
    parts = [Loader(data, 6, True, process_index=i, process_count=2).batch(1, 2) for i in (0, 1)]
    for key in ("inputs", "labels", "index"):
        np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), whole[key])
