"""Data sets prepared from raw files that a local server sends, well, badly or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import resource
import shutil
import signal
import struct
import sys
import threading
import time

import numpy as np
import pytest
import raw_files
import tensorflow_datasets as tfds
from commands import start
from PIL import Image

import cnnjax as cj
from cnnjax.core.download_job import DownloadError
from cnnjax.core.storage import alone
from cnnjax.data.prepare import RECIPES, RawFile, building, prepare, raw
from cnnjax.data.prepare import raw_files as official_files

download_module = sys.modules["cnnjax.core.download"]

# A process that prepares what a server offers: its arguments are the folder and the raw files.
CHILD = """
import sys
from cnnjax.data.prepare import RawFile, building
directory, *rest = sys.argv[1:]
fours = zip(rest[::4], rest[1::4], map(int, rest[2::4]), rest[3::4], strict=True)
files = [RawFile(*four) for four in fours]
building.raw_files = lambda name: files
print(building.prepare("mnist", data_dir=directory, progress=print))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(download_module, "_PAUSES", (0, 0, 0))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def listed(server, files):
    """What TFDS would know of these files, if the server had them."""
    return [
        RawFile(f"{server.base}/{name}", name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    ]


@pytest.fixture
def offer(server, monkeypatch):
    """Let the server have raw files and `prepare` ask it for them."""

    def install(files):
        found = listed(server, files)
        monkeypatch.setattr(building, "raw_files", lambda name: found)
        server.answer = lambda handler: handler.serve(files[handler.path.removeprefix("/")])
        return found

    return install


def opened(folder, name, split):
    """The records as anyone opens them."""
    return list(tfds.data_source(name, data_dir=folder, split=split, download=False))


def official_order(split, keys):
    """The order in which TFDS stores the examples of these keys."""
    from tensorflow_datasets.core import hashing

    hasher = hashing.Hasher(split)
    return sorted(keys, key=hasher.hash_key)


def left(folder):
    """What lies in a TFDS directory, apart from the raw files."""
    return sorted(p.name for p in folder.iterdir() if p.name != "downloads")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist(offer, tmp_path, name):
    files = raw_files.mnist(train=12, test=5)
    offer(files)
    said = []
    where = prepare(name, data_dir=tmp_path, progress=said.append)
    assert where == tmp_path / name / "3.0.1"
    assert left(tmp_path) == [name]
    assert said[0].startswith("downloading 4 of 4 files, 0.0 MiB, into ")
    assert said[-1] == f"{name} is prepared, in {where}"
    for split, prefix, count in (("train", "train", 12), ("test", "t10k", 5)):
        content = files[f"{prefix}-images-idx3-ubyte.gz"]
        images = np.frombuffer(gzip.decompress(content)[16:], np.uint8)
        images = images.reshape(count, 28, 28, 1)
        records = opened(tmp_path, name, split)
        order = official_order(split, range(count))
        np.testing.assert_array_equal([r["image"] for r in records], images[order])
        assert [r["label"] for r in records] == [i % 10 for i in order]


def test_a_second_call_does_nothing_and_says_so(offer, server, tmp_path):
    offer(raw_files.mnist())
    where = prepare("mnist", data_dir=tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    asked, said = len(server.asked), []
    assert prepare("mnist", data_dir=tmp_path, progress=said.append) == where
    assert said == [f"mnist is prepared already, in {where}"]
    assert len(server.asked) == asked
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_cifar10_in_the_order_of_its_files(offer, tmp_path):
    offer(raw_files.cifar10())
    prepare("cifar10", data_dir=tmp_path)
    image_list = np.concatenate([raw_files.cifar_images(2, i) for i in range(1, 6)])
    records = opened(tmp_path, "cifar10", "train")
    order = official_order("train", range(10))
    np.testing.assert_array_equal([r["image"] for r in records], image_list[order])
    assert [r["label"] for r in records] == order
    assert [r["id"] for r in records] == [f"train_{i:05d}".encode() for i in order]
    labels = {r["id"]: r["label"] for r in opened(tmp_path, "cifar10", "test")}
    assert labels == {b"test_00000": 0, b"test_00001": 9, b"test_00002": 4}
    data = cj.data.load("cifar10", data_dir=tmp_path)
    assert data.train.label_names[3] == "cat"
    assert data.train.name == "cifar10 3.0.2 train"  # nothing lost on the way


def test_cifar100_has_both_labels(offer, tmp_path):
    offer(raw_files.cifar100())
    where = prepare("cifar100", data_dir=tmp_path)
    found = {
        r["id"]: (r["coarse_label"], r["label"]) for r in opened(tmp_path, "cifar100", "train")
    }
    assert found == {
        b"train_00000": (0, 5), b"train_00001": (3, 33),
        b"train_00002": (2, 50), b"train_00003": (19, 0),
    }  # fmt: skip
    assert (where / "label.labels.txt").read_text().split()[99] == "fine_99"
    assert (where / "coarse_label.labels.txt").read_text().split()[19] == "coarse_19"


def test_imdb_reviews(offer, tmp_path):
    offer(raw_files.imdb_reviews())
    where = prepare("imdb_reviews", data_dir=tmp_path)
    assert where == tmp_path / "imdb_reviews" / "plain_text" / "1.0.0"
    keys = [
        name
        for name in raw_files.REVIEWS
        if name.startswith("aclImdb/train") and "unsup" not in name
    ]
    records = opened(tmp_path, "imdb_reviews", "train")
    order = official_order("train", keys)
    assert [r["text"].decode() for r in records] == [raw_files.REVIEWS[name] for name in order]
    assert [r["label"] for r in records] == [int("/pos/" in name) for name in order]
    tested = {r["text"].decode(): r["label"] for r in opened(tmp_path, "imdb_reviews", "test")}
    assert tested == {"a bad film": 0, "what a good film! <br />caf\u00e9": 1}
    (unknown,) = opened(tmp_path, "imdb_reviews", "unsupervised")
    assert (unknown["text"], unknown["label"]) == (b"who knows", -1)
    texts = cj.data.load_texts("imdb_reviews", data_dir=tmp_path, length=8)
    assert (len(texts.train), len(texts.test)) == (3, 2)


def test_cats_vs_dogs_without_the_broken_files(offer, tmp_path):
    files = raw_files.cats_vs_dogs()
    offer(files)
    said = []
    prepare("cats_vs_dogs", data_dir=tmp_path, progress=said.append)
    assert said[-2].startswith("4 broken or mislabelled files were left out (1,738 of the official")
    assert "PetImages/Cat/2.jpg, PetImages/Cat/666.jpg" in said[-2]
    records = opened(tmp_path, "cats_vs_dogs", "train")
    wanted = raw_files.pets()
    assert [r["image/filename"].decode() for r in records] == official_order("train", wanted)
    for record in records:
        name = record["image/filename"].decode()
        assert record["label"] == int("Dog" in name)
        pixels = wanted[name]
        if pixels.ndim == 2:  # stored again, in RGB
            assert record["image"].shape == (*pixels.shape, 3)
            continue
        decoded = Image.open(io.BytesIO(raw_files.image(pixels)))
        np.testing.assert_array_equal(record["image"], np.asarray(decoded))


def test_a_file_put_by_hand_is_used(offer, server, tmp_path):
    files = raw_files.mnist()
    offer(files)
    folder = tmp_path / "downloads" / "mnist"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    prepare("mnist", data_dir=tmp_path)
    assert server.asked == []


def test_a_cut_connection_is_resumed(offer, server, tmp_path):
    files = raw_files.mnist(train=40)
    offer(files)

    def cut(handler):
        handler.serve(files[handler.path.removeprefix("/")], cut=900)

    server.answer = cut
    with pytest.raises(DownloadError, match="the connection was cut"):
        prepare("mnist", data_dir=tmp_path)
    assert left(tmp_path) == []
    server.answer = lambda handler: handler.serve(files[handler.path.removeprefix("/")])
    server.asked.clear()
    prepare("mnist", data_dir=tmp_path)
    assert server.ranges[0] is not None  # went on where it had ended
    assert len(opened(tmp_path, "mnist", "train")) == 40


def wrong_content(handler):
    handler.serve(bytes(len(handler.server.files[handler.path])))


def longer(handler):
    handler.serve(handler.server.files[handler.path] + b"more")


def page(handler):
    handler.reply(b"<html>log in</html>", Content_Type="text/html")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wrong_content, "what came has the sha256 .*, expected .*, and was deleted"),
        (longer, "the server's file has .* bytes, expected"),
        (page, "the answer is a web page"),
        (lambda handler: handler.send_error(404), "the server answered 404"),
    ],
    ids=["checksum", "size", "html", "missing"],
)
def test_a_wrong_answer_is_one_line_and_leaves_nothing(offer, server, tmp_path, answer, words):
    files = raw_files.mnist()
    offer(files)
    good = server.answer
    server.files = {f"/{name}": data for name, data in files.items()}
    server.answer = answer
    with pytest.raises(DownloadError, match=words) as caught:
        prepare("mnist", data_dir=tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    assert f"{server.base}/train-images-idx3-ubyte.gz" in line
    assert str(tmp_path / "downloads" / "mnist" / "train-images-idx3-ubyte.gz") in line
    assert line.endswith("Needs no files: --data digits")
    assert left(tmp_path) == []
    assert list((tmp_path / "downloads" / "mnist").iterdir()) == []
    server.answer = good
    prepare("mnist", data_dir=tmp_path)


def test_without_network_the_answer_comes_at_once(offer, nowhere, monkeypatch, tmp_path):
    files = [RawFile(nowhere, "aclImdb_v1.tar.gz", 9, "0" * 64)]
    monkeypatch.setattr(building, "raw_files", lambda name: files)
    start_time = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        prepare("imdb_reviews", data_dir=tmp_path)
    assert time.monotonic() - start_time < 5
    line = str(caught.value)
    assert nowhere in line
    assert f"put the file by hand at {tmp_path / 'downloads' / 'imdb_reviews'}" in line
    assert line.endswith("Needs no files: --data templates")


def test_a_host_that_swallows_everything_is_given_up_in_time(monkeypatch, tmp_path):
    import socket

    def hang(*arguments, **settings):
        time.sleep(30)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(building, "_PATIENCE", 0.2)
    files = [RawFile("http://files.invalid/a.gz", "a.gz", 9, "0" * 64)]
    monkeypatch.setattr(building, "raw_files", lambda name: files)
    with pytest.raises(DownloadError, match=r"no answer within 0\.2 s"):
        prepare("mnist", data_dir=tmp_path)


EVIL = {"aclImdb/../../evil.txt": b"", "/etc/evil": b"", "..\\evil": b"", "C:/evil": b""}


@pytest.mark.parametrize("member", EVIL)
def test_a_member_that_leads_out_is_refused(offer, tmp_path, member):
    reviews = {name: text.encode() for name, text in raw_files.REVIEWS.items()}
    offer({"aclImdb_v1.tar.gz": raw_files.tar({member: b"evil", **reviews})})
    with pytest.raises(ValueError, match="which leads out of its folder") as caught:
        prepare("imdb_reviews", data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert left(tmp_path / "data") == []
    assert os.listdir(tmp_path) == ["data"]


def bad_labels(files):
    files["train-labels-idx1-ubyte.gz"] = raw_files.idx(np.zeros(3, np.uint8))


def cut_images(files):
    files["train-images-idx3-ubyte.gz"] = files["train-images-idx3-ubyte.gz"][:-20]


def no_idx(files):
    files["t10k-labels-idx1-ubyte.gz"] = b"labels"


def label_of_no_class(files):
    files["train-labels-idx1-ubyte.gz"] = raw_files.idx(np.full(7, 10, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (bad_labels, r"train has images \[7, 28, 28\] and labels \[3\]"),
        (cut_images, "damaged or cut off"),
        (no_idx, "is no idx file: it begins with 6c 61 62 65"),
        (label_of_no_class, "has the label 10; there are 10 classes"),
    ],
)
def test_raw_files_that_hold_something_else(offer, tmp_path, spoil, words):
    files = raw_files.mnist()
    spoil(files)
    offer(files)
    with pytest.raises(ValueError, match=words) as caught:
        prepare("mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, r"lacks the member cifar-10-batches-bin/batches\.meta\.txt"),
        (
            {
                "cifar-10-batches-bin/batches.meta.txt": raw_files.names("class", 10),
                "cifar-10-batches-bin/test_batch.bin": bytes(3073),
            },
            r"lacks the member cifar-10-batches-bin/data_batch_1\.bin",
        ),
        (
            {"cifar-10-batches-bin/batches.meta.txt": b"cat\ndog\n"},
            r"batches\.meta\.txt names 2 classes, expected 10",
        ),
    ],
)
def test_an_archive_of_something_else(offer, tmp_path, members, words):
    offer({"cifar-10-binary.tar.gz": raw_files.tar(members)})
    with pytest.raises(ValueError, match=words):
        prepare("cifar10", data_dir=tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["empty", "text", "cut"])
def test_what_is_no_archive(offer, tmp_path, kind):
    whole = raw_files.cifar10()["cifar-10-binary.tar.gz"]
    offer(
        {"cifar-10-binary.tar.gz": {"empty": b"", "text": b"no archive", "cut": whole[:900]}[kind]}
    )
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz (is|lacks)") as caught:
        prepare("cifar10", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_record_cut_in_half_and_a_strange_label(tmp_path):
    names = {"cifar-10-batches-bin/batches.meta.txt": raw_files.names("class", 10)}
    batch = "cifar-10-batches-bin/test_batch.bin"
    file = tmp_path / "cifar-10-binary.tar.gz"
    for content, words in (
        (bytes(3000), "3000 bytes, no multiple of 3073"),
        (b"\x0a" * 3073, "label 10"),
    ):
        file.write_bytes(raw_files.tar({**names, batch: content}))
        with pytest.raises(ValueError, match=words):
            list(raw.cifar10({file.name: file}).splits["test"]())


def test_a_file_of_a_strange_size_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "_LARGEST_MEMBER", 10)
    (content,) = raw_files.cats_vs_dogs().values()
    file = tmp_path / "pets.zip"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"0\.jpg has .* bytes, at most 10 are due"):
        list(raw.cats_vs_dogs({file.name: file}).splits["train"]())


def test_a_disk_that_takes_no_more(offer, tmp_path):
    offer(raw_files.mnist(train=200))
    building._download_all("mnist", tmp_path / "downloads" / "mnist", lambda text: None, False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"mnist was not written: File too large$"):
            prepare("mnist", data_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(tmp_path) == []
    prepare("mnist", data_dir=tmp_path)
    assert left(tmp_path) == ["mnist"]


def test_records_that_are_not_there_are_noticed(offer, tmp_path, monkeypatch):
    offer(raw_files.mnist())

    class Fewer(list):
        def __len__(self):
            return 6

    source = tfds.core.DatasetBuilder.as_data_source
    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "as_data_source", lambda self, **s: Fewer(source(self, **s))
    )
    with pytest.raises(OSError, match="7 examples were written, 6 are there"):
        prepare("mnist", data_dir=tmp_path)
    assert left(tmp_path) == []


def test_tfrecord_files_in_the_way(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"splits": [{"name": "train"}]}')
    (folder / "features.json").write_text("{}")
    (folder / "mnist-train.tfrecord-00000-of-00001").write_bytes(b"")
    with pytest.raises(ValueError, match=r"TFRecord files need TensorFlow.*another directory"):
        prepare("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("left", ["3.0.1/mnist-train.array_record", "3.0.1.incompleteAB/x"])
def test_an_incomplete_data_set_is_nothing_to_build_on(offer, server, tmp_path, left):
    offer(raw_files.mnist())
    file = tmp_path / "mnist" / left
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(ValueError, match=r"mnist holds an incomplete data set.*delete it"):
        prepare("mnist", data_dir=tmp_path)
    assert server.asked == []
    assert file.exists()


@pytest.mark.parametrize("info", ["{", "{}", "[]", '{"splits": [{"name": "test"}]}'])
def test_a_damaged_data_set_is_named(tmp_path, info):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(info)
    with pytest.raises(ValueError, match=r"3\.0\.1 is damaged \(data|has no split 'train'"):
        prepare("mnist", data_dir=tmp_path)


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file: give a directory"):
        prepare("mnist", data_dir=tmp_path / "file")


def test_all_files_that_are_missing_are_named(offer, server, tmp_path):
    offer(raw_files.mnist())
    server.answer = lambda handler: handler.send_error(404)
    with pytest.raises(DownloadError) as caught:
        prepare("mnist", data_dir=tmp_path)
    for name in raw_files.mnist():
        assert f"{server.base}/{name}" in str(caught.value)


def test_who_waits_for_another_process_says_so(offer, tmp_path):
    offer(raw_files.mnist())
    entered, said = threading.Event(), []

    def hold():
        with alone(tmp_path / ".mnist.lock"):
            entered.set()
            while not said:
                time.sleep(0.01)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    prepare("mnist", data_dir=tmp_path, progress=said.append)
    holder.join()
    assert said[0] == "another process prepares mnist: waiting"
    assert said[-1].startswith("mnist is prepared, in ")


def test_an_unknown_name_offers_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe for a data set 'cifar'.*cifar10"):
        prepare("cifar", data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def start_child(folder, files):
    told = [str(part) for f in files for part in (f.url, f.name, f.size, f.sha256)]
    return start("-c", CHILD, folder, *told)


@pytest.mark.thorough
def test_two_processes_end_with_one_directory(offer, server, tmp_path):
    files = offer(raw_files.mnist())
    children = [start_child(tmp_path, files) for _ in range(2)]
    said = [child.communicate(timeout=120) for child in children]
    where = str(tmp_path / "mnist" / "3.0.1")
    for child, (out, err) in zip(children, said, strict=True):
        assert child.returncode == 0, err
        assert out.splitlines()[-1] == where
    assert sum("writing mnist" in out for out, _ in said) == 1
    assert left(tmp_path) == ["mnist"]
    assert len(server.asked) == 4
    assert len(opened(tmp_path, "mnist", "train")) == 7


@pytest.mark.thorough
def test_what_a_killed_process_left_is_swept_away(offer, server, tmp_path):
    files = offer(raw_files.mnist())
    good = server.answer

    def hang(handler):
        if handler.path.startswith("/t10k"):
            server.over.wait(30)
        good(handler)

    server.answer = hang
    child = start_child(tmp_path, files)
    folder = tmp_path / "downloads" / "mnist"
    deadline = time.monotonic() + 60
    while not (folder / "train-labels-idx1-ubyte.gz").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    shutil.copytree(folder, tmp_path / ".mnist-abc" / "tfds")  # as if killed while writing
    server.answer = good
    server.asked.clear()
    prepare("mnist", data_dir=tmp_path)
    assert left(tmp_path) == ["mnist"]
    assert len(server.asked) == 2  # the other two were there


def test_the_sources_are_those_of_tfds():
    for name in RECIPES:
        for file in official_files(name):
            assert file.url.startswith("http")
            assert len(file.sha256) == 64
            assert file.size > 4000
    sizes = {file.name: file.size for file in official_files("mnist")}
    assert sizes["train-images-idx3-ubyte.gz"] == 9912422  # as THE MNIST DATABASE says
    assert [f.name for f in official_files("imdb_reviews")] == ["aclImdb_v1.tar.gz"]


@pytest.mark.slow
def test_the_real_mnist_from_its_raw_files(offer, tfds_dir, tmp_path):
    """Raw files, rebuilt from the official directory and verified, give that directory again."""
    official = cj.data.load("mnist", data_dir=tfds_dir)
    files = {}
    for split, prefix, md5 in (
        ("train", "train", "6bbc9ace898e44ae57da46a324031adb"),  # of train-images-idx3-ubyte
        ("test", "t10k", "2646ac647ad5339dbf082846283269ea"),
    ):
        data = official.parts[split]
        order = official_order(split, range(len(data)))
        images, labels = np.empty_like(data.inputs), np.empty_like(data.labels)
        images[order], labels[order] = data.inputs, data.labels
        head = struct.pack(">4I", 2051, len(data), 28, 28)
        assert hashlib.md5(head + images.tobytes()).hexdigest() == md5
        files[f"{prefix}-images-idx3-ubyte.gz"] = raw_files.idx(images[..., 0])
        files[f"{prefix}-labels-idx1-ubyte.gz"] = raw_files.idx(labels.astype(np.uint8))
    offer(files)
    prepare("mnist", data_dir=tmp_path)
    prepared = cj.data.load("mnist", data_dir=tmp_path)
    for split, data in prepared.parts.items():
        np.testing.assert_array_equal(data.inputs, official.parts[split].inputs)
        np.testing.assert_array_equal(data.labels, official.parts[split].labels)
        assert data.fingerprint == official.parts[split].fingerprint
