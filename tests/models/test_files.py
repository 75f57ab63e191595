"""Models on disk: bitwise round trips, damage, foreign directories."""

import json
import re

import jax
import numpy as np
import pytest
from flax import linen

from cnnjax import paths
from cnnjax.models import Model, UnreadableModel, create_model, load_model, save
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
    return paths.tree_hash(a.variables) == paths.tree_hash(b.variables)


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
