"""Models on disk: bitwise round trips, damage, foreign directories."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.core import storage, trees
from cnnjax.models import Model, UnreadableModel, create_model, load_model
from cnnjax.runs import save
from cnnjax.weights import DamagedWeights

IMAGES = np.random.default_rng(0).random((3, 8, 8, 2), np.float32)


def mlp(**options):
    return create_model("mlp", input_shape=(8, 8, 2), **{"units": (5,), **options})


class Net(linen.Module):
    width: int = 4

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Conv(self.width, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        scale = self.param("scale", linen.initializers.constant(2.0), ())
        return linen.Dense(3, name="logits")(x.mean(axis=(1, 2))) * scale


def equal(a, b):
    return trees.tree_hash(a.variables) == trees.tree_hash(b.variables)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "make",
    [
        mlp,
        lambda: mlp(preprocessing="none"),
        lambda: mlp(units=(5, 4), num_classes=2, label_names=("cat", "dog"), seed=3),
        lambda: create_model("mnist_convnet", input_shape=(20, 19, 2), num_classes=1),
    ],
)
def test_a_model_comes_back_bitwise(tmp_path, make):
    model = make()
    assert save(model, tmp_path / "a" / "b") == tmp_path / "a" / "b"
    loaded = load_model(tmp_path / "a" / "b")
    assert equal(loaded, model)
    assert loaded.spec == model.spec
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    x = np.zeros((2, *model.spec.input_shape), np.float32) + 0.5
    assert loaded(x).tolist() == model(x).tolist()
    assert {p.name for p in (tmp_path / "a" / "b").iterdir()} == {
        "manifest.json",
        "model.json",
        "weights.safetensors",
    }


def test_a_users_module_comes_back_bitwise(tmp_path):
    model = Model.from_module(Net(), (8, 8, 2), preprocessing="none", label_names=("a", "b", "c"))
    changed = jax.tree.map(lambda leaf: leaf + 0.125, model.variables)
    model = model.replace(variables=changed)
    save(model, tmp_path)
    loaded = load_model(tmp_path, module=Net())
    assert equal(loaded, model)
    assert loaded.spec == model.spec
    assert loaded(IMAGES).tolist() == model(IMAGES).tolist()


def test_a_module_without_parameters_comes_back(tmp_path):
    class Mean(linen.Module):
        def __call__(self, x):
            return x.mean(axis=(1, 2))

    save(Model.from_module(Mean(), (8, 8, 2)), tmp_path)
    assert load_model(tmp_path, module=Mean())(IMAGES).shape == (3, 2)


def test_without_its_module_a_users_model_is_refused(tmp_path):
    save(Model.from_module(Net(), (8, 8, 2)), tmp_path)
    message = r"model of the class Net, whose code is not stored.*module=Net\(\.\.\.\)\)"
    with pytest.raises(UnreadableModel, match=message):
        load_model(tmp_path)


def test_another_module_is_refused_with_the_differences(tmp_path):
    save(Model.from_module(Net(4), (8, 8, 2)), tmp_path)
    message = r"do not fit Net: .*~ .*conv/kernel: expected \(3, 3, 2, 5\), found \(3, 3, 2, 4\)"
    with pytest.raises(UnreadableModel, match=message):
        load_model(tmp_path, module=Net(5))


def test_a_model_in_the_directory_is_replaced(tmp_path):
    save(mlp(units=(9, 9)), tmp_path)
    save(mlp(seed=2), tmp_path)
    assert equal(load_model(tmp_path), mlp(seed=2))


def test_a_run_directory_is_not_overwritten(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UnreadableModel, match="is a run directory, whose model is in its checkp"):
        save(mlp(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_loaded_model_shares_no_memory_with_its_file(tmp_path):
    save(mlp(), tmp_path)
    loaded = load_model(tmp_path)
    save(mlp(seed=9), tmp_path)
    assert equal(loaded, mlp())


def test_a_flipped_byte_is_an_error_or_harmless(tmp_path):
    model = mlp(units=(2,))
    file = save(model, tmp_path) / "weights.safetensors"
    content = file.read_bytes()

    def outcome():
        try:
            return equal(load_model(tmp_path), model)
        except (DamagedWeights, UnreadableModel) as error:
            return str(tmp_path) in str(error)

    for position in range(0, len(content), 23):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        file.write_bytes(flipped)
        assert outcome(), position


def test_a_flipped_bit_of_a_weight_is_named(tmp_path):
    file = save(mlp(), tmp_path) / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # the last array in the file
    file.write_bytes(content)
    message = r"weights\.safetensors is damaged: params/logits/kernel differs from its stored hash"
    with pytest.raises(DamagedWeights, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: None, lambda p: p.touch()])
def test_a_foreign_directory_is_named(tmp_path, make):
    make(tmp_path / "else")
    message = r"else holds no saved model: expected model\.json and weights\.safetensors"
    with pytest.raises(UnreadableModel, match=message):
        load_model(tmp_path / "else")


def test_a_missing_description_is_named(tmp_path):
    (save(mlp(), tmp_path) / "model.json").unlink()
    with pytest.raises(UnreadableModel, match=r"holds no model\.json: it is no saved model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"input_shape": 3, "label_names": []}',
        '{"name": "mlp", "input_shape": [8, 8, 2], "num_classes": 10, "label_names": [], "x": 1}',
        '{"name": "mlp", "input_shape": [8, 8, 2], "num_classes": 10, "label_names": ["a"]}',
        "\0\0\xff",
    ],
)
def test_a_damaged_description_is_named(tmp_path, text):
    (save(mlp(), tmp_path) / "model.json").write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableModel, match=r"model\.json is not a model description: .+"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "future_net"},
        {"arguments": {"depth": 3}},
        {"input_shape": [8, 8]},
        {"input_shape": [8, 8, "2"]},
        {"num_classes": 0},
    ],
)
def test_a_description_that_cannot_be_built_is_named(tmp_path, change):
    file = save(mlp(), tmp_path) / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UnreadableModel, match=re.escape(str(tmp_path))):
        load_model(tmp_path)


def test_weights_of_another_model_are_refused_with_the_differences(tmp_path):
    save(mlp(units=(5, 5)), tmp_path / "a")
    save(mlp(), tmp_path / "b")
    (tmp_path / "a" / "weights.safetensors").replace(tmp_path / "b" / "weights.safetensors")
    message = r"the weights in .*b do not fit mlp: .*\+ params/dense2/bias"
    with pytest.raises(UnreadableModel, match=message):
        load_model(tmp_path / "b")


# The module that is given


class Scaled(linen.Module):
    """Nothing in its shapes tells what it computes."""

    rate: float = 1.0
    epsilon: float = 1e-3
    layers: tuple = ()

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Conv(4, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, epsilon=self.epsilon, name="norm")(x)
        for layer in self.layers:
            x = layer(x)
        return linen.Dense(3, name="logits")(x.mean(axis=(1, 2))) * self.rate


class Half(linen.Module):
    rate: float = 0.5

    def __call__(self, x):
        return x * self.rate


class Other(Scaled):
    pass


def of_today(function):
    """A class of the same name and fields with another function in it."""

    class Made(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            x = function(linen.Dense(4, name="hidden")(x.reshape(len(x), -1)))
            x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
            return linen.Dense(3, name="logits")(x)

    return Made()


def saved(module, directory):
    return save(Model.from_module(module, (8, 8, 2)), directory)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (Scaled(), Other(), "it is of the class Scaled, not Other"),
        (Other(), Scaled(), "it is of the class Other, not Scaled"),
        (Scaled(rate=2.0), Scaled(), r"settings of Scaled differ: rate=2\.0 then, 1\.0 now"),
        (Scaled(), Scaled(epsilon=1e-5), r"differ: epsilon=0\.001 then, 1e-05 now"),
        (
            Scaled(layers=(Half(), Half(0.25))),
            Scaled(layers=(Half(), Half(0.75))),
            r"layers\[1\]\.rate=0\.25 then, 0\.75 now",
        ),
        (
            Scaled(layers=(linen.relu,)),
            Scaled(layers=(linen.gelu,)),
            r"layers\[0\]=relu then, gelu now",
        ),
        (of_today(linen.relu), of_today(linen.silu), "this Made computes something else: with the"),
        (of_today(jnp.abs), of_today(lambda x: jnp.abs(x) * 1.001), "computes something else"),
        (of_today(linen.relu), of_today(lambda x: x * jnp.nan), "computes something else"),
    ],
)
@pytest.mark.parametrize("run", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_a_module_of_equal_shapes_that_is_another_one_is_refused(tmp_path, then, now, said, run):
    if run:
        config = cj.TrainingConfig(epochs=1, batch_size=4, monitor=None)
        data = (np.zeros((4, 8, 8, 2), np.uint8), np.arange(4) % 3)
        model = Model.from_module(then, (8, 8, 2))
        cj.fit(model, data, config, directory=tmp_path / "it", verbose=False)
    else:
        saved(then, tmp_path / "it")
    message = f"the model in .*it was made with another module: .*{said}.*allow_changed="
    with pytest.raises(UnreadableModel, match=message):
        cj.load(tmp_path / "it", now)
    assert cj.load(tmp_path / "it", now, allow_changed=("module",)).module is now
    assert cj.load(tmp_path / "it", then).module is then


def test_so_it_is_for_the_checkpoints_of_a_run(tmp_path):
    config = cj.TrainingConfig(epochs=1, batch_size=4, monitor=None)
    data = (np.zeros((4, 8, 8, 2), np.uint8), np.arange(4) % 3)
    model = Model.from_module(of_today(linen.relu), (8, 8, 2))
    cj.fit(model, data, config, directory=tmp_path, verbose=False)
    cj.load(tmp_path, model.module)
    with pytest.raises(UnreadableModel, match="this Made computes something else"):
        cj.load(tmp_path, of_today(linen.silu))


def test_a_module_written_otherwise_that_computes_the_same_is_taken(tmp_path):
    saved(of_today(lambda x: x * 3.0), tmp_path)
    load_model(tmp_path, of_today(lambda x: x + x + x))
    load_model(tmp_path, of_today(lambda x: 3.0 * x))


def test_a_module_that_got_a_setting_since_is_taken_if_it_computes_the_same(tmp_path):
    saved(Scaled(), tmp_path)

    class Later(Scaled):
        bias: float = 0.0

    Later.__qualname__ = Later.__name__ = "Scaled"
    load_model(tmp_path, Later())
    with pytest.raises(UnreadableModel, match=r"rate=1\.0 then, 2\.0 now"):
        load_model(tmp_path, Later(rate=2.0))


def test_outputs_that_another_engine_rounds_otherwise_are_the_same(tmp_path):
    class Deep(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            for i in range(4):
                x = cj.nn.Conv2D(8, 3, padding="same", name=f"conv{i}")(x)
            return linen.Dense(3)(x.mean(axis=(1, 2)))

    saved(Deep(), tmp_path)
    with cj.nn.conv_engine("lax"):
        load_model(tmp_path, Deep())


def test_a_module_in_half_precision_has_its_own_tolerance(tmp_path):
    class Coarse(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            return linen.Dense(3, dtype=jnp.bfloat16)(x.reshape(len(x), -1))

    saved(Coarse(), tmp_path)
    known = json.loads((tmp_path / "model.json").read_text())["module"]
    assert known["tolerance"] == pytest.approx(0.05 * max(map(abs, known["outputs"])), rel=1e-6)


def test_a_module_whose_outputs_are_not_finite_is_known_by_class_and_settings(tmp_path):
    class Log(linen.Module):
        base: float = 2.0

        @linen.compact
        def __call__(self, x, train: bool = False):
            return linen.Dense(3)(jnp.log(x - 1).reshape(len(x), -1)) / jnp.log(self.base)

    saved(Log(), tmp_path)
    assert "outputs" not in json.loads((tmp_path / "model.json").read_text())["module"]
    load_model(tmp_path, Log())
    with pytest.raises(UnreadableModel, match=r"base=2\.0 then, 10\.0 now"):
        load_model(tmp_path, Log(10.0))


def test_a_model_by_name_takes_no_other_module(tmp_path):
    model = mlp()
    save(model, tmp_path)
    assert load_model(tmp_path, model.module).module is model.module
    with pytest.raises(UnreadableModel, match=r"settings of MLP differ: .*then, .* now"):
        load_model(tmp_path, mlp(dropout=0.5).module)


def test_a_description_of_before_is_taken_with_a_warning(tmp_path):
    saved(Scaled(), tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    del content["module"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    (tmp_path / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="an earlier version of cnnjax wrote .*cannot be checked"):
        load_model(tmp_path, Scaled(rate=3.0))


@pytest.mark.parametrize("names", [("modul",), ("weights",), "module", (3,)])
def test_what_may_be_allowed_is_checked(tmp_path, names):
    save(mlp(), tmp_path)
    with pytest.raises(ValueError, match="allow_changed must"):
        cj.load(tmp_path, allow_changed=names)


# What is tied together


def two(tmp_path):
    first = save(mlp(seed=1, num_classes=2, label_names=("cat", "dog")), tmp_path / "first")
    second = save(mlp(seed=2, num_classes=2, label_names=("dog", "cat")), tmp_path / "second")
    return first, second


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_part_of_another_saved_model_is_refused(tmp_path, name):
    first, second = two(tmp_path)
    shutil.copy(second / name, first / name)
    message = rf"first/{name} is not the file that the model was saved with: .*manifest\.json"
    with pytest.raises(UnreadableModel, match=message):
        cj.load(first)
    (first / "manifest.json").unlink()  # the way out that the message names
    cj.load(first)


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": "none"},
        {"label_names": ["dog", "cat"]},
        {"resize": "pad"},
        {"weights": "imagenet"},
    ],
    ids=str,
)
def test_a_description_that_was_changed_is_refused(tmp_path, change):
    first, _ = two(tmp_path)
    content = json.loads((first / "model.json").read_text())
    (first / "model.json").write_text(json.dumps(content | change, indent=1) + "\n")
    with pytest.raises(UnreadableModel, match=r"model\.json is not the file that the model was"):
        cj.load(first)


@pytest.mark.parametrize("kept", ["vocabulary.json", "model.json", "weights.safetensors"])
def test_a_vocabulary_is_tied_too(tmp_path, kept):
    for name, words in (("first", ("good", "bad")), ("second", ("bad", "good"))):
        vocabulary = cj.data.Vocabulary(words)
        model = create_model("imdb_conv1d", input_shape=(50,), vocabulary=vocabulary)
        save(model, tmp_path / name)
    for file in {"vocabulary.json", "model.json", "weights.safetensors"} - {kept}:
        shutil.copy(tmp_path / "second" / file, tmp_path / "first" / file)
    with pytest.raises(UnreadableModel, match=r"first/"):
        cj.load(tmp_path / "first")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "{}", '{"files": {}}', '{"files": {"model.json": 1}}',
     '{"files": {"model.json": "00"}}', '{"files": []}', "\xff"],
)  # fmt: skip
def test_a_damaged_manifest_is_named(tmp_path, text):
    first, _ = two(tmp_path)
    (first / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableModel, match=r"manifest\.json is damaged .*delete manifest\.json"):
        cj.load(first)


def test_of_a_saving_that_is_killed_remains_the_old_model_or_an_error(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    replace, outcomes = storage.os.replace, []
    for survived in range(4):
        directory = save(mlp(seed=1), tmp_path / str(survived))
        done = []

        def killed(source, target, survived=survived, done=done):
            if not target.name.endswith(".tmp"):
                if len(done) == survived:
                    raise Killed
                done.append(target)
            replace(source, target)

        monkeypatch.setattr(storage.os, "replace", killed)
        if survived < 3:
            with pytest.raises(Killed):
                save(mlp(seed=2), directory)
        else:
            save(mlp(seed=2), directory)
        monkeypatch.setattr(storage.os, "replace", replace)
        try:
            outcomes.append(next(s for s in (1, 2) if equal(cj.load(directory), mlp(seed=s))))
        except UnreadableModel as error:
            outcomes.append("saving was cut off" in str(error))
    assert outcomes == [1, True, True, 2]


def test_a_flipped_bit_of_the_description_is_an_error(tmp_path):
    first, _ = two(tmp_path)
    for name in ("model.json", "manifest.json"):
        content = (first / name).read_bytes()
        for position in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            (first / name).write_bytes(flipped)
            with pytest.raises(UnreadableModel):
                cj.load(first)
        (first / name).write_bytes(content)
    cj.load(first)


@pytest.mark.parametrize(
    "change",
    [
        {"input_shape": "8"},
        {"input_shape": [8, 8.0, 2]},
        {"input_shape": [8, True, 2]},
        {"num_classes": "10"},
        {"num_classes": None},
        {"label_names": [1]},
        {"arguments": []},
        {"arguments": {"units": "x"}},
        {"arguments": {"units": [None]}},
        {"preprocessing": 3},
        {"preprocessing": "uint"},
        {"resize": "crup"},
        {"head": "logits"},
        {"min_size": 2.5},
        {"task": "clases"},
        {"vocabulary": 7},
        {"module": 7},
        {"module": {"described": 1, "program": "x"}},
        {"module": {"described": {}, "program": "x", "outputs": ["1"]}},
    ],
    ids=str,
)
def test_values_of_a_wrong_kind_are_one_line_each(tmp_path, change):
    save(mlp(), tmp_path)
    (tmp_path / "manifest.json").unlink()
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(content | change))
    with pytest.raises(UnreadableModel, match=re.escape(str(tmp_path))) as caught:
        cj.load(tmp_path)
    assert "\n" not in str(caught.value)
