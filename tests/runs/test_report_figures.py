"""What is drawn of a run stands in its report, with captions."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax import cli, plot
from cnnjax.plot import grids
from cnnjax.runs import write_report


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of a small net over one epoch of noise, with its report."""
    images = np.random.default_rng(0).integers(0, 255, (8, 12, 12, 1), dtype=np.uint8)
    model = cj.create_model("simple_convnet", input_shape=(12, 12, 1), num_classes=2)
    config = cj.TrainingConfig(epochs=1, batch_size=8)
    directory = tmp_path / "run"
    cj.fit(model, (images, np.arange(8) % 2), config, directory=directory, verbose=False)
    write_report(directory)
    return directory


def test_a_image_carries_its_caption(tmp_path):
    figure = grids.feature_maps(np.zeros((4, 4, 2), np.uint8))
    for text in ("maps of é → ü", ""):
        with Image.open(plot.save_image(tmp_path, "maps", figure, caption=text)) as image:
            assert image.info.get("Description", "") == text


@pytest.mark.thorough
def test_the_report_shows_what_the_verbs_drew(run, tmp_path, capsys, monkeypatch):
    for name in ("CNNJAX_COMPILATION_CACHE", "CNNJAX_ALLOCATOR"):
        monkeypatch.setenv(name, "0")  # the settings of this process stay
    photo = tmp_path / "a<b.png"
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20).astype(np.uint8)).save(photo)
    assert "Looking inside" not in (run / "report.html").read_text()
    cli.main(["activations", str(run), str(photo), "--layers", "conv1"])
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")
    cli.main(["gradcam", str(run), str(photo), "--layer", "conv1", "--target", "0", "1"])
    page = (run / "report.html").read_text()
    results, _, inside = page.partition("<h2>Looking inside</h2>")
    assert results.count("<figure>") == 1
    assert inside.count("<figure>") == 3
    for caption in (
        "a<b: the maps of conv1, each normalised for itself",
        "a<b: Grad-CAM at conv1: where a photo holds what speaks for the class above it",
        "How silent the layers are for these photos: shares of zeros and of dead maps",
    ):
        assert f"<figcaption>{html.escape(caption)}</figcaption>" in inside
    # Elsewhere they change nothing.
    capsys.readouterr()
    cli.main(["gradcam", str(run), str(photo), "--layer", "conv1", "--out", str(tmp_path / "x")])
    assert "report.html" not in capsys.readouterr().out
    assert (run / "report.html").read_text() == page
