"""Features on disk: the right numbers, computed once, never stale, resumed after a kill."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import start, wait_for
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import Dataset, FileImages, Splits
from cnnjax.transfer import Head, attach, extract_features, features, replace_head
from cnnjax.transfer import store as feature_store

LABELS = ("cat", "dog")


def pixels(count: int, seed: int = 0, size: int = 18) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def dataset(count: int = 11, seed: int = 0, name: str = "noise") -> Dataset:
    return cj.data.from_arrays(pixels(count, seed), np.arange(count) % 2, LABELS, name)


def convnet(seed: int = 0, **arguments: Any) -> cj.Model:
    return cj.create_model("mnist_convnet", input_shape=(18, 18, 1), seed=seed, **arguments)


def extract(folder: Path, data: Any = None, model: cj.Model | None = None, **arguments: Any) -> Any:
    arguments = {"layer": "pool2", "batch_size": 4, "verbose": False, **arguments}
    return extract_features(model or convnet(), data or dataset(), folder, **arguments)


def expected(data: Dataset, layer: str, model: cj.Model | None = None) -> np.ndarray:
    model = model or convnet()
    x = model.spec.preprocess(np.asarray(data.inputs))
    return np.asarray(cj.explain.activations(model, x, [layer])[layer])


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of the batch whenever one is computed."""
    computed: list[int] = []
    original = features._batches

    def counting(work: Any, data: Dataset, size: int, first: int) -> Iterator[np.ndarray]:
        for number, rows in enumerate(original(work, data, size, first), first):
            computed.append(number)
            yield rows

    monkeypatch.setattr(features, "_batches", counting)
    return computed


# What comes out


@pytest.mark.parametrize(
    ("layer", "shape"), [("conv1", (16, 16, 32)), ("pool2", (3, 3, 64)), ("dense1", (1, 1, 64))]
)
def test_features_are_the_layers_outputs(
    tmp_path: Path, layer: str, shape: tuple[int, ...]
) -> None:
    found = extract(tmp_path, layer=layer)
    assert (found.inputs.shape, found.inputs.dtype) == ((11, *shape), np.float32)
    assert isinstance(found.inputs, np.memmap)
    wanted = expected(dataset(), layer).reshape(11, *shape)
    np.testing.assert_allclose(found.inputs, wanted, rtol=1e-5, atol=1e-6)
    assert found.inputs.any()
    assert found.label_names == LABELS
    np.testing.assert_array_equal(found.labels, np.arange(11) % 2)
    assert found.name == f"noise, features of {layer} of mnist_convnet"
    (stored,) = tmp_path.glob("*/*.labels.npy")
    np.testing.assert_array_equal(np.load(stored), found.labels)


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pooled_maps(tmp_path: Path, pooling: str, reduce: Callable) -> None:
    found = extract(tmp_path, pooling=pooling)
    wanted = reduce(expected(dataset(), "pool2"), (1, 2), keepdims=True)
    np.testing.assert_allclose(found.inputs, wanted, rtol=1e-5)
    assert found.name.endswith(f"of mnist_convnet, {pooling}")


@pytest.mark.thorough
def test_a_model_without_a_head_gives_its_output(tmp_path: Path) -> None:
    model = backbone(pooling="avg")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    data = cj.data.from_arrays(images, np.zeros(3, int))
    found = extract(tmp_path, data, model, layer=None)
    wanted = np.asarray(model(model.spec.preprocess(images)))
    np.testing.assert_allclose(found.inputs[:, 0, 0], wanted, rtol=1e-4, atol=1e-5)
    assert found.name == "arrays, features of global_average_pooling2d of mobilenet"


def test_every_part_of_splits(tmp_path: Path, batches: list[int]) -> None:
    data = Splits(dataset(11), None, dataset(5, 1, "test"), source={"data": "folder"})
    found = extract(tmp_path, data)
    assert set(found.parts) == {"train", "test"}
    assert found.source is None
    for name, part in data.parts.items():
        np.testing.assert_allclose(found.parts[name].inputs, expected(part, "pool2"), rtol=1e-5)
    assert batches == [0, 1, 2, 0, 1]
    assert found.test.name == "test, features of pool2 of mnist_convnet"


def test_floating_pixels(tmp_path: Path) -> None:
    data = cj.data.from_arrays(pixels(5).astype(np.float32), np.zeros(5, int))
    found = extract(tmp_path, data)
    np.testing.assert_allclose(found.inputs, expected(data, "pool2"), rtol=1e-5)


def test_images_in_files_are_decoded_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, image in enumerate(pixels(7)):
        folder = tmp_path / "photos" / LABELS[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
    data = cj.data.load(tmp_path / "photos", image_size=(18, 18), channels=1, memory_budget=0).train
    assert isinstance(data.inputs, FileImages)
    most = []
    original = FileImages._decode

    def decode(self: FileImages, rows: Any) -> np.ndarray:
        most.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(FileImages, "_decode", decode)
    found = extract(tmp_path / "features", data)
    assert max(most) == 4
    np.testing.assert_allclose(found.inputs, expected(data, "pool2"), rtol=1e-5)
    assert found.label_names == LABELS


def test_what_follows_the_layer_is_not_computed(tmp_path: Path) -> None:
    def flops(layer: str) -> float:
        program = jax.jit(features._program(convnet(), layer))
        compiled = program.lower(convnet().variables, jnp.asarray(pixels(4))).compile()
        return compiled.cost_analysis()["flops"]

    assert flops("conv1") < flops("logits") / 3


def test_one_program_for_all_batches_and_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []
    original = features.layer_outputs
    monkeypatch.setattr(
        features, "layer_outputs", lambda *a: traced.append(a[4].shape[0]) or original(*a)
    )
    extract(tmp_path, Splits(dataset(11), dataset(3, 1), dataset(6, 2)))
    assert traced == [1, 4]  # one image to know the shape, one batch


# Computed once, and only for what it was computed for


def test_a_second_call_computes_nothing(tmp_path: Path, batches: list[int]) -> None:
    first = extract(tmp_path)
    assert len(batches) == 3
    again = extract(tmp_path, batch_size=2)
    assert len(batches) == 3
    assert again.inputs.filename == first.inputs.filename
    assert again.fingerprint == first.fingerprint


def test_another_name_of_the_data_is_no_other_data(tmp_path: Path, batches: list[int]) -> None:
    extract(tmp_path)
    found = extract(tmp_path, dataset(name="renamed"))
    assert len(batches) == 3
    assert found.name.startswith("renamed, features of")


CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "weights": lambda: {"model": convnet(seed=1)},
    "a single weight": lambda: {"model": nudged(convnet())},
    "arguments": lambda: {"model": convnet(downsampling="average")},
    "preprocessing": lambda: {"model": convnet(preprocessing="tf")},
    "layer": lambda: {"layer": "conv3"},
    "pooling": lambda: {"pooling": "avg"},
    "images": lambda: {"data": dataset(seed=3)},
    "labels": lambda: {"data": cj.data.from_arrays(pixels(11), np.zeros(11, int))},
}


def nudged(model: cj.Model) -> cj.Model:
    kernel = model.params["conv1"]["kernel"]
    changed = {**model.params, "conv1": {**model.params["conv1"], "kernel": kernel.at[0].add(1e-6)}}
    return model.replace(variables={"params": changed})


@pytest.mark.sample(3)
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_computed_anew(tmp_path: Path, batches: list[int], change: str) -> None:
    first = extract(tmp_path)
    found = extract(tmp_path, **CHANGES[change]())
    assert len(batches) == 6
    assert found.inputs.filename != first.inputs.filename
    extract(tmp_path)
    assert len(batches) == 6  # the first ones are still there


def test_changed_code_is_computed_anew(
    tmp_path: Path, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(tmp_path)
    monkeypatch.setattr(features, "_code_hash", lambda: "0123456789abcdef")
    extract(tmp_path)
    assert len(batches) == 6


@pytest.mark.thorough
def test_a_module_of_ones_own_is_known_by_what_it_computes(
    tmp_path: Path, batches: list[int]
) -> None:
    def model(function: Callable) -> cj.Model:
        class Own(linen.Module):
            @linen.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                x = linen.Dense(4, name="hidden")(x.reshape(x.shape[0], -1))
                return linen.Dense(2, name="logits")(function(linen.Dense(4, name="more")(x)))

        return cj.Model.from_module(Own(), (18, 18, 1))

    extract(tmp_path, model=model(jnp.sin), layer="more")
    extract(tmp_path, model=model(jnp.sin), layer="more")
    assert len(batches) == 3
    extract(tmp_path, model=model(jnp.cos), layer="more")  # what follows does not matter
    assert len(batches) == 3
    extract(tmp_path, model=model(jnp.sin), layer="logits")
    extract(tmp_path, model=model(jnp.cos), layer="logits")
    assert len(batches) == 9


# Interrupted, damaged, no space


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_features import dataset, extract
from cnnjax.transfer import store
store._RECORD_EVERY = 0.0
write = store.RowWriter.write
def slow(self, start, rows):
    write(self, start, rows)
    time.sleep(0.3)
store.RowWriter.write = slow
extract(Path(sys.argv[1]), dataset(40))
"""


@pytest.mark.thorough
def test_a_killed_process_is_gone_on_with(tmp_path: Path, batches: list[int]) -> None:
    child = start("-c", CHILD, tmp_path / "killed", Path(__file__).parent)

    def rows() -> int:
        files = [f for f in tmp_path.glob("killed/*/*.json") if f.name != "features.json"]
        return json.loads(files[0].read_text())["rows"] if files else 0

    wait_for(child, lambda: rows() >= 12)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    done = rows()
    assert 12 <= done < 40
    found = extract(tmp_path / "killed", dataset(40))
    assert batches == list(range(done // 4, 10))
    whole = extract(tmp_path / "whole", dataset(40))
    np.testing.assert_array_equal(found.inputs, whole.inputs)


def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> Path:
    """A file that was interrupted after so many batches; its path."""
    write = feature_store.RowWriter.write

    def stopping(self: Any, start: int, rows: np.ndarray) -> None:
        if start >= 4 * after:
            raise KeyboardInterrupt
        write(self, start, rows)

    with monkeypatch.context() as patch:
        patch.setattr(feature_store.RowWriter, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            extract(tmp_path)
    (file,) = (f for f in tmp_path.glob("*/*.npy") if "labels" not in f.name)
    return file


def test_an_interrupted_one_goes_on(
    tmp_path: Path,
    batches: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupted(tmp_path, monkeypatch, after=1)
    batches.clear()
    found = extract(tmp_path, verbose=True)
    assert batches == [1, 2]
    np.testing.assert_allclose(found.inputs, expected(dataset(), "pool2"), rtol=1e-5)
    out = capsys.readouterr().out
    assert "features of pool2 of mnist_convnet: 11 images of noise, into " in out
    assert "going on at 4 of 11" in out


DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "progress claims more than is there": (
        lambda file: file.with_suffix(".json").write_text('{"rows": 11, "of": 11}'), 2,
    ),
    "progress is no JSON": (lambda file: file.with_suffix(".json").write_text('{"rows'), 0),
    "progress is missing": (lambda file: file.with_suffix(".json").unlink(), 0),
    "features are missing": (lambda file: file.unlink(), 0),
    "features are cut off": (
        lambda file: file.write_bytes(file.read_bytes()[: 128 + 5 * 3 * 3 * 64 * 4 + 3]), 1,
    ),
    "another header": (lambda file: file.write_bytes(b"\x93NUMPY" + file.read_bytes()[6:60]), 0),
    "facts are missing": (lambda file: file.with_name("features.json").unlink(), 2),
    "facts are no JSON": (lambda file: file.with_name("features.json").write_text("["), 2),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_are_not_there_for_certain_are_computed(
    tmp_path: Path, batches: list[int], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    file = interrupted(tmp_path, monkeypatch, after=2)
    batches.clear()
    spoil, first = DAMAGES[damage]
    spoil(file)
    found = extract(tmp_path)
    assert batches == list(range(first, 3))
    np.testing.assert_allclose(found.inputs, expected(dataset(), "pool2"), rtol=1e-5)


def test_complete_features_that_were_cut_off_are_completed(
    tmp_path: Path, batches: list[int]
) -> None:
    file = Path(extract(tmp_path).inputs.filename)
    file.write_bytes(file.read_bytes()[:-1])
    batches.clear()
    found = extract(tmp_path)
    assert batches == [2]
    np.testing.assert_allclose(found.inputs, expected(dataset(), "pool2"), rtol=1e-5)


ROW = 3 * 3 * 64 * 4  # bytes of one image's features


def flipped(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def swapped_rows(file: Path) -> None:
    content = file.read_bytes()
    head, rows = content[:128], content[128:]
    file.write_bytes(
        head + rows[:ROW] + rows[2 * ROW : 3 * ROW] + rows[ROW : 2 * ROW] + rows[3 * ROW :]
    )


FLIPS: dict[str, tuple[Callable[[Path], object], int]] = {
    "the first number": (lambda file: flipped(file, 128), 0),
    "the sixth row": (lambda file: flipped(file, 128 + 5 * ROW + 7), 1),
    "the last byte": (lambda file: flipped(file, -1), 2),
    "rows in another order": (swapped_rows, 0),
    "a checksum": (lambda file: flipped(file.with_suffix(".checksums"), 8 * 9), 2),
    "checksums are missing": (lambda file: file.with_suffix(".checksums").unlink(), 0),
    "checksums are cut off": (
        lambda file: file.with_suffix(".checksums").write_bytes(bytes(3)), 0,
    ),
    "the shape": (lambda file: file.with_name("features.json").write_text('{"of": {}, "x": 1}'), 3),
}  # fmt: skip


@pytest.mark.parametrize("flip", FLIPS)
def test_features_that_changed_on_the_disk_are_computed_again(
    tmp_path: Path, batches: list[int], flip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(extract(tmp_path).inputs.filename)
    batches.clear()
    spoil, first = FLIPS[flip]
    spoil(file)
    found = extract(tmp_path, verbose=True)
    assert batches == list(range(first, 3))
    np.testing.assert_allclose(found.inputs, expected(dataset(), "pool2"), rtol=1e-5)
    lines = capsys.readouterr().out.splitlines()
    damaged = [line for line in lines if "rows only the first" in line]
    assert len(damaged) == (first < 3)
    batches.clear()
    extract(tmp_path)
    assert batches == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("other", ["weights", "data", "layer"])
def test_the_features_of_something_else_are_not_taken(
    tmp_path: Path, batches: list[int], other: str
) -> None:
    """Of equal shape, with their own progress and checksums, put into the place of ours."""
    mine = Path(extract(tmp_path / "mine").inputs.filename)
    changed: dict[str, Any] = {
        "weights": {"model": convnet(seed=1)},
        "data": {"data": cj.data.from_arrays(pixels(11, seed=7), dataset().labels)},
        "layer": {"layer": "conv2"},
    }[other]
    theirs = Path(extract(tmp_path / "theirs", **changed).inputs.filename)
    for suffix in (".npy", ".json", ".checksums"):
        shutil.copy(theirs.with_suffix(suffix), mine.with_suffix(suffix))
    batches.clear()
    found = extract(tmp_path / "mine")
    assert batches == [0, 1, 2]
    np.testing.assert_allclose(found.inputs, expected(dataset(), "pool2"), rtol=1e-5)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_clear_line_and_what_was_written_is_kept(
    tmp_path: Path, batches: list[int]
) -> None:
    model = convnet()
    model(np.zeros((4, 18, 18, 1), np.float32))
    data = dataset(40)
    extract(tmp_path / "warm", data)  # compiled programs are files too
    batches.clear()
    with (
        files_of_at_most(128 + 25 * 3 * 3 * 64 * 4),
        pytest.raises(OSError, match=r"features cannot be written \(.*\): mend that and call") as e,
    ):
        extract(tmp_path / "full", data)
    assert "\n" not in str(e.value)
    assert str(tmp_path / "full") in str(e.value)
    batches.clear()
    found = extract(tmp_path / "full", data)
    assert batches[-1] == 9
    np.testing.assert_allclose(found.inputs, expected(data, "pool2"), rtol=1e-5)


def test_a_slower_process_does_not_undo_what_another_finished(tmp_path: Path) -> None:
    file = feature_store.FeatureFile(tmp_path, "train", (6, 1, 1, 2))
    rows = np.arange(12, dtype=np.float32).reshape(6, 1, 1, 2)
    arguments = (np.zeros(6, np.int32), {"weights": "w"}, "pool2")
    with file.writing(*arguments) as slow:
        slow.write(0, rows[:2])
        with file.writing(*arguments) as quick:
            quick.write(0, rows)
    found = file.open()
    assert found is not None
    np.testing.assert_array_equal(found, rows)


def test_too_little_space_is_said_before_the_work(
    tmp_path: Path, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"features cannot be written \(0 MiB are needed, 0 MiB are"):
        extract(tmp_path)
    assert batches == []


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": None}, "mnist_convnet has a head: layer must say .*, e.g. 'dense1'"),
        ({"layer": "pool3"}, r"layer='pool3' is no layer of mnist_convnet\. Did you mean 'pool"),
        ({"pooling": "mean"}, "pooling must be None, 'avg' or 'max', got 'mean'"),
        ({"layer": "flatten", "pooling": "avg"}, "pooling='avg' needs maps, but layer='flatten'"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"data": np.zeros(3)}, "data must be Splits or a Dataset, got ndarray"),
        (
            {"data": cj.data.from_arrays(pixels(3, size=17), [0, 1, 0])},
            r"arrays has images of shape \[17, 17, 1\], the model mnist_convnet takes",
        ),
        (
            {"data": cj.data.from_arrays(pixels(3) / 255.0, [0, 1, 0])},
            r"arrays: floating images must be pixels in \[0, 255\], these lie in",
        ),
    ],
)
def test_what_cannot_be_extracted_is_named(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    arguments = {"data": dataset(), "layer": "pool2", **arguments}
    with pytest.raises(ValueError, match=message):
        extract_features(convnet(), arguments.pop("data"), tmp_path, verbose=False, **arguments)


# A classifier on features, and both joined


def photos(count: int = 24) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 2
    images[labels == 1, :16] //= 3
    return cj.data.from_arrays(images, labels, LABELS, "photos")


def backbone(**arguments: Any) -> cj.Model:
    arguments = {"include_top": False, "alpha": 0.25, "input_shape": (32, 32, 3), **arguments}
    model = cj.create_model("mobilenet", **arguments)
    louder = trees.map_flat(
        lambda path, leaf: 4.5 * leaf if path.endswith("gamma") else leaf, model.variables
    )
    return model.replace(variables=louder)


def classifier(data: Dataset, **arguments: Any) -> cj.Model:
    arguments = {"num_classes": 2, "units": (8,), "preprocessing": "none", **arguments}
    return cj.create_model("mlp", input_shape=data.input_shape, **arguments)


@pytest.mark.slow
def test_a_classifier_on_features_is_the_head_trained_in_place(tmp_path: Path) -> None:
    """Without augmentation both trainings are the same computation, dropout included."""
    data, base = photos(), backbone(pooling="avg")
    found = extract(tmp_path, data, base, layer=None)
    net = classifier(found, dropout=0.5, label_names=LABELS, seed=5)
    config = cj.TrainingConfig(epochs=2, batch_size=8, learning_rate=0.01, monitor=None, seed=5)
    run = cj.fit(net, found, config, directory=tmp_path / "run", verbose=False)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["train"]["name"] == found.name
    assert cj.reproduce(tmp_path / "run", found, verbose=False).same

    joined = attach(base, run.model)
    whole = replace_head(base, Head(2, units=(8,), dropout=0.5, label_names=LABELS), seed=5)
    assert (joined.spec, joined.module) == (whole.spec, whole.module)
    config = dataclasses.replace(config, frozen=cj.transfer.base_layers(whole))
    in_place = cj.fit(whole, data, config, verbose=False)
    for path, leaf in trees.flatten(in_place.model.variables).items():
        ours = trees.flatten(joined.variables)[path]
        np.testing.assert_allclose(ours, leaf, rtol=2e-3, atol=2e-4, err_msg=path)
    np.testing.assert_allclose(run.history["loss"], in_place.history["loss"], rtol=1e-3)

    logits = run.model(np.asarray(found.inputs))
    np.testing.assert_allclose(
        joined(joined.spec.preprocess(data.inputs)), logits, rtol=1e-5, atol=1e-5
    )
    assert joined.spec.head == ("dense1", "logits")
    loaded = cj.load(cj.save(joined, tmp_path / "joined"))
    assert cj.predict(loaded, data.inputs).argmax(1).tolist() == logits.argmax(1).tolist()


@pytest.mark.slow
def test_a_plain_map_is_flattened_as_the_classifier_flattens_it(tmp_path: Path) -> None:
    base = backbone(input_shape=(64, 64, 3))
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    data = cj.data.from_arrays(images, np.zeros(4, int))
    found = extract(tmp_path, data, base, layer="conv_pw_13_relu")
    assert found.input_shape == (2, 2, 256)
    net = classifier(found, units=(8, 4))
    joined = attach(base, net)
    assert joined.layer_names[-4:] == ("flatten", "dense1", "dense2", "logits")
    np.testing.assert_allclose(
        joined(joined.spec.preprocess(images)), net(np.asarray(found.inputs)), rtol=1e-5, atol=1e-5
    )
    # A base that has a head of its own loses it; one that pools does not pool for this net.
    for other in (replace_head(base, 5), backbone(input_shape=(64, 64, 3), pooling="avg")):
        again = attach(other, net)
        assert trees.tree_hash(again.variables) == trees.tree_hash(joined.variables)
        assert again.spec == joined.spec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 3, 64)}, r"takes features of shape \[3, 3, 64\], but .* \[1, 1, 256"),
        ({"preprocessing": "unit"}, "classifier must take features as they are, .*got 'unit'"),
        ({"name": "lenet"}, "classifier must be an 'mlp' of create_model, got lenet"),
    ],
)
@pytest.mark.thorough
def test_what_does_not_fit_is_not_joined(arguments: dict[str, Any], message: str) -> None:
    arguments = {
        "name": "mlp", "input_shape": (1, 1, 256), "preprocessing": "none", **arguments,
    }  # fmt: skip
    if arguments["name"] == "lenet":
        arguments["input_shape"] = (28, 28, 1)
    with pytest.raises(ValueError, match=message):
        attach(backbone(), cj.create_model(**arguments))


@pytest.mark.thorough
def test_pooled_features_need_a_base_that_pools() -> None:
    base = backbone(input_shape=(64, 64, 3))
    net = cj.create_model("mlp", input_shape=(1, 1, 256), preprocessing="none")
    with pytest.raises(ValueError, match=r"create the base with pooling='avg' or 'max'"):
        attach(base, net)
    with pytest.raises(ValueError, match="base must be a backbone of create_model, got mlp"):
        attach(net, net)


class AnySize(linen.Module):
    """A convolution and its mean, of images of any size."""

    @linen.compact
    def __call__(self, images: Any) -> Any:
        return linen.Dense(2, name="out")(linen.Conv(3, (3, 3), name="conv")(images).mean((1, 2)))


def test_maps_of_a_model_of_any_size_have_that_of_the_data(tmp_path: Path) -> None:
    model = cj.Model.from_module(AnySize(), (None, None, 1))
    small, large = (
        cj.data.from_arrays(pixels(3, size=size), [0, 1, 0], LABELS) for size in (6, 10)
    )
    for data, size in ((small, 6), (large, 10)):
        found = extract(tmp_path, data, model, layer="conv")
        assert found.input_shape == (size, size, 3)
        np.testing.assert_allclose(found.inputs, expected(data, "conv", model), atol=1e-5)
    with pytest.raises(ValueError, match=r"of shape \[10, 10, 1\], the model AnySize takes \[6, 6"):
        extract(tmp_path, Splits(small, test=large), model, layer="conv")
