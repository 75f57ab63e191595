"""Several inputs and several outputs by name go the way of single ones."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import after_every_dispatch
from flax import linen
from jax import Array

import cnnjax as cj
from cnnjax.runs import write_report

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (24, 4, 4, 2), dtype=np.uint8)
AGES = RNG.normal(size=24).astype(np.float32)
WORDS = RNG.integers(0, 9, (24, 3), dtype=np.int32)
INPUTS = {"photo": PHOTOS, "age": AGES, "words": WORDS}
LABELS = {"kind": np.arange(24) % 3, "size": AGES * 2 + 1, "mask": (PHOTOS[..., 0] > 99) * 1}
SHAPES = {"photo": (4, 4, 2), "age": (1,), "words": (3,)}
PREPROCESSING = {"photo": "unit", "age": "none", "words": "tokens"}
TASKS = {"kind": "classes", "size": "values", "mask": "dense"}


class Several(linen.Module):
    """A photo, an age and words to a kind, a size and a class for each pixel."""

    @linen.compact
    def __call__(self, inputs: dict[str, Array], train: bool = False) -> dict[str, Array]:
        words = linen.Embed(9, 2, name="embed")(inputs["words"]).mean(axis=1)
        flat = inputs["photo"].reshape(len(words), -1)
        x = jnp.concatenate([flat, inputs["age"], words], axis=1)
        x = linen.Dropout(0.1, deterministic=not train)(linen.relu(linen.Dense(8, name="dense")(x)))
        return {
            "kind": linen.Dense(3, name="kind")(x),
            "size": linen.Dense(1, name="size")(x),
            "mask": linen.Conv(2, (1, 1), name="mask")(inputs["photo"]),
        }


class Joined(linen.Module):
    """Two inputs to two logits."""

    @linen.compact
    def __call__(self, inputs: dict[str, Array]) -> Array:
        parts = [one.reshape(len(one), -1) for one in inputs.values()]
        return linen.Dense(2, name="logits")(jnp.concatenate(parts, axis=1))


def several() -> cj.Model:
    return cj.Model.from_module(Several(), SHAPES, preprocessing=PREPROCESSING, task=TASKS)


def data() -> cj.data.Dataset:
    return cj.data.from_arrays(INPUTS, LABELS, task=TASKS, name="several")


def config(**more: Any) -> cj.TrainingConfig:
    return cj.TrainingConfig(batch_size=6, optimizer="adam", learning_rate=0.03, **more)


@pytest.mark.thorough
def test_several_of_both_are_killed_resumed_loaded_and_reproduced(tmp_path: Path) -> None:
    model, splits = several(), cj.data.Splits(data(), test=data()).with_validation(0.25)

    def train(name: str, **more: Any) -> cj.Run:
        settings = config(epochs=2, checkpoint_every=1, monitor="kind_accuracy", **more)
        return cj.fit(model, splits, settings, directory=tmp_path / name, verbose=False)

    count = itertools.count(1)
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(count) == 4 else None
    )
    try:
        with pytest.raises(cj.training.Interrupted):
            train("killed")
    finally:
        undo()
    resumed, through = train("killed", resume=True), train("through")
    assert resumed.parameter_hash == through.parameter_hash
    assert resumed.metrics == through.metrics
    again = cj.load(tmp_path / "killed", module=Several())
    assert again.spec == through.model.spec
    found, wanted = (cj.predict(one, INPUTS) for one in (again, through.model))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert cj.reproduce(tmp_path / "through", splits, model, verbose=False).same
    assert "photo 4x4x2, age 1, words 3" in str(cj.summary(model))
    assert "photo 4x4x2" in repr(model)
    assert len(repr(data())) < 200
    assert {"embed", "dense", "kind", "size", "mask"} <= set(model.layer_names)
    assert write_report(tmp_path / "through").is_file()


@pytest.mark.thorough
def test_they_learn_and_every_part_is_measured_as_if_alone() -> None:
    run = cj.fit(several(), data(), config(epochs=60, monitor=None), verbose=False)
    found = cj.evaluate(run.model, data())
    assert found["size_absolute_error"] < 0.5
    assert found["mask_accuracy"] > 0.9
    assert found["kind_accuracy"] > 0.5
    inputs = run.model.spec.preprocess({**INPUTS, "age": AGES[:, None]})
    outputs = run.model(inputs)
    parts = {
        "kind": cj.metrics.cross_entropy(outputs["kind"], LABELS["kind"]),
        "size": cj.metrics.mean_squared_error(outputs["size"], LABELS["size"][:, None]),
        "mask": cj.metrics.pixels_cross_entropy(outputs["mask"], LABELS["mask"]),
    }
    for name, losses in parts.items():
        assert found[f"{name}_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    assert found["loss"] == pytest.approx(float(sum(parts.values()).mean()), rel=1e-4)  # type: ignore[attr-defined]
    probs = cj.predict(run.model, {**INPUTS, "age": AGES[:, None]})
    assert {name: one.shape for name, one in probs.items()} == {
        "kind": (24, 3), "size": (24, 1), "mask": (24, 4, 4, 2),
    }  # fmt: skip
    np.testing.assert_allclose(probs["kind"], jax.nn.softmax(outputs["kind"]), rtol=1e-4)
    line = run.model.spec.task.decode(probs, ())[0]
    assert line.startswith("kind: ")
    assert "size: " in line


@pytest.mark.thorough
def test_a_loss_and_an_augmentation_of_ones_own_see_names() -> None:
    def loss(outputs: dict[str, Array], labels: dict[str, Array]) -> Array:
        return cj.metrics.cross_entropy(outputs["kind"], labels["kind"])

    def darker(key: Array, example: dict[str, Array]) -> dict[str, Array]:
        shade = jax.random.uniform(key, minval=0.5)
        return {**example, "photo": example["photo"] * shade}

    settings = config(epochs=1, monitor=None, augment=darker, accumulate=2)
    run = cj.fit(several(), data(), settings, loss=loss, verbose=False)
    assert run.history["loss"].shape == (1,)
    broken = config(epochs=1, monitor=None, augment=lambda key, example: example["photo"])
    with pytest.raises(ValueError, match="an array for each of age, photo, words, got"):
        cj.fit(several(), data(), broken, verbose=False)


def test_an_augmentation_may_name_the_inputs_that_it_changes() -> None:
    seen: list[Any] = []

    def watched(outputs: dict[str, Array], labels: dict[str, Array]) -> Array:
        return cj.metrics.cross_entropy(outputs["kind"], labels["kind"])

    def objective(functions: Any, params: Any, state: Any, batch: Any, key: Array) -> Any:
        jax.debug.callback(lambda *arrays: seen.append(arrays), batch["inputs"], batch["index"])
        return cj.training.supervised(watched)(functions, params, state, batch, key)

    flip = cj.augment.Augment(horizontal_flip=True)
    settings = config(epochs=1, monitor=None, augment=cj.augment.Named({"photo": flip}))
    tasks = {"kind": "classes", "size": "values"}
    model = cj.Model.from_module(NoPixels(), SHAPES, preprocessing=PREPROCESSING, task=tasks)
    labels = {name: LABELS[name] for name in tasks}
    cj.fit(model, (INPUTS, labels), settings, objective=objective, verbose=False)
    jax.effects_barrier()
    flipped = 0
    for inputs, index in seen:
        np.testing.assert_array_equal(inputs["words"], WORDS[index])
        np.testing.assert_allclose(inputs["age"][:, 0], AGES[index])
        for photo, row in zip(np.asarray(inputs["photo"]) * 255, index, strict=True):
            turned = PHOTOS[row][:, ::-1]
            assert any(np.allclose(photo, one, atol=1e-3) for one in (PHOTOS[row], turned))
            flipped += np.allclose(photo, turned, atol=1e-3)
    assert 3 < flipped < 21


class NoPixels(linen.Module):
    """Those outputs of `Several` that are of no pixels."""

    @linen.compact
    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        x = jnp.concatenate([one.reshape(len(one), -1) for one in inputs.values()], axis=1)
        return {"kind": linen.Dense(3, name="kind")(x), "size": linen.Dense(1, name="size")(x)}


FLIP = cj.augment.Augment(horizontal_flip=True)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            FLIP,
            r"^an Augment changes images \[H, W, C\], and Several takes photo, age, words: say "
            r"which, augment=cj\.augment\.Named\(\{'photo': \.\.\.\}\)$",
        ),
        (
            cj.augment.Named({"foto": FLIP}),
            r"^augment names 'foto', and Several has no such input\. Did you mean 'photo'\?",
        ),
        (
            cj.augment.Named({"age": FLIP}),
            r"^augment: an Augment changes images \[H, W, C\], and inputs\['age'\] is \[1\]",
        ),
        (
            cj.augment.Named({"photo": FLIP}),
            r"^augment with horizontal_flip=True moves inputs\['photo'\], and labels of pixels "
            r"move with a single input alone: leave out what moves, or give a function of your own",
        ),
        (
            cj.augment.Named({"photo": cj.augment.Augment(fill_value=3.0)}),
            r"^augment: fill_value=3\.0 belongs to fill_mode='constant'",
        ),
    ],
    ids=["which", "unknown", "no-image", "pixels", "fill"],
)
def test_an_augmentation_that_fits_no_input_is_refused(augment: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cj.fit(several(), data(), config(epochs=1, augment=augment), verbose=False)


def test_a_single_input_has_no_name_to_augment() -> None:
    model = cj.create_model("mlp", input_shape=(4, 4, 2), num_classes=3, units=())
    settings = config(epochs=1, augment=cj.augment.Named({"photo": FLIP}))
    with pytest.raises(ValueError, match=r"^augment names photo, and mlp takes a single input: g"):
        cj.fit(model, (PHOTOS, LABELS["kind"]), settings, verbose=False)


def test_a_stream_of_several_is_trained_on_as_the_arrays_are() -> None:
    whole = data()
    order = cj.data.Loader(whole, 6, shuffle=True, seed=0)

    def factory(epoch: int) -> Any:
        for step in range(4):
            batch = order.batch(epoch, step)
            yield {"inputs": batch["inputs"], "labels": batch["labels"]}

    stream = cj.data.stream(factory, 4, task=TASKS, name="rows")
    assert (len(stream), stream.input_shape) == (24, SHAPES)
    settings = config(epochs=2, monitor=None, seed=0)
    runs = [cj.fit(several(), given, settings, verbose=False) for given in (whole, stream)]
    np.testing.assert_allclose(*[run.history["loss"] for run in runs], rtol=1e-6)
    measured = [cj.evaluate(several(), given)["mask_loss"] for given in (whole, stream)]
    assert measured[0] == pytest.approx(measured[1], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda batch: {**batch, "labels": {**batch["labels"], "kind": np.arange(5) % 3}},
            r"^batch 0 of epoch 0 of rows must hold as many inputs as labels, one at least, got "
            r"inputs\['photo'\] of shape \[24, 4, 4, 2\] and .*labels\['kind'\] of shape \[5\]",
        ),
        (
            lambda batch: {**batch, "labels": batch["labels"]["kind"]},
            r"^batch 0 of epoch 0 of rows: labels of the task .* must be given by name",
        ),
        (
            lambda batch: {**batch, "inputs": {**batch["inputs"], "age": AGES * np.nan}},
            r"^batch 0 of epoch 0 of rows: inputs\['age'\] holds NaN or infinity",
        ),
    ],
    ids=["lengths", "one-label", "nan"],
)
def test_batches_of_several_that_cannot_be_are_refused(change: Any, message: str) -> None:
    batch = change({"inputs": INPUTS, "labels": LABELS})
    stream = cj.data.stream(lambda epoch: iter([batch]), 1, task=TASKS, name="rows")
    with pytest.raises(ValueError, match=message):
        cj.fit(several(), stream, config(epochs=1), verbose=False)


@pytest.mark.thorough
def test_several_inputs_have_one_output_and_one_input_several() -> None:
    two = cj.Model.from_module(
        Joined(), {"a": (4, 4, 2), "b": (3,)}, preprocessing={"a": "unit", "b": "none"},
        label_names=("n", "y"),
    )  # fmt: skip
    b = RNG.normal(size=(24, 3))
    run = cj.fit(two, ({"a": PHOTOS, "b": b}, np.arange(24) % 2), config(epochs=1), verbose=False)
    assert cj.predict(run.model, {"a": PHOTOS, "b": b}).shape == (24, 2)

    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x: Array) -> dict[str, Array]:
            x = x.reshape(len(x), -1)
            return {"one": linen.Dense(1)(x), "many": linen.Dense(2)(x)}

    tasks = {"one": "binary", "many": "multilabel"}
    model = cj.Model.from_module(Twice(), (4, 4, 2), task=tasks)
    labels = {"one": np.arange(24) % 2, "many": RNG.integers(0, 2, (24, 2))}
    flips = config(epochs=1, augment=cj.augment.Augment(horizontal_flip=True, mixup=0.2))
    run = cj.fit(model, (PHOTOS, labels), flips, verbose=False)
    assert set(cj.predict(run.model, PHOTOS)) == {"one", "many"}


@pytest.mark.thorough
def test_labels_of_pixels_among_several_move_with_the_image() -> None:
    class Both(linen.Module):
        @linen.compact
        def __call__(self, x: Array) -> dict[str, Array]:
            return {"mask": linen.Conv(2, (1, 1))(x), "kind": linen.Dense(2)(x.mean(axis=(1, 2)))}

    tasks = {"mask": "dense", "kind": "classes"}
    model = cj.Model.from_module(Both(), (4, 4, 2), task=tasks)
    labels = {"mask": LABELS["mask"], "kind": np.arange(24) % 2}
    flips = config(epochs=1, monitor=None, augment=cj.augment.Augment(horizontal_flip=True))
    run = cj.fit(model, (PHOTOS, labels), flips, verbose=False)
    assert run.history["mask_accuracy"].shape == (1,)
    cutmix = config(epochs=1, monitor=None, augment=cj.augment.Augment(cutmix=1.0))
    with pytest.raises(ValueError, match=r"cutmix=1.0 pastes boxes, .* of pixels"):
        cj.fit(model, (PHOTOS, labels), cutmix, verbose=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, y: ({**i, "age": AGES[:5]}, y), r"inputs\['age'\] has 5 examples, there are 24"),
        (lambda i, y: ({**i, "age": AGES * np.nan}, y), r"inputs\['age'\] holds NaN or infinity"),
        (lambda i, y: ({**i, "age": AGES > 0}, y), r"inputs\['age'\] must be uint8, .* got bool"),
        (lambda i, y: (i, {"kind": y["kind"]}), "labels must be given by name, one array for each"),
        (lambda i, y: (i, {**y, "kind": y["kind"] / 2}), r"labels\['kind'\]: labels must be whole"),
        (lambda i, y: (i, y["kind"]), "labels of the task .* must be given by name"),
        (lambda i, y: ({"photo": i["photo"]}, y), "has the inputs photo, the model Several takes"),
        (lambda i, y: (i["photo"], y), "has the inputs a single one, the model Several takes phot"),
        (lambda i, y: ({**i, "age": PHOTOS}, y), r"inputs\['age'\] has inputs of shape \[4, 4"),
        (lambda i, y: ({**i, "words": AGES[:, None] + [0, 0, 0]}, y), "takes token ids, int32"),
        (lambda i, y: (i, {**y, "kind": y["kind"] + 1}), r"labels\['kind'\]: labels\[2\] is 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cj.fit(several(), change(dict(INPUTS), dict(LABELS)), config(epochs=1), verbose=False)


NAMES = {"kind": ("cat", "dog", "hen"), "mask": ("ground", "shape")}


def test_the_classes_of_each_output_have_names_of_their_own(tmp_path: Path) -> None:
    model = cj.Model.from_module(
        Several(), SHAPES, preprocessing=PREPROCESSING, task=TASKS, label_names=NAMES
    )
    assert model.spec.label_names == NAMES
    cj.save(model, tmp_path / "model")
    loaded = cj.load(tmp_path / "model", Several())
    assert loaded.spec == model.spec
    probs = cj.predict(loaded, {**INPUTS, "age": AGES[:, None]})
    line = loaded.spec.task.decode(probs, loaded.spec.label_names)[0]
    assert line.startswith(f"kind: {NAMES['kind'][probs['kind'][0].argmax()]} ")
    assert "mask: " in line
    assert {"ground", "shape"} & set(line.split())
    best = cj.decode_predictions(probs["kind"], 1, loaded.spec.label_names["kind"])[0][0]
    assert best[1] == NAMES["kind"][probs["kind"][0].argmax()]
    with pytest.raises(
        ValueError,
        match=r"^probs are of the outputs kind, size, mask: give those of one, decode_predictions\("
        r"probs\['kind'\], label_names=model\.spec\.label_names\['kind'\]\), or take",
    ):
        cj.decode_predictions(probs)


@pytest.mark.thorough
def test_tables_of_a_run_name_the_classes_of_their_output(tmp_path: Path) -> None:
    each = cj.Task("each", cj.metrics.cross_entropy, {"recall": cj.metrics.recall(average=None)})
    model = cj.Model.from_module(
        Several(), SHAPES, preprocessing=PREPROCESSING, task={**TASKS, "kind": each},
        label_names=NAMES,
    )  # fmt: skip
    parts = cj.data.Splits(data(), data())
    settings = config(epochs=1, monitor="kind_loss")
    run = cj.fit(model, parts, settings, directory=tmp_path, verbose=False)
    page = write_report(tmp_path).read_text()
    for shown in (page, run._repr_html_()):
        assert all(f">{name}<" in shown for name in NAMES["kind"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("cat", "dog", "hen"),
            r"^label_names of several outputs must be given by name, \(\.\.\.\) for any of kind, "
            r"size, mask, got cat, dog, hen$",
        ),
        ({"sort": ("a",)}, "^label_names of several outputs must be given by name, .* got sort$"),
        (
            {"mask": ("a", "b", "c")},
            r"^label_names\['mask'\] has 3 names, and the output has 2 classes or values$",
        ),
    ],
    ids=["one", "unknown", "count"],
)
def test_names_that_fit_no_output_are_refused(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cj.Model.from_module(
            Several(), SHAPES, preprocessing=PREPROCESSING, task=TASKS, label_names=names
        )


def test_a_model_refuses_other_names() -> None:
    model = several()
    with pytest.raises(ValueError, match="takes inputs by name, one for each of photo, age, words"):
        cj.predict(model, PHOTOS)
    with pytest.raises(ValueError, match=r"takes inputs by name, an array for each of photo, age"):
        model(jnp.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match=r"inputs\['age'\]: Several takes inputs \[N, 1\], got"):
        model({"photo": jnp.zeros((1, 4, 4, 2)), "age": jnp.zeros((1, 2)), "words": WORDS[:1]})
    with pytest.raises(
        ValueError, match="preprocessing must be given for each of the inputs photo"
    ):
        cj.Model.from_module(Several(), SHAPES, preprocessing={"photo": "unit"}, task=TASKS)
    with pytest.raises(ValueError, match="outputs of Several must be given by name, one array for"):
        cj.Model.from_module(
            Several(), SHAPES, preprocessing=PREPROCESSING, task={"kind": "classes"}
        )
    with pytest.raises(
        ValueError, match=r"Several must return logits \[N, K\]; for N = 2 it retur"
    ):
        cj.Model.from_module(Several(), SHAPES, preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match="Did you mean 'classes'"):
        cj.Model.from_module(Several(), SHAPES, task={"kind": "class"})
    flips = config(epochs=1, augment=cj.augment.Augment(horizontal_flip=True))
    with pytest.raises(ValueError, match="an Augment changes images"):
        cj.fit(model, data(), flips, verbose=False)


def test_a_metric_with_sums_of_its_own_is_measured_of_its_output() -> None:
    f1 = cj.metrics.f1()
    scored = cj.Task("scored", cj.metrics.cross_entropy, {"f1": f1})
    net = cj.Model.from_module(
        Several(), SHAPES, preprocessing=PREPROCESSING, task={**TASKS, "kind": scored}
    )
    inputs = {**INPUTS, "age": AGES[:, None]}
    outputs = net(net.spec.preprocess(inputs))["kind"]
    batch = {"labels": LABELS["kind"].astype(np.int32), "mask": np.ones(24, np.float32)}
    wanted = f1.compute(f1.update(outputs, batch))
    assert cj.evaluate(net, data())["kind_f1"] == pytest.approx(wanted, abs=1e-6)


def test_the_loss_of_several_outputs_has_the_same_name_in_every_process() -> None:
    from cnnjax.task import joint
    from cnnjax.training.facts import loss_name

    name = loss_name(None, joint(TASKS))
    assert " at 0x" not in name
    assert "name='kind', measure=<function cross_entropy>" in name


def test_classes_in_another_order_than_the_models_are_refused() -> None:
    photos = np.zeros((2, 4, 4, 1), np.uint8)
    more: dict[str, Any] = {"num_classes": 2, "label_names": ("cat", "dog"), "units": ()}
    model = cj.create_model("mlp", input_shape=(4, 4, 1), **more)
    data = cj.data.from_arrays(photos, [0, 1], ("dog", "cat"))
    for use in (cj.evaluate, cj.fit):
        with pytest.raises(ValueError, match="in another order, label 0 is 'dog' and not 'cat'"):
            use(model, data)
