"""The registry of methods: one that is added appears wherever methods are listed."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax import cli, explain, plot

ADDED = '''
import jax.numpy as jnp
import cnnjax as cj

@cj.explain.method(lines=True, randomised=True)
def brightness(model, images, target=None):
    """What is bright."""
    return images.max(-1)
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A module of one's own with a method in it."""
    (tmp_path / "my_method.py").write_text(ADDED)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("my_method")
    yield module.brightness
    del explain.METHODS["brightness"], sys.modules["my_method"]


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return str(file)


def test_the_methods_are_those_at_a_layer_then_those_of_lines_then_the_others():
    assert list(explain.METHODS) == [
        "grad_cam", "hires_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "score_cam",
        "saliency", "smooth_grad", "integrated_gradients", "guided_backpropagation",
        "occlusion", "rise",
    ]  # fmt: skip


def test_what_takes_hundreds_of_passes_is_taken_by_name_only():
    assert {"score_cam", "rise"} == set(explain.METHODS) - set(explain.methods_at(None))
    assert list(explain.methods_at(None, ["rise"])) == ["rise"]


def test_a_method_of_ones_own_is_in_the_grid_the_sanity_check_and_the_command(
    added, photo, tmp_path, monkeypatch, capsys
):
    for name in ("CNNJAX_COMPILATION_CACHE", "CNNJAX_ALLOCATOR"):
        monkeypatch.setenv(name, "0")  # the verb leaves the settings of this process as they are
    assert "brightness" in explain.methods_at(None)
    model = cj.create_model("mlp", input_shape=(12, 12, 3), num_classes=2)
    cj.save(model, tmp_path / "saved")
    arguments = ["--methods", "brightness", "--sanity", "--out", str(tmp_path / "out")]
    cli.main(["explain", str(tmp_path / "saved"), photo, *arguments])
    tables = capsys.readouterr().out.splitlines()
    assert tables[0] == "cascading randomisation: rank correlation / SSIM"
    assert tables[1].split() == ["brightness"]
    with np.load(tmp_path / "out" / "methods.npz") as maps:
        seen = plot.read_photos(model, [photo]).inputs
        np.testing.assert_array_equal(maps["brightness"], seen.max(-1))


def test_a_name_is_registered_once(added):
    with pytest.raises(ValueError, match="there is a method 'brightness' already"):
        explain.method()(added)
