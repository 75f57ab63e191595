"""Images of feature maps, filters and classes, from Python and from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax import plot


@pytest.fixture(scope="module")
def net():
    return cj.create_model("lenet", input_shape=(20, 20, 1), seed=2)


@pytest.fixture(scope="module")
def weights(net, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "lenet.weights.h5"
    cj.export_weights(net, file)
    return file


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    files = [folder / "first.png", folder / "second.png"]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (30, 24), dtype=np.uint8)).save(file)
    return files


def width(file):
    with Image.open(file) as image:
        return image.size[0]


@pytest.mark.thorough
def test_activations_of_photos(net, photos, tmp_path):
    table, image_list = plot.draw_activations(net, photos, tmp_path)
    assert list(table) == ["conv1", "conv2", "dense1"]  # what ends in an activation function
    assert [p.name for p in image_list] == [
        *(f"{n}_activations_{layer}.png" for n in ("first", "second")
          for layer in ("conv1", "pool1", "conv2", "pool2")),
        "sparsity.png",
    ]  # fmt: skip
    inputs = plot.read_photos(net, photos).inputs
    maps = cj.explain.activations(net, inputs, ["conv2"])["conv2"]
    with np.load(tmp_path / "second_activations_conv2.npz") as stored:
        np.testing.assert_allclose(stored["maps"], maps[1], rtol=1e-5, atol=1e-6)
    with np.load(tmp_path / "sparsity.npz") as stored:
        assert stored["layers"].tolist() == list(table)
        assert stored["zeros"][1] == pytest.approx(np.mean(np.asarray(maps) == 0), abs=1e-6)


@pytest.mark.thorough
def test_activations_from_the_command_line(cnnjax, weights, photos, tmp_path):
    model = ("--model", "lenet", "--weights", weights, "--input-shape", 20, 20, 1)
    out, err = cnnjax(
        "activations", *model, photos[0], "--layers", "conv*", "--raw", "--out", tmp_path
    )
    assert err == ""
    head, conv1, conv2, *image_list = out.splitlines()
    assert head.split() == ["layer", "zeros", "dead", "maps", "dead", "for", "all", "images"]
    assert (conv1.split()[0], conv2.split()[0]) == ("conv1", "conv2")
    assert all(0 <= float(share) <= 1 for share in conv2.split()[1:])
    assert [Path(p).name for p in image_list] == [
        "first_activations_conv1.png",
        "first_activations_conv2.png",
        "sparsity.png",
    ]
    for image in image_list:
        assert width(image) > 300
    _, err = cnnjax("activations", *model, photos[0], "--layers", "conv3", status=1)
    assert err.startswith("error: layers='conv3' names no layer. Did you mean 'conv")
    _, err = cnnjax("activations", *model, photos[0], "--layers", "dense*", "logits", status=1)
    assert err.startswith("error: none of the layers dense1, logits of lenet has maps to draw")


@pytest.mark.thorough
def test_filters_from_the_command_line(cnnjax, net, weights, tmp_path):
    model = ("--model", "lenet", "--weights", weights, "--input-shape", 20, 20, 1)
    asked = ("--layer", "conv2", "--filters", 5, 1, "--size", 16, "--seed", 3, "--out", tmp_path)
    for recipe in ("classic", "fourier"):
        out, err = cnnjax("filters", *model, *asked, "--steps", 3, "--recipe", recipe)
        assert (out.strip(), err) == (str(tmp_path / f"filters_conv2_{recipe}.png"), "")
        assert width(out.strip()) > 300
        with np.load(tmp_path / f"filters_conv2_{recipe}.npz") as stored:
            wanted = cj.explain.filter_patterns(
                net, "conv2", [5, 1], size=16, steps=3, seed=3, recipe=recipe
            )
            np.testing.assert_allclose(stored["patterns"], wanted, atol=1e-4)
            assert stored["filters"].tolist() == [5, 1]
            assert stored["dead"].shape == (0,)


@pytest.mark.thorough
def test_filters_of_a_saved_model_stand_beside_it_and_dead_ones_are_named(cnnjax, net, tmp_path):
    params = {**net.params}
    params["conv1"] = {**params["conv1"], "bias": params["conv1"]["bias"].at[1].set(-1e6)}
    cj.save(net.replace(variables={"params": params}), tmp_path / "saved")
    asked = ("--layer", "conv1", "--filters", 0, 1, "--size", 8, "--steps", 1)
    out, err = cnnjax("filters", tmp_path / "saved", *asked)
    assert Path(out.strip()) == tmp_path / "saved" / "figures" / "filters_conv1_classic.png"
    assert err == (
        "warning: conv1: the gradient of filter 1 is zero (dead): its pattern is noise\n"
    )


@pytest.mark.thorough
def test_classes_are_drawn_with_the_probability_that_the_model_gives_them(net, tmp_path):
    found, image = plot.draw_classes(net, [3, 1, 7, 0, 9], tmp_path, steps=2)
    assert image.name == "classes_fourier.png"
    with np.load(image.with_suffix(".npz")) as stored:
        np.testing.assert_array_equal(stored["patterns"], found.images)
        assert stored["classes"].tolist() == [3, 1, 7, 0, 9]
        probs = cj.predict(net, 255 * found.images)
        np.testing.assert_allclose(stored["probabilities"], probs[range(5), stored["classes"]])
        assert stored["dead"].shape == (0,)


@pytest.mark.thorough
def test_classes_from_the_command_line(cnnjax, tmp_path):
    model = cj.create_model(
        "lenet", input_shape=(20, 20, 1), num_classes=1, label_names=("cat", "dog")
    )
    cj.save(model, tmp_path / "saved")
    asked = ("--classes", "dog", 0, "--steps", 2, "--recipe", "classic", "--seed", 1)
    out, err = cnnjax("filters", tmp_path / "saved", *asked)
    assert (Path(out.strip()), err) == (tmp_path / "saved/figures/classes_classic.png", "")
    with np.load(tmp_path / "saved/figures/classes_classic.npz") as stored:
        wanted = cj.explain.class_patterns(model, [1, 0], steps=2, seed=1, recipe="classic")
        np.testing.assert_allclose(stored["patterns"], wanted, atol=1e-5)
        assert stored["classes"].tolist() == [1, 0]


@pytest.mark.thorough
def test_filters_of_weights_in_part(cnnjax, net, tmp_path):
    np.savez(tmp_path / "part.npz", **{
        f"conv1/{name}": np.asarray(array) for name, array in net.params["conv1"].items()
    })  # fmt: skip
    asked = ("--model", "lenet", "--weights", tmp_path / "part.npz", "--layer", "conv1")
    small = ("--filters", 0, "--size", 8, "--steps", 1, "--out", tmp_path)
    _, err = cnnjax("filters", *asked, *small, "--allow-partial")
    assert err.startswith("warning: ")
    assert "was loaded in part: - conv2/kernel" in err


def test_wrong_questions_are_one_line(cnnjax, net, weights, tmp_path):
    cj.save(net, tmp_path / "saved")
    model = ("--model", "lenet", "--weights", weights, "--input-shape", 20, 20, 1)
    for arguments, message in (
        ((*model, "--layer", "conv9"), "layer='conv9' names no layer of lenet. Did you mean"),
        ((*model, "--layer", "conv1", "--recipe", "deep"), "there is no recipe 'deep'"),
        (("--layer", "conv1"), "give either a RUN or --model"),
        ((tmp_path / "saved",), "give either --layer or --classes"),
        ((tmp_path / "saved", "--layer", "conv1", "--classes", 1), "give either --layer or --cla"),
        ((tmp_path / "saved", "--classes", 1, "--size", 9), "--size is for the filters of a --l"),
        ((tmp_path / "saved", "--classes", 10), "classes=10 is out of range: lenet has 10"),
        ((tmp_path, *model, "--layer", "conv1"), "give either a RUN or --model"),
        ((tmp_path / "saved", "--allow-partial", "--layer", "conv1"), "--allow-partial is for a"),
    ):
        _, err = cnnjax("filters", *arguments, status=1)
        assert err.startswith(f"error: {message}")
        assert err.count("\n") == 1
