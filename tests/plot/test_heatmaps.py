"""Heatmaps over photos in files: at their place, in colours, as files; the verbs that draw them."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax import cli, plot
from cnnjax.data import resize_image
from cnnjax.plot.figures import line_panels
from cnnjax.plot.images import unique
from cnnjax.plot.overlays import drawn, overlay, placed

RNG = np.random.default_rng(0)
NAMES = ("circle", "line", "square")


@pytest.fixture
def model():
    return cj.create_model("lenet", input_shape=(24, 24, 3), num_classes=3, label_names=NAMES)


@pytest.fixture
def files(tmp_path):
    """Two photos, one lying, one upright, of one name."""
    found = [tmp_path / "a" / "photo.png", tmp_path / "b" / "photo.png"]
    for path, (height, width) in zip(found, ((30, 48), (52, 26)), strict=True):
        path.parent.mkdir()
        Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return [str(path) for path in found]


@pytest.mark.parametrize("policy", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(40, 100), (100, 40), (60, 60)])
def test_a_heatmap_lies_where_the_model_saw_it(policy, size):
    """A bright spot of the photo comes back at its place through the resize and its inverse."""
    photo = np.zeros((*size, 1), np.uint8)
    row, column = size[0] // 2 + 6, size[1] // 2 - 6
    photo[row - 2 : row + 3, column - 2 : column + 3] = 255
    seen = resize_image(photo, (48, 48), policy)[..., 0] / 255
    heat = placed(seen, size, policy)
    assert heat.shape == size
    found = np.unravel_index(np.nanargmax(heat), size)
    assert np.abs(np.subtract(found, (row, column))).max() <= 3
    unseen = max(size) - min(size) if policy == "crop" else 0
    assert np.isnan(heat).sum() == unseen * min(size)


def test_overlay_is_the_photo_plus_a_share_of_the_colours():
    photo = RNG.integers(0, 256, (8, 6, 3), np.uint8)
    # JET runs from dark blue over green to dark red.
    cold, hot = (overlay(photo, np.full((8, 6), v)).astype(int) - photo for v in (0.0, 1.0))
    half = int(0.4 * 0.5 * 255)
    for change, channel in ((cold, 2), (hot, 0)):
        assert set(change[..., channel][photo[..., channel] < 200]) <= {half - 1, half}
        assert np.delete(change, channel, axis=-1).max() == 0
    np.testing.assert_array_equal(overlay(photo, np.full((8, 6), np.nan)), photo)
    np.testing.assert_array_equal(overlay(photo, np.ones((2, 2)), factor=0.0), photo)
    assert not np.array_equal(
        overlay(photo, np.ones((2, 2)), "viridis"), overlay(photo, np.ones((2, 2)))
    )


def test_overlay_resizes_the_map_and_takes_grey_photos():
    found = overlay(np.zeros((40, 60, 1), np.uint8), np.array([[0.0, 1.0]]), "gray", 1.0)
    assert found.shape == (40, 60, 3)
    assert (np.diff(found[0, :, 0].astype(int)) >= 0).all()
    assert found[0, 0, 0] == 0
    assert found[0, -1, 0] == 255


def test_an_unknown_colour_map():
    with pytest.raises(
        ValueError, match=r"colormap='jett' is none of matplotlib's\. Did you mean 'jet'"
    ):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), "jett")


def test_fine_maps_are_drawn_in_grey_and_others_over_the_photo():
    pixels, heat = RNG.integers(0, 256, (6, 6, 3), np.uint8), RNG.random((6, 6))
    assert drawn("saliency", pixels, heat).shape == (6, 6)
    assert drawn("saliency", pixels, heat).max() == 1
    assert drawn("saliency", pixels, 0 * heat).max() == 0
    np.testing.assert_array_equal(drawn("occlusion", pixels, heat), overlay(pixels, heat))


def test_panels_of_lines_and_names_that_come_again():
    figure = line_panels(
        {"one": {"a": np.ones(3)}, "two": {"a": np.ones(3)}}, "x", "y", ["p", "q", "r"]
    )
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("one", "two")
    assert [text.get_text() for text in first.get_xticklabels()] == ["p", "q", "r"]
    assert unique(["a", "a", "b", "a"]) == ["a", "a_2", "b", "a_3"]
    assert unique(["a_2", "a", "a"]) == ["a_2", "a", "a_3"]


@pytest.mark.thorough
def test_gradcam_files(model, files, tmp_path):
    found, asked = plot.draw_gradcam(model, files, tmp_path / "out", targets=[None, "line", 2])
    bare = [f"{kind}_{n}" for n in (1, 2, 3) for kind in ("heatmap", "overlay")]
    names = [f"{photo}_{part}.png" for photo in ("photo", "photo_2") for part in ("gradcam", *bare)]
    assert [path.name for path in found] == [*names, "gradcam.png"]
    assert [heat.photo for heat in asked] == 3 * ["photo"] + 3 * ["photo_2"]
    assert [heat.label for heat in asked[1:3]] == ["line", "square"]
    assert {heat.layer for heat in asked} == {model.spec.cam_layer}
    assert all(np.asarray(Image.open(path)).std() > 0 for path in found)
    with np.load(tmp_path / "out" / "photo_2_gradcam.npz") as arrays:
        inputs = plot.read_photos(model, files).inputs
        expected = cj.explain.grad_cam(model, inputs, target="line")[1]
        np.testing.assert_allclose(arrays["heatmaps"][1], expected, atol=1e-6)
        probs = cj.predict(model, list(plot.read_photos(model, files).originals))[1]
        assert arrays["classes"].tolist() == [probs.argmax(), 1, 2]
        assert arrays["classes"].tolist() == [heat.number for heat in asked[3:]]
        np.testing.assert_allclose(arrays["probabilities"], probs[arrays["classes"]], rtol=1e-4)
    alone, _ = plot.draw_gradcam(model, files[:1], tmp_path / "alone")
    names = ["photo_gradcam.png", "photo_heatmap.png", "photo_overlay.png"]
    assert [path.name for path in alone] == names


@pytest.mark.thorough
def test_one_logit_is_drawn_for_both_classes(files, tmp_path):
    model = cj.create_model(
        "lenet", input_shape=(24, 24, 3), num_classes=1, label_names=("cat", "dog")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cj.explain.EmptyMap)
        plot.draw_gradcam(model, files[:1], tmp_path, targets=["cat", "dog"])
    with np.load(tmp_path / "photo_gradcam.npz") as arrays:
        assert arrays["classes"].tolist() == [0, 1]
        assert arrays["probabilities"].sum() == pytest.approx(1)


@pytest.mark.thorough
@pytest.mark.parametrize("task", ["multilabel", "values"])
def test_outputs_that_stand_each_for_itself_are_drawn_by_name(task, files, tmp_path):
    model = cj.create_model("lenet", input_shape=(24, 24, 3), num_classes=3)
    whole = cj.Model.from_module(model.module, (24, 24, 3), task=task, label_names=NAMES)
    outputs = np.asarray(whole(plot.read_photos(whole, files).inputs), np.float64)
    expected = 1 / (1 + np.exp(-outputs)) if task == "multilabel" else outputs

    def margin(outputs):
        return outputs[:, 0] - outputs[:, 2]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cj.explain.EmptyMap)
        _, asked = plot.draw_gradcam(whole, files, tmp_path, "conv2", ["line", margin])
        images, maps = plot.draw_methods(
            whole, files, tmp_path, "conv2", margin, ["layer_cam", "score_cam", "saliency"]
        )
    assert [heat.label for heat in asked] == ["line", "margin"] * 2
    assert [heat.number for heat in asked] == [1, -1] * 2
    chances = np.stack([expected[:, 1], outputs[:, 0] - outputs[:, 2]], axis=1).ravel()
    np.testing.assert_allclose([heat.probability for heat in asked], chances, atol=1e-5)
    assert images[0].is_file()
    assert {name: heat.shape for name, heat in maps.items()} == dict.fromkeys(maps, (2, 24, 24))


@pytest.mark.thorough
def test_the_panel_and_its_sanity(model, files, tmp_path):
    methods = ["grad_cam", "saliency"]
    images, maps = plot.draw_methods(model, files, tmp_path, methods=methods)
    assert [path.name for path in images] == ["methods.png"]
    assert list(maps) == methods
    assert maps["saliency"].shape == (2, 24, 24)
    more, text = plot.draw_sanity(model, files, tmp_path, maps, groups=2)
    expected = ["randomisation.png", "randomisation_curves.png", "faithfulness.png"]
    assert [path.name for path in more] == expected
    assert all(path.with_suffix(".npz").is_file() for path in more)
    for line in ("cascading randomisation", "independent randomisation", "deletion  insertion"):
        assert line in text
    assert "at random" in text.splitlines()[-1]


@pytest.mark.thorough
def test_the_pointing_game_counts_in_the_photo_s_own_pixels(model, files):
    # The model saw the columns 9 to 38 of the photo of 48.
    boxes = [("line", (9, 0, 39, 30)), (2, (0, 0, 9, 30))]
    table = plot.pointing_table(model, files[0], boxes, "conv1", ["occlusion", "grad_cam"])
    rows = table.splitlines()[1:]
    assert len(rows) == 4
    for row in rows:
        name, target, verdict, share, _ = row.split()
        assert name in ("occlusion", "grad_cam")
        assert share == ("1.00" if target == "line" else "0.00")
        assert verdict == "hit" or target == "2"
    with pytest.raises(ValueError, match=r"must be x0 < x1 <= 48"):
        plot.pointing_table(model, files[0], [(0, (0, 0, 49, 5))])


@pytest.fixture
def saved(model, tmp_path, monkeypatch):
    """A saved model; the verbs leave the settings of this process as they are."""
    for name in ("CNNJAX_COMPILATION_CACHE", "CNNJAX_ALLOCATOR"):
        monkeypatch.setenv(name, "0")
    cj.save(model, tmp_path / "run")
    return str(tmp_path / "run")


def test_gradcam_from_the_command_line(saved, files, tmp_path, capsys):
    cli.main(["gradcam", saved, *files, "--target", "line", "2", "--colormap", "viridis"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "class", "probability", "layer"]
    for line, (photo, label) in zip(lines[1:5], itertools.product(
        ("photo", "photo_2"), ("line", "square")
    ), strict=True):  # fmt: skip
        name, *said, probability, layer = line.split()
        assert (name, said, layer) == (photo, [label], "conv2")
        assert 0 < float(probability) < 1
    assert lines[-1] == str(tmp_path / "run" / "figures" / "gradcam.png")
    assert "# Grad-CAM explains the class asked for; other shapes were brought" in lines[5]
    cli.main(["gradcam", saved, files[0], "--out", str(tmp_path / "there"), "--layer", "conv1"])
    assert (tmp_path / "there" / "photo_gradcam.npz").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "conv3"], "layer='conv3' names no layer of lenet. Did you mean 'conv2' or"),
        (["--target", "lien"], "target='lien' is no class of lenet. Did you mean 'line'?"),
        (["--target", "7"], "target=7 is out of range: lenet has 3 classes"),
        (["--target", "-1"], "target=-1 is out of range: lenet has 3 classes"),
        (["--colormap", "viridsi"], "colormap='viridsi' is none of matplotlib's. Did you mean"),
    ],
)
def test_errors_are_one_line(saved, files, options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["gradcam", saved, files[0], *options])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.thorough
def test_explain_from_the_command_line(saved, files, tmp_path, capsys):
    out = str(tmp_path / "out")
    arguments = ["--methods", "grad_cam", "saliency", "--box", "line", "10", "0", "30", "20"]
    cli.main(["explain", saved, files[0], "--out", out, "--sanity", *arguments])
    text = capsys.readouterr().out
    assert "cascading randomisation" in text
    assert "pointing game" in text
    assert text.splitlines()[-1].endswith("faithfulness.png")
    with pytest.raises(SystemExit):
        cli.main(["explain", saved, *files, *arguments])
    assert "--box is for a single photo, got 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["explain", saved, files[0], "--box", "line", "1", "2", "x", "4"])
    assert "--box needs four whole numbers after the class, got 1 2 x 4" in capsys.readouterr().err
