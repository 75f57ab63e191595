"""What users of Keras and PyTorch type first gets an answer that helps."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.core import habits


class Loader:
    """Batches, as PyTorch's DataLoader gives them."""

    def __iter__(self) -> object:
        return iter(())


class Images:
    """Examples by number, as a data set of PyTorch's has them."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> object:
        return np.zeros((8, 8, 1), np.uint8), 0


@pytest.fixture(scope="module")
def model() -> cj.Model:
    return cj.create_model("mlp", units=(4,), input_shape=(8, 8, 1), num_classes=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lr": 1e-3}, "TrainingConfig has no argument 'lr': here it is learning_rate="),
        ({"num_epochs": 3}, "no argument 'num_epochs': here it is epochs="),
        ({"learning_rat": 1}, "no argument 'learning_rat'. Did you mean 'learning_rate'"),
    ],
)
def test_a_setting_by_anothers_name(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        cj.TrainingConfig(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"epochs": 3},
            r"fit has no argument 'epochs': give TrainingConfig\(epochs=...\) as config",
        ),
        ({"lr": 1e-3}, r"no argument 'lr': give TrainingConfig\(learning_rate=...\) as config"),
        ({"validation_data": 0}, r"data takes cj.data.Splits\(train, validation, test\)"),
        ({"metric": 0}, "no argument 'metric'. Did you mean 'metrics'"),
    ],
)
def test_an_argument_of_fit_by_anothers_name(
    model: cj.Model, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        cj.fit(model, (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, int)), **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pretrained": True}, "has no argument 'pretrained': weights='imagenet' takes those publ"),
        ({"classes": 3}, "has no argument 'classes': here it is num_classes="),
        ({"unit": 3}, "has no argument 'unit'. Did you mean 'units'"),
        ({"weights": True}, "weights must be None, 'imagenet' or the path of a file, got True"),
        ({"input_shape": (3, 8, 8)}, r"channels first, as PyTorch has them.*input_shape=\(8, 8, 3"),
    ],
)
def test_an_argument_of_create_model_by_anothers_name(
    arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        cj.create_model("mlp", **arguments)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Images(), r"got Images: cj.data.from_source\(data\) takes what has __len__"),
        (Loader(), r"got Loader: cj.data.stream\(lambda epoch: data, steps_per_epoch\)"),
        ("photos", r"got str: cj.data.load\(...\) reads a name, folder or file"),
        (np.zeros((4, 8, 8, 1)), r"got ndarray: labels belong to it, cj.data.from_arrays\("),
        ((np.zeros((4, 3, 8, 8)), np.zeros(4, int)), "channels second, as PyTorch has them"),
        (
            (np.full((4, 8, 8, 1), 0.5), np.zeros(4, int)),
            r"must be pixels in \[0, 255\], these lie",
        ),
    ],
    ids=["data set", "loader", "path", "array", "NCHW", "unit interval"],
)
def test_data_of_others(model: cj.Model, data: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cj.fit(model, data, cj.TrainingConfig(epochs=1, batch_size=2), verbose=False)


def test_what_is_no_model_is_refused_with_how_it_becomes_one() -> None:
    data = (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"got str: cj.create_model\('mlp'\) makes one"):
        cj.fit("mlp", data)
    with pytest.raises(ValueError, match=r"got object: cj.Model.from_module takes a Linen modul"):
        cj.predict(object(), data[0])


def test_what_a_model_has_not_is_said_with_what_does_it(model: cj.Model) -> None:
    for name in ("fit", "predict", "summary", "state_dict", "train"):
        with pytest.raises(AttributeError, match=f"a Model has no '{name}': it is a value, and "):
            getattr(model, name)
    with pytest.raises(AttributeError, match=r"a Model has no 'fits'$"):
        model.fits  # noqa: B018
    assert not hasattr(model, "predict")
    assert copy.copy(model).spec == model.spec


def test_what_helps_names_what_there_is() -> None:
    settings = cj.TrainingConfig.__dataclass_fields__
    assert set(habits.SETTINGS.values()) <= set(settings)
    assert not set(habits.SETTINGS) & set(settings)
    assert not set(habits.OF_MODEL) & set(dir(cj.Model))
    for text in habits.OF_MODEL.values():
        if text.startswith("cj.") and "explain" not in text:
            assert hasattr(cj, text.removeprefix("cj.").partition("(")[0])


def test_names_of_the_package_come_when_they_are_asked_for() -> None:
    assert cj.plot.curves
    assert pickle.loads(pickle.dumps(cj.fit)) is cj.fit
    with pytest.raises(AttributeError, match=r"cnnjax has no 'fitt'\. Did you mean 'fit'"):
        cj.fitt  # noqa: B018
    with pytest.raises(AttributeError, match=r"no 'load_model': cj.load\(directory\) does that"):
        cj.load_model  # noqa: B018
    assert not set(habits.OF_PACKAGE) & set(dir(cj))
    assert {"fit", "plot", "TrainingConfig"} <= set(dir(cj))


def test_a_model_is_asked_about_files(model: cj.Model, tmp_path: Path) -> None:
    pixels = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    files = [cj.plot.save_pixels(tmp_path, str(i), image) for i, image in enumerate(pixels)]
    expected = cj.predict(model, pixels[..., None])
    np.testing.assert_array_equal(cj.predict(model, files), expected)
    np.testing.assert_array_equal(cj.predict(model, [str(file) for file in files]), expected)
    np.testing.assert_allclose(cj.predict(model, str(files[1])), expected[1:2], rtol=1e-5)
    with pytest.raises(cj.data.UnreadableImage, match="no such file"):
        cj.predict(model, tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"images\[1\] is no path of a file, as images\[0\] is"):
        cj.predict(model, [files[0], pixels[0]])
