"""report.html: complete, self-contained, safe, also for runs that are unfinished or unusual."""

from __future__ import annotations

import base64
import html
import io
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from modules import Convnet
from PIL import Image

import cnnjax as cj
from cnnjax.metrics import percent
from cnnjax.plot import grids
from cnnjax.plot.results import draw_augmentation
from cnnjax.runs import RunError, write_report
from cnnjax.runs.seal import sealed

Arrays = tuple[np.ndarray, np.ndarray]


class Page(HTMLParser):
    """The parts of a page: its text, headings, images and whatever it loads from elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if "src" in values:
            self.sources.append(values["src"] or "")
        self.links += [values[name] or "" for name in ("href", "action", "data") if name in values]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on noise with validation, test data and a name that is no HTML."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 12, 12, 1), dtype=np.uint8)
    data = cj.data.from_arrays(images, np.arange(60) % 3, name="noise <b>&")
    splits = cj.data.Splits(data, None, data).with_validation(0.2)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
    config = cj.TrainingConfig(epochs=3, batch_size=16, learning_rate=0.0123)
    record = {
        "experiment": "<script>alert(1)</script>",
        "description": "noise & nothing",
        "recipe": "tuned",
        "reported": {"test_accuracy": 0.9918},
    }
    directory = tmp_path_factory.mktemp("report") / "run"
    cj.fit(model, splits, config, directory=directory, verbose=False, record=record)
    return directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_page_holds_results_model_data_epochs_settings_and_origin(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    facts = json.loads((run / "run.json").read_text())
    for text in (
        f"test accuracy: {percent(facts['metrics']['test_accuracy'])}",
        "Reported with Keras: test accuracy 99.18 %",
        "recipe tuned",
        "dense1",
        facts["data"]["train"]["fingerprint"],
        facts["parameter_hash"],
        facts["started"],
        "0.0123",
        facts["versions"]["jax"],
        facts["command"],
    ):
        assert text in page.text, text
    for heading in ("Model", "Data", "Epochs", "Settings"):
        assert heading in page.text
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for epoch in epochs:
        assert f"{epoch['val_loss']:.5g}" in page.text


def test_the_page_loads_nothing_from_elsewhere(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.links == []
    assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
    for outside in ("http://", "https://", "@import", "url("):
        assert outside not in text


def test_a_report_reads_no_checkpoint(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    shutil.rmtree(run / "checkpoints")
    assert write_report(run).read_text(encoding="utf-8") == page


def test_the_images_are_those_of_the_figures(run: Path) -> None:
    (run / "figures").mkdir()
    Image.new("RGB", (7, 5), "red").save(run / "figures" / "confusion_matrix.png")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    curves, matrix = [base64.b64decode(s.split(",")[1]) for s in page.sources]
    assert curves == (run / "figures" / "curves.png").read_bytes()
    assert Image.open(io.BytesIO(matrix)).size == (7, 5)


def test_names_cannot_break_the_page(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert html.escape("<script>alert(1)</script>") in text
    assert "noise <b>" not in text
    assert "noise <b>&" in Page(text).text


def test_writing_again_gives_the_same_page(run: Path) -> None:
    first = write_report(run).read_text(encoding="utf-8")
    assert write_report(run).read_text(encoding="utf-8") == first
    assert sorted(p.name for p in run.glob("*.html")) == ["report.html"]
    assert not list(run.glob(".report*"))


def test_an_unfinished_run_says_so(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    facts = {k: v for k, v in facts.items() if k not in ("metrics", "parameter_hash", "ended")}
    (run / "run.json").write_text(sealed({**facts, "status": "interrupted"}))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "status: interrupted" in page.text
    assert "accuracy on the training data" in page.text


def test_a_run_that_a_callback_stopped_says_so(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    stopped = {"epoch": 2, "step": 12, "by": "mine.<Stop>"}
    (run / "run.json").write_text(sealed({**facts, "status": "stopped", "stopped": stopped}))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "stopped by mine.<Stop> in epoch 2" in page.text


def test_a_run_without_an_epoch_says_so(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    del facts["ended_with"]
    (run / "run.json").write_text(sealed({**facts, "status": "running"}))
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match=f"the run {run} has finished no epoch yet"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"{tmp_path} is not a run directory: it has no run\.json"):
        write_report(tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path / 'none'} does not exist"):
        write_report(tmp_path / "none")


@pytest.mark.thorough
def test_a_module_of_ones_own_is_reported_without_its_table(
    squares: Arrays, tmp_path: Path
) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    config = cj.TrainingConfig(epochs=1, batch_size=32, monitor=None)
    cj.fit(model, squares, config, directory=tmp_path / "run", verbose=False)
    page = Page(write_report(tmp_path / "run").read_text(encoding="utf-8"))
    assert "Convnet: a module of the user's own" in page.text
    assert "accuracy on the training data" in page.text


def test_a_figure_that_is_cut_off_is_named_and_not_shown(run: Path) -> None:
    write_report(run)
    whole = (run / "figures" / "curves.png").read_bytes()
    for name, content in (
        ("cut", whole[:-9]),
        ("text", b"hello"),
        ("flipped", b"G".join((whole[:60], whole[61:]))),
    ):
        (run / "figures" / f"{name}.png").write_bytes(content)
    (run / "figures" / "folder.png").mkdir()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert len(page.sources) == 1
    for name in ("cut", "text", "flipped"):
        assert f"{name}.png is not shown: it is not a whole PNG file" in page.text
    assert "folder.png is not shown: figure" in page.text


def test_percent() -> None:
    assert [percent(x) for x in (0, 0.5, 0.99184, 1)] == [
        "0.00 %",
        "50.00 %",
        "99.18 %",
        "100.00 %",
    ]


@pytest.mark.thorough
def test_the_images_of_an_augmentation_show_what_is_mixed_at_their_own_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    draw = grids.augmentation

    def keep(originals: np.ndarray, copies: np.ndarray) -> Figure:
        drawn.append(copies)
        return draw(originals, copies)

    monkeypatch.setattr(grids, "augmentation", keep)
    grey = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((6, 8, 8, 3), 40, np.uint8)
    train = cj.data.from_arrays(grey, np.arange(6))
    config = cj.TrainingConfig(augment=cj.augment.Augment(cutmix=1.0, rescale=1 / 255))
    draw_augmentation(train, config, tmp_path)
    assert (tmp_path / "augmentation.png").is_file()
    (copies,) = drawn
    assert np.isin(np.round(copies), grey).all()  # of one image or of its partner
    assert max(len(np.unique(np.round(copy))) for row in copies for copy in row) == 2


@pytest.mark.thorough
def test_metrics_that_are_tables_stand_by_class_and_as_a_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 6, 6, 1), dtype=np.uint8)
    names = ("ant", "bee", "<i>cow")
    data = cj.data.from_arrays(images, np.arange(60) % 3, label_names=names)
    model = cj.create_model("mlp", input_shape=(6, 6, 1), num_classes=3, units=(4,))
    model = model.replace(spec=replace(model.spec, label_names=names))
    metrics = {
        "f1": cj.metrics.f1(),
        "recall": cj.metrics.recall(average=None),
        "pairs": cj.metrics.confusion_matrix(),
    }
    splits = cj.data.Splits(data, None, data).with_validation(0.2)
    config = cj.TrainingConfig(epochs=2, batch_size=16)
    run = cj.fit(model, splits, config, directory=tmp_path / "run", verbose=False, metrics=metrics)
    page = Page(write_report(tmp_path / "run").read_text(encoding="utf-8"))
    assert "i" not in page.tags
    assert f"test f1 {run.metrics['test_f1']:.4f}" in page.text
    assert "val recall" in page.text
    for name in names[:2]:
        assert name in page.text
    for value in run.metrics["test_recall"]:
        assert f"{value:.4f}" in page.text
    assert (tmp_path / "run" / "figures" / "test_pairs.png").is_file()
    assert page.text.count("pairs") == len(["val pairs", "test pairs"]) + len(["in the settings"])
