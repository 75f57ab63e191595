"""What is often given for a weight file is called by its name; half precision is read."""

import gzip
import json
import os
import pickle
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.models import WeightsDoNotFit
from cnnjax.weights import DamagedWeights, read_weights

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:3e61aa8c\nsize 27691624\n"
TABLE = b"\0" * 40 + bytes.fromhex("57fb808b247547db")
OLD_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("w.h5", LFS, "is the pointer of a Git LFS file, not the file itself: `git lfs pull`"),
        ("w.safetensors", LFS, "is the pointer of a Git LFS file"),
        ("w.keras", LFS, "is the pointer of a Git LFS file"),
        ("w.h5", b"", "is empty: the download or the copy was cut off"),
        ("w.safetensors", b"", "is empty"),
        ("w.npz", b"\n\n<!DOCTYPE html>\n<html>", "is a web page, probably an error or a login"),
        ("w.h5", b"<?xml version='1.0'?><Error>AccessDenied", "is a web page"),
        ("w.safetensors", b"\xef\xbb\xbf<html><head>", "is a web page"),
        ("w.h5", b'{"error": "not found"}', "is JSON text, a configuration perhaps"),
        ("net.pth", b"anything", "is no PyTorch file of the zip format since 1.6"),
        ("net.h5", OLD_TORCH, "is a PyTorch file of the format before 1.6, a bare pickle"),
        ("w.h5", pickle.dumps({"a": 1}), "is a pickle, which could run any code and is never"),
        ("w.h5", pickle.dumps({"a": 1}, 0), "is a pickle, which could run any code and is never"),
        ("w.h5", pickle.dumps([1], 1)[:0] + b"cnumpy\narray\n", "is a pickle"),
        ("model.ckpt-5.index", TABLE, "is a part of a TensorFlow checkpoint"),
        ("weights.h5", TABLE, "is a part of a TensorFlow checkpoint"),
        ("model.data-00000-of-00001", b"\1" * 99, "is a part of a TensorFlow checkpoint"),
        ("saved_model.pb", b"\x08\x01", "is a TensorFlow graph or checkpoint"),
        ("net.onnx", b"\x08\x07\x12\x07pytorch", "is an ONNX model"),
        ("net.h5", b"\x08\x07\x12\x07pytorch\x1a", "is an ONNX model"),
        ("w.npz", b"\x93NUMPY\x01\0", r"is a single array \(.npy\), without a layer's name"),
        ("w.h5", gzip.compress(b"x", mtime=0), "is compressed with gzip, to be unpacked first"),
        ("w.h5", b"\0" * 257 + b"ustar\0" + b"\0" * 249, "is a tar archive, to be unpacked first"),
        ("w.h5", b"\x89PNG\r\n\x1a\n", "is an image"),
        ("w.h5", b"no weights", "is no weight file: expected .weights.h5"),
    ],
)
def test_files_by_name(name, content, text, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DamagedWeights, match=text) as caught:
        cj.create_model("mnist_convnet", weights=path)
    assert str(caught.value).startswith(f"{path} is")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("archive/data.pkl", "has a damaged pickle"),
        ("net/code/constants.pkl", "is a TorchScript archive, a net as code"),
        ("model/weights.h5", "is an archive with 'model/weights.h5' in it, to be unpacked first"),
        ("readme.txt", "is an archive without weights"),
    ],
)
def test_archives_by_name(member, text, tmp_path):
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, b"x")
    with pytest.raises(DamagedWeights, match=text):
        cj.create_model("mnist_convnet", weights=path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_names_of_pytorch(suffix, tmp_path):
    from safetensors.numpy import save_file

    arrays = {
        "conv1.weight": np.zeros((8, 3, 3, 3), np.float32),
        "bn1.running_mean": np.zeros(8, np.float32),
        "bn1.num_batches_tracked": np.zeros((), np.int64),
        "layer1.0.conv1.weight": np.zeros((8, 8, 3, 3), np.float32),
    }
    path = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else lambda a, p: np.savez(p, **a))(arrays, path)
    layers = {layer.name: layer.arrays for layer in read_weights(path).layers}
    assert {name: list(arrays) for name, arrays in layers.items()} == {
        "bn1": ["running_mean"],
        "conv1": ["weight"],
        "layer1.0.conv1": ["weight"],
    }
    with pytest.raises(WeightsDoNotFit, match=r"PyTorch's names \('bn1.running_mean'\), none of"):
        cj.create_model("mnist_convnet", weights=path)


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("saved_model.pb", "is a directory, a TensorFlow SavedModel"),
        ("model.ckpt-1.index", "is a directory, with a TensorFlow checkpoint"),
        ("model.json", "is a directory, which cj.load reads"),
        ("other", "is a directory: expected .weights.h5"),
    ],
)
def test_directories_by_name(inside, text, tmp_path):
    (tmp_path / inside).touch()
    with pytest.raises(FileNotFoundError, match=text):
        read_weights(tmp_path)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(DamagedWeights, match="is a pipe, not a regular file"):
        read_weights(tmp_path / "pipe.h5")


def test_names_of_files_are_shown_plainly(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\\x1b\[2J\.h5 does not exist"):
        read_weights(tmp_path / "\x1b[2J.h5")
    path = tmp_path / "\x1b[2J\n.npz"
    np.savez(path, **{"\x1b[1m/kernel": np.zeros(3, np.float32)})
    with pytest.raises(WeightsDoNotFit) as caught:
        cj.create_model("mnist_convnet", weights=path)
    assert str(caught.value).isprintable()


# Half precision


def keras_net(dtype):
    net = keras.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(512, activation="relu", dtype=dtype),
            layers.Dense(10, dtype=dtype),
        ]
    )
    net.layers[0].kernel.assign(np.random.default_rng(0).normal(size=(784, 512)))
    return net


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "mixed_bfloat16"])
@pytest.mark.parametrize("file", ["m.h5", "m.keras", "m.weights.h5"])
def test_keras_files_in_half_precision(file, dtype, tmp_path):
    net = keras_net(dtype)
    path = tmp_path / file
    (net.save_weights if file.endswith(".weights.h5") else net.save)(path)
    model = cj.create_model("mlp", weights=path)
    for name, layer in zip(("dense1", "logits"), net.layers, strict=True):
        for weight, variable in zip(("kernel", "bias"), layer.weights, strict=True):
            theirs = np.asarray(variable.value).astype(np.float32)
            assert np.array_equal(model.params[name][weight], theirs)


def test_two_bytes_without_a_word_are_bfloat16(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(ml_dtypes.bfloat16)
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = values.view("V2")
    (layer,) = read_weights(path).layers
    assert np.array_equal(layer.arrays["0"], values.astype(np.float32))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_arrays_by_name_in_other_precision(dtype, tmp_path):
    from safetensors.numpy import save_file

    values = np.random.default_rng(0).normal(size=(3, 4)).astype(dtype)
    np.savez(tmp_path / "m.npz", **{"a/kernel": values})
    save_file({"a/kernel": values}, tmp_path / "m.safetensors")
    for file in ("m.npz", "m.safetensors"):
        (layer,) = read_weights(tmp_path / file).layers
        assert np.array_equal(layer.arrays["kernel"], values.astype(np.float32))


def test_float8_is_refused_by_name(tmp_path):
    values = np.ones((3, 4), ml_dtypes.float8_e4m3fn)
    np.savez(tmp_path / "m.npz", **{"a/kernel": values})
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = values.view("V1")
    header = {"a/kernel": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(4)
    (tmp_path / "m.safetensors").write_bytes(content)
    for file in ("m.npz", "m.weights.h5", "m.safetensors"):
        with pytest.raises(DamagedWeights, match=r"float8.* not read: save it as float32"):
            read_weights(tmp_path / file)


# What does not fit


@pytest.mark.thorough
def test_the_advice_is_not_what_was_done(tmp_path):
    np.savez(tmp_path / "m.npz", **{"dense1/kernel": np.zeros((3, 4), np.float32)})
    for partial in (False, True):
        with pytest.raises(WeightsDoNotFit, match=r"Nothing in it fits$") as caught:
            cj.create_model("mlp", weights=tmp_path / "m.npz", allow_partial=partial)
        assert "~ dense1/kernel: expected [784, 512], found [3, 4]" in str(caught.value)
        assert "- logits/kernel [512, 10]" not in str(caught.value)  # that is a new head
    model = cj.create_model("mlp", units=(300,))
    path = cj.export_weights(model, tmp_path / "o.npz")
    with pytest.raises(WeightsDoNotFit, match=r"~ dense1/kernel: expected \[784, 512\]"):
        cj.create_model("mlp", weights=path, num_classes=3, allow_partial=True)
