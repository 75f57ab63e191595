"""Exported files, run by onnxruntime and by JAX alone, against the model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import export as jax_export

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models.runtimes import onnx_file, onnx_operations

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def convnet() -> cj.Model:
    names = ("ant", "bee", "cat")
    return cj.create_model(
        "mnist_convnet", input_shape=(22, 22, 1), num_classes=3, label_names=names
    )


def by_onnxruntime(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def by_jax(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as file:
        program = jax_export.deserialize(bytearray(file.read("program.bin")))
    return {name: np.asarray(one) for name, one in program.call(inputs).items()}


RUNNERS = {"onnx": by_onnxruntime, "stablehlo": by_jax}


class Seg(linen.Module):
    """A class for every pixel, by a convolution down and a transposed one up."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.relu(linen.Conv(4, (3, 3), strides=2)(x))
        return linen.Dense(2)(linen.ConvTranspose(4, (3, 3), strides=(2, 2))(x))


def of_pixels() -> cj.Model:
    return cj.Model.from_module(Seg(), (None, None, 3), task="dense")


class Texts(linen.Module):
    """A recurrent layer over words."""

    @linen.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        return linen.Dense(1)(cj.nn.GRU(4)(linen.Embed(30, 3)(tokens)))


def of_texts() -> cj.Model:
    return cj.Model.from_module(Texts(), (7,), preprocessing="tokens")


CASES: dict[str, tuple[Callable[[], cj.Model], str, np.ndarray]] = {
    "images": (convnet, "images", RNG.integers(0, 256, (3, 22, 22, 1), dtype=np.uint8)),
    "pixels": (of_pixels, "images", IMAGES[:, :, :14]),
    "texts": (of_texts, "tokens", RNG.integers(0, 30, (3, 7)).astype(np.int32)),
}


@pytest.mark.parametrize("ending", RUNNERS)
@pytest.mark.parametrize("case", CASES)
def test_a_file_says_what_predict_says(tmp_path: Path, case: str, ending: str) -> None:
    make, name, inputs = CASES[case]
    model = make()
    made = cj.export(model, tmp_path / f"m.{ending}")
    assert made.difference <= 1e-5
    for count in (3, 2):  # any number of examples
        given = inputs[:count] if name == "tokens" else inputs[:count].astype(np.float32)
        (got,) = RUNNERS[ending](made.path, {name: given}).values()
        np.testing.assert_allclose(got, cj.predict(model, inputs[:count]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("ending", RUNNERS)
def test_logits_of_bytes_for_a_fixed_batch(tmp_path: Path, ending: str) -> None:
    model, images = convnet(), CASES["images"][2][:2]
    made = cj.export(model, tmp_path / f"m.{ending}", batch=2, logits=True, dtype="uint8")
    assert made.inputs == {"images": "uint8 [2, 22, 22, 1]"}
    assert made.outputs == {"logits": "float32 [2, 3]"}
    got = RUNNERS[ending](made.path, {"images": images})["logits"]
    np.testing.assert_allclose(got, model(model.spec.preprocess(images)), rtol=0, atol=1e-5)


def test_preprocessing_may_be_left_to_the_program(tmp_path: Path) -> None:
    model, images = convnet(), CASES["images"][2][:2]
    made = cj.export(model, tmp_path / "m.onnx", preprocessing=False)
    inputs = np.asarray(model.spec.preprocess(images))
    (got,) = by_onnxruntime(made.path, {"images": inputs}).values()
    np.testing.assert_allclose(got, cj.predict(model, images), rtol=0, atol=1e-5)


def test_class_names_and_preprocessing_are_inside(tmp_path: Path) -> None:
    model = convnet()
    path = cj.export(model, tmp_path / "m.onnx").path
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    in_onnx = session.get_modelmeta().custom_metadata_map
    with zipfile.ZipFile(cj.export(model, tmp_path / "m.stablehlo").path) as file:
        facts = json.loads(file.read("metadata.json"))
    assert facts["class_names"] == json.loads(in_onnx["class_names"]) == ["ant", "bee", "cat"]
    assert facts["preprocessing"] == in_onnx["preprocessing"] == "unit"
    assert facts["inputs"] == json.loads(in_onnx["inputs"]) == {
        "images": {
            "shape": ["b", 22, 22, 1],
            "dtype": "float32",
            "values": "pixels in [0, 255], channels last",
        }
    }  # fmt: skip


def test_onnx_has_a_node_for_a_layer(tmp_path: Path) -> None:
    model = convnet()
    made = cj.export(model, tmp_path / "m.onnx")
    kinds = [node.op_type for node in onnx.load(made.path).graph.node]
    assert kinds.count("Conv") == 3
    assert kinds.count("MaxPool") == 2
    weights = {one.name for one in onnx.load(made.path).graph.initializer}
    assert set(trees.leaves(model.params)) <= weights


def test_the_same_model_makes_the_same_bytes(tmp_path: Path) -> None:
    for ending in RUNNERS:
        first, second = (cj.export(convnet(), tmp_path / f"{n}.{ending}").path for n in "ab")
        assert first.read_bytes() == second.read_bytes()


class Two(linen.Module):
    """Two inputs and two outputs by name."""

    @linen.compact
    def __call__(self, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        maps = linen.relu(linen.Conv(4, (3, 3))(inputs["image"])).mean((1, 2))
        both = jnp.concatenate([maps, linen.Embed(9, 4)(inputs["words"]).mean(1)], -1)
        return {"kind": linen.Dense(3)(both), "age": linen.Dense(1)(both)}


@pytest.mark.parametrize("ending", RUNNERS)
def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path, ending: str) -> None:
    model = cj.Model.from_module(
        Two(),
        {"image": (16, 16, 3), "words": (5,)},
        preprocessing={"image": "unit", "words": "tokens"},
        task={"kind": "classes", "age": "values"},
    )
    made = cj.export(model, tmp_path / f"m.{ending}")
    inputs = {"image": IMAGES, "words": RNG.integers(0, 9, (3, 5)).astype(np.int32)}
    got = RUNNERS[ending](made.path, {**inputs, "image": IMAGES.astype(np.float32)})
    wanted: Any = cj.predict(model, inputs)  # type: ignore[arg-type]
    for name in ("kind", "age"):
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5)


class Sorted(linen.Module):
    """Has an operation without a counterpart here."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linen.Dense(2, name="last")(jnp.sort(x.reshape(x.shape[0], -1)))


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("m.pb", {}, r"path must end with .stablehlo or .onnx, got .*m\.pb"),
        ("m.onnx", {"batch": 0}, "batch must be a name, or a whole number >= 1, got 0"),
        ("m.onnx", {"batch": True}, "batch must be a name, or a whole number >= 1, got True"),
        ("m.onnx", {"batch": "mod"}, "batch must be a name, or a whole number >= 1, got 'mod'"),
        ("m.onnx", {"batch": "h"}, "batch='h' is how another size is called: take 'b'"),
        ("m.onnx", {"dtype": "int8"}, "dtype of inputs must be 'float32' or 'uint8', got 'int8'"),
        ("m.onnx", {"dtype": "uint8", "preprocessing": False}, "without preprocessing inputs are"),
        ("m.onnx", {"input_shape": (8, 8, 3)}, "is none that Sorted takes"),
        ("m.onnx", {}, "JAX's operation 'sort' is none that can be written as ONNX here: export"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    tmp_path: Path, name: str, options: dict[str, Any], error: str
) -> None:
    model = cj.Model.from_module(Sorted(), (2, 2, 1))
    with pytest.raises(ValueError, match=error):
        cj.export(model, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_too_many_weights_for_onnx_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "_LARGEST", 1000)
    with pytest.raises(ValueError, match="holds less than 2: export to"):
        cj.export(convnet(), tmp_path / "m.onnx")


def test_other_outputs_than_the_model_s_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_operations.RULES, "exp", onnx_operations.RULES["tanh"])
    with pytest.raises(cj.models.OtherOutputs, match="differs from the model by"):
        cj.export(convnet(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need onnxruntime, .* pip install 'cnnjax\[export\]'"):
        cj.export(convnet(), tmp_path / "m.onnx")


class Windows(linen.Module):
    """Fits images that are not very small."""

    rows: bool = False

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = cj.nn.Conv2D(2, 5, strides=2)(x)
        if self.rows and x.shape[1] > x.shape[2]:  # which of any size is not known
            x = x[:, : x.shape[2]]
        return linen.Dense(2)(x.mean((1, 2)))


def test_a_size_may_be_any_that_is_not_very_small(tmp_path: Path) -> None:
    model = cj.Model.from_module(Windows(), (None, None, 3))
    made = cj.export(model, tmp_path / "m.onnx")
    images = RNG.integers(0, 256, (2, 37, 41, 3), dtype=np.uint8)
    (got,) = by_onnxruntime(made.path, {"images": images.astype(np.float32)}).values()
    np.testing.assert_allclose(got, cj.predict(model, images), rtol=0, atol=1e-5)
    assert b"least_size" in made.path.read_bytes()


def test_a_size_that_cannot_be_any_is_asked_for(tmp_path: Path) -> None:
    model = cj.Model.from_module(Windows(rows=True), (None, None, 3))
    with pytest.raises(ValueError, match=r"any size .* give input_shape, e.g. \(64, 64, 3\)"):
        cj.export(model, tmp_path / "m.onnx")
    made = cj.export(model, tmp_path / "m.onnx", input_shape=(16, 16, 3))
    (got,) = by_onnxruntime(made.path, {"images": IMAGES.astype(np.float32)}).values()
    np.testing.assert_allclose(got, cj.predict(model, IMAGES), rtol=0, atol=1e-5)
