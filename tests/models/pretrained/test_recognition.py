"""PyTorch's names are recognised by a family's table, and its layouts become ours."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_family import NAMES, output, registered, state_dict

import cnnjax as cj
from cnnjax.models import WeightsDoNotFit
from cnnjax.models.builder import build
from cnnjax.models.pretrained.fill import NewHead, with_weights
from cnnjax.models.torch_names import TorchNames
from cnnjax.weights import read_weights


@pytest.fixture(autouse=True)
def _registered():
    with registered():
        yield


@pytest.fixture
def file(tmp_path):
    save_file(state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_state_dict_computes_what_it_computes_in_pytorchs_layouts(file, capsys):
    model = cj.create_model("small_torch", weights=file)
    x = np.random.default_rng(1).random((2, 6, 5, 3), np.float32)
    np.testing.assert_allclose(model(x), output(state_dict(), x), rtol=1e-4, atol=1e-5)
    assert model.spec.arguments == {"origin": "torch"}
    assert (model.spec.preprocessing, model.spec.crop) == ("torch", 0.875)
    assert model.spec.weights == "net.safetensors (torchvision)"
    assert capsys.readouterr().err == (
        "net.safetensors: names of torchvision; origin='torch', preprocessing='torch'\n"
    )


def test_the_callers_preprocessing_stays(file, capsys):
    model = cj.create_model("small_torch", weights=file, preprocessing="unit")
    assert model.spec.preprocessing == "unit"
    assert capsys.readouterr().err.endswith("preprocessing='unit', theirs 'torch'\n")


def test_an_argument_that_contradicts_the_names_is_an_error(file):
    with pytest.raises(WeightsDoNotFit, match="whose weights are for origin='torch', got origin='"):
        cj.create_model("small_torch", weights=file, origin="keras")


def test_prefixes_of_all_names_come_off(tmp_path, capsys):
    arrays = {f"module._orig_mod.{name}": array for name, array in state_dict().items()}
    save_file(arrays, tmp_path / "net.safetensors")
    model = cj.create_model("small_torch", weights=tmp_path / "net.safetensors")
    expected = state_dict()["stem.conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.params["stem"]["kernel"], expected)
    assert "names of torchvision, inside 'module.', '_orig_mod.';" in capsys.readouterr().err


def test_another_number_of_classes_gets_a_new_head(file):
    with pytest.warns(NewHead, match=r"the head \(logits\) is new"):
        model = cj.create_model("small_torch", weights=file, num_classes=7)
    assert model.params["logits"]["kernel"].shape == (18, 7)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda arrays: arrays.pop("blocks.0.dw.weight"), r"- block1_dw/kernel \[2, 2, 4, 2\]"),
        (lambda arrays: arrays.update({"blocks.0.se.weight": arrays["fc.weight"]}), r"\+ blocks.0"),
        (
            lambda arrays: arrays.update({"stem.conv.weight": np.ones((4, 3, 5, 5), np.float32)}),
            r"~ stem/kernel",
        ),
    ],
)
def test_what_is_missing_extra_or_of_another_shape_is_listed(change, text, tmp_path):
    arrays = state_dict()
    change(arrays)
    save_file(arrays, tmp_path / "net.safetensors")
    with pytest.raises(WeightsDoNotFit, match=text):
        cj.create_model("small_torch", weights=tmp_path / "net.safetensors")


def test_a_file_of_another_family_is_called_by_its_name(file):
    with pytest.raises(
        WeightsDoNotFit,
        match=r"PyTorch's names \('blocks.0.dw.bias'\), none of which is known of lenet: it takes "
        r"files of Keras. It has the weights of small_torch \(origin=torch\)$",
    ):
        cj.create_model("lenet", weights=file)


def test_two_arrays_for_one_weight_are_an_error(tmp_path):
    table = TorchNames("timm", (*NAMES, ("again", "stem")))
    arrays = state_dict() | {"again.weight": state_dict()["stem.conv.weight"]}
    save_file(arrays, tmp_path / "net.safetensors")
    with (
        registered(table, name="twice"),
        pytest.raises(WeightsDoNotFit, match="two arrays for ste"),
    ):
        cj.create_model("twice", weights=tmp_path / "net.safetensors", origin="torch")


def test_libraries_with_the_same_names_are_both_named(file, capsys):
    one = TorchNames("torchvision", NAMES, {"origin": "torch"})
    with registered(one, dataclasses.replace(one, source="timm"), name="both"):
        model = cj.create_model("both", weights=file)
    assert model.spec.weights == "net.safetensors (torchvision and timm)"


def test_arrays_that_evaluation_does_not_use_are_left(tmp_path):
    table = TorchNames("torchvision", NAMES, {"origin": "torch"}, unused=("aux.*",))
    save_file(
        state_dict() | {"aux.fc.weight": np.ones((2, 3), np.float32)}, tmp_path / "n.safetensors"
    )
    with registered(table, name="auxiliary"):
        assert cj.create_model("auxiliary", weights=tmp_path / "n.safetensors").spec.weights


def test_keras_published_weights_are_not_for_pytorchs_arithmetic():
    with pytest.raises(ValueError, match="are those of Keras, for origin='keras', got origin='tor"):
        cj.create_model("resnet50", weights="imagenet", origin="torch")


def test_what_was_exported_says_whose_arithmetic_it_is_for(tmp_path, file):
    """With the same shapes nothing else would tell."""
    with registered(name="other"):
        model = cj.create_model("other", weights=file)
        again = cj.export_weights(model, tmp_path / "again.safetensors")
        kept = cj.create_model("other", weights=again, origin="torch")
        np.testing.assert_array_equal(kept.params["stem"]["kernel"], model.params["stem"]["kernel"])
        with pytest.raises(WeightsDoNotFit, match="a model of origin='torch', got origin='keras'"):
            cj.create_model("other", weights=again)


def test_a_saved_model_says_whose_arithmetic_its_weights_are_for(tmp_path, file):
    with registered(name="other"):
        cj.save(cj.create_model("other", weights=file), tmp_path / "saved")
        assert cj.load(tmp_path / "saved").module.origin == "torch"
        with pytest.raises(WeightsDoNotFit, match="a model of origin='torch', got origin='keras'"):
            cj.create_model("other", weights=tmp_path / "saved" / "weights.safetensors")


@pytest.mark.parametrize("ending", [".npz", ".weights.h5"])
def test_a_file_that_cannot_say_whose_arithmetic_it_is_for_is_not_written(ending, tmp_path, file):
    model = cj.create_model("small_torch", weights=file)
    with pytest.raises(ValueError, match="cannot say that small_torch has origin='torch'"):
        cj.export_weights(model, tmp_path / f"w{ending}")


def test_another_epsilon_than_that_of_the_exported_model_is_an_error(tmp_path, file):
    stored = read_weights(file)
    stored = dataclasses.replace(stored, arithmetic={"origin": "torch", "epsilon": "1e-05"})
    module, spec = build("mobilenet_v3_small", origin="torch", input_shape=(32, 32, 3))
    with pytest.raises(WeightsDoNotFit, match=r"epsilon=1e-05, got epsilon=0.001: create the mode"):
        with_weights(module, spec, stored)
