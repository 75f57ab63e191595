"""Damaged weight files of every format: an error of one line, or a model that is as it was.

Seeded, and bounded by number and by time. HDF5 is read in a process of its own for each file, as
users do it; since starting one takes longer than all else, here most of them are forked from one
that has imported h5py already.
"""

import contextlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import time
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models import WeightsDoNotFit
from cnnjax.weights import DamagedWeights, guarded, hdf5_child

pytestmark = pytest.mark.thorough

FORMATS = ("h5", "weights.h5", "keras", "npz", "safetensors")
MUTATIONS, SECONDS = 5_000, 300

# No single file may take longer.
MOST_SECONDS = 10

UNITS, SHAPE = (16, 16, 16), (4, 4, 1)

# An instance of the reader that has its imports, and forks for every file.
FORKING = """
import importlib.util, json, os, socket, sys
sys.path[:] = json.loads(sys.argv[1])
import h5py, numpy
spec = importlib.util.spec_from_file_location("hdf5_child", sys.argv[2])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
orders = socket.socket(fileno=int(sys.argv[3]))
while True:
    message, handles, _, _ = socket.recv_fds(orders, 65536, 1)
    if not message:
        break
    child = os.fork()
    if child == 0:
        with os.fdopen(handles[0], "wb") as stream:
            reader.run(*json.loads(message), stream)
            stream.flush()
            os._exit(0)
    os.close(handles[0])
    orders.send(f"{child}\\n".encode())
    orders.send(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\\n".encode())
"""


class Forked:
    """One fork, with what `subprocess.Popen` has."""

    def __init__(self, orders, answers, message):
        read, write = os.pipe()
        socket.send_fds(orders, [message], [write])
        os.close(write)
        self.answers, self.stdout = answers, os.fdopen(read, "rb")
        self.number, self.ended = int(answers.readline()), None

    def kill(self):
        """End it, if it has not ended."""
        if self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.number, 9)

    def wait(self):
        """Its status."""
        if self.ended is None:
            self.ended = int(self.answers.readline())
        return self.ended


@pytest.fixture(scope="module")
def forking():
    """A function in place of `guarded._start`."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    ours, theirs = socket.socketpair()
    where = json.dumps([entry for entry in sys.path if entry])
    command = [sys.executable, "-c", FORKING, where, hdf5_child.__file__, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    theirs.close()
    with ours, ours.makefile("rb") as answers:
        yield lambda path, member, seconds: Forked(
            ours, answers, json.dumps([str(path), member, seconds]).encode()
        )
        ours.shutdown(socket.SHUT_RDWR)
    process.wait()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """{format: content} of files of one net, whose hidden layers have equal shapes."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(units, activation="relu") for units in UNITS]
    inner = keras.Sequential([layers.Input((16,)), dense[0], dense[1]])
    net = keras.Sequential([layers.Input((16,)), inner, dense[2], layers.Dense(10, name="logits")])
    folder = tmp_path_factory.mktemp("sound")
    net.save(folder / "m.h5")
    net.save(folder / "m.keras")
    model = mlp(folder / "m.keras")
    for suffix in ("npz", "safetensors", "weights.h5"):
        cj.export_weights(model, folder / f"m.{suffix}")
    content = {suffix: (folder / f"m.{suffix}").read_bytes() for suffix in FORMATS}
    return content, trees.flatten(model.params)


def mlp(path):
    return cj.create_model("mlp", units=UNITS, input_shape=SHAPE, weights=path)


# Mutations: of bytes, of archives, of headers, of configurations, through HDF5's own library


def flipped(data, r):
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 1, 2, 8])):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)
    return bytes(data)


def cut(data, r):
    return data[: r.randrange(len(data))]


def inserted(data, r):
    at = r.randrange(len(data))
    return data[:at] + r.randbytes(r.choice([1, 4, 100])) + data[at:]


def removed(data, r):
    at = r.randrange(len(data))
    return data[:at] + data[at + r.choice([1, 4, 100]) :]


def overwritten(data, r):
    at, size = r.randrange(len(data)), r.choice([1, 2, 4, 8])
    value = r.choice([b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, r.randbytes(8)])
    return data[:at] + value[:size] + data[at + size :]


def repeated(data, r):
    at, other, size = r.randrange(len(data)), r.randrange(len(data)), r.choice([8, 64, 512])
    piece = data[other : other + size]
    return data[:at] + piece + data[at + len(piece) :]


BYTES = (flipped, flipped, flipped, cut, inserted, removed, overwritten, overwritten, repeated)
ODD = (None, True, -1, 0, 3.5, 1 << 70, "", "x" * 3_000, "\x1b[2J", [], {}, [[]], {"class_name": 3})


def any_bytes(data, r):
    return r.choice(BYTES)(data, r) if data else data


def archive(data, r):
    """Another archive of the same members, but for one thing."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    i = r.randrange(len(members))
    name, content = members[i]
    match r.randrange(6):
        case 0:
            members[i] = (r.choice(["../x", "\x1b[2J", "a/b/c", name[1:], name * 99]), content)
        case 1:
            members.append((name, content))
        case 2:
            del members[i]
        case 3:
            r.shuffle(members)
        case _:
            change = configuration if name.endswith(".json") and r.random() < 0.8 else any_bytes
            members[i] = (name, change(content, r))
    stream, kind = io.BytesIO(), r.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(stream, "w", kind) as file:
        for name, content in members:
            file.writestr(name, content)
    return stream.getvalue()


def configuration(data, r):
    """JSON with another value somewhere."""
    content = json.loads(data)
    places = list(_places(content))
    holder, key = r.choice(places)
    match r.randrange(4):
        case 0:
            del holder[key]
        case 1:
            holder[key] = r.choice(ODD)
        case 2:
            other, other_key = r.choice(places)
            with contextlib.suppress(KeyError, IndexError):
                holder[key] = json.loads(json.dumps(other[other_key]))
        case 3 if isinstance(holder, list):
            r.shuffle(holder)
        case _:
            holder[key] = [holder[key]]
    return json.dumps(content).encode()


def _places(content):
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(entries):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def header(data, r):
    """A .safetensors file whose header says something else."""
    size = 8 + int.from_bytes(data[:8], "little")
    change = r.choice([configuration, any_bytes])
    text = change(data[8:size], r)
    return len(text).to_bytes(8, "little") + text + data[size:]


def through_hdf5(data, r):
    """A file of HDF5 that is sound, with one thing changed."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        nodes = [file]
        file.visititems(lambda _, node: nodes.append(node))
        node = r.choice(nodes)
        match r.randrange(5):
            case 0 if node.name != "/":
                del file[node.name]
            case 1 if node.name != "/":
                with contextlib.suppress(ValueError):  # there is one of that name
                    file.move(node.name, r.choice([f"{node.name}_1", f"/x{node.name}"]))
            case 2:
                odd = r.choice([3, "text", np.zeros(3), ["a", "a"], [b"\xff"], np.zeros(2, "V3")])
                names = list(node.attrs) or ["name"]
                node.attrs[r.choice([*names, "layer_names", "weight_names", "dtype"])] = odd
            case 3 if isinstance(node, h5py.Dataset):
                name = node.name
                del file[name]
                dtype = r.choice(["f8", "f2", "i4", "V2", "V1", "S3", "c8"])
                file[name] = np.zeros(r.choice([(), (16,), (16, 16), (0,)]), dtype)
            case _ if "model_config" in file.attrs:
                text = configuration(file.attrs["model_config"].encode(), r)
                file.attrs["model_config"] = text.decode()[:60_000]
    return stream.getvalue()


KINDS = {
    "h5": (any_bytes, any_bytes, through_hdf5),
    "weights.h5": (any_bytes, any_bytes, through_hdf5),
    "keras": (any_bytes, archive),
    "npz": (any_bytes, archive),
    "safetensors": (any_bytes, header),
}


def check(path, base):
    """What a file does: "loaded" or the name of its error; anything else fails."""
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = mlp(path)
    except (DamagedWeights, WeightsDoNotFit, FileNotFoundError) as error:
        text, outcome = str(error), type(error).__name__
    else:
        text, outcome = "", "loaded"
    finally:
        assert time.monotonic() - start < MOST_SECONDS
    assert text.isprintable()
    assert len(text) < 5_000
    if outcome != "loaded":
        return outcome
    loaded = trees.flatten(model.params)
    assert {k: v.shape for k, v in loaded.items()} == {k: v.shape for k, v in base.items()}
    for name, array in loaded.items():
        assert np.isfinite(array).all()
        for other, values in base.items():  # of another layer of this shape
            swapped = other != name and values.shape == array.shape and "kernel" in name
            assert not swapped or not np.array_equal(array, values), f"{name} has {other}"
    return "loaded"


def fuzz(suffix, sound, folder, number, seconds):
    """Try so many mutations; returns how often what happened."""
    content, base = sound
    outcomes: dict[str, int] = {}
    start = time.monotonic()
    for seed in range(number):
        if time.monotonic() - start > seconds:
            break
        r = random.Random(f"{suffix} {seed}")
        mutated = r.choice(KINDS[suffix])(content[suffix], r)
        path = folder / f"m{seed % 2}.{suffix}"
        path.write_bytes(mutated)
        try:
            outcome = check(path, base)
        except BaseException as error:
            kept = folder / f"failed.{suffix}"
            kept.write_bytes(mutated)
            error.add_note(f"mutation {seed} of {suffix}, kept as {kept}")
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(f"{suffix}: {sum(outcomes.values())} mutations: {outcomes}")
    return outcomes


@pytest.mark.sample(2)
@pytest.mark.parametrize("suffix", FORMATS)
def test_sound_files_are_loaded(suffix, sound, tmp_path):
    content, base = sound
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(content[suffix])
    loaded = trees.flatten(mlp(path).params)
    assert all(np.array_equal(loaded[name], base[name]) for name in base)


@pytest.mark.sample(1)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", FORMATS)
def test_some_damaged_files(suffix, sound, forking, tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "_start", forking)
    assert sum(fuzz(suffix, sound, tmp_path, 40, 5).values()) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", FORMATS)
def test_many_damaged_files(suffix, sound, forking, tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "_start", forking)
    outcomes = fuzz(suffix, sound, tmp_path, MUTATIONS, SECONDS)
    assert outcomes["DamagedWeights"] > outcomes.get("loaded", 0) / 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", FORMATS[:3])
def test_damaged_files_as_users_read_them(suffix, sound, tmp_path):
    """The real start of a process for every file."""
    assert sum(fuzz(suffix, sound, tmp_path, 100, 120).values()) > 10
