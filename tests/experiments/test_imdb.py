"""The experiment on texts: trained, recorded, reproduced; asked and explained by commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.data import DataNotFound, Vocabulary, load_texts
from cnnjax.recipes import build_model, load_data
from cnnjax.runs import RunError
from experiments import imdb_conv1d
from experiments.imdb_conv1d import ImdbOptions

pytestmark = pytest.mark.thorough

Verb = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cj.Run:
    """An epoch on the templates."""
    out = tmp_path_factory.mktemp("imdb") / "run"
    options = ImdbOptions(data="templates", recipe="tuned", epochs=1, out=str(out))
    return imdb_conv1d.main(options)[0]


def test_the_run_holds_all_that_texts_need(run: cj.Run) -> None:
    folder = run.directory
    assert folder is not None
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    assert run.model.spec.vocabulary == vocabulary
    record, config = (json.loads((folder / f).read_text()) for f in ("run.json", "config.json"))
    assert config["model"]["vocabulary"] == vocabulary.fingerprint
    assert config["model"]["arguments"] == {"vocabulary_size": 106}
    assert record["source"]["texts"]["length"] == 64
    assert record["source"]["steps"] == [["with_validation", 0.2, 0]]
    assert {k: v["examples"] for k, v in record["data"].items()} == {
        "train": 1600,
        "validation": 400,
        "test": 500,
    }
    assert record["reported"] == {}  # a figure belongs to the data it was reported on
    assert (folder / "figures" / "words.png").is_file()
    page = (folder / "report.html").read_text()
    assert "the redder, the more a word speaks for it" in page
    assert "GlobalMaxPooling1D" in page
    loaded = cj.load(folder)
    assert loaded.spec == run.model.spec
    texts = ["it was good and not bad", "it was bad and not good"]
    np.testing.assert_array_equal(cj.predict(loaded, texts), cj.predict(run.model, texts))


def test_the_run_is_reproduced_to_the_bit(run: cj.Run, tmp_path: Path) -> None:
    assert run.directory is not None
    again = cj.reproduce(run.directory, out=tmp_path / "again", verbose=False)
    assert again.same, str(again)
    assert cj.load(tmp_path / "again").spec.vocabulary == run.model.spec.vocabulary


def test_another_vocabulary_is_no_resumption(run: cj.Run) -> None:
    options = ImdbOptions(
        data="templates", recipe="tuned", epochs=1, out=str(run.directory), resume=True,
        vocabulary=90,
    )  # fmt: skip
    with pytest.raises(RunError, match=r"holds a run with other settings.*vocabulary"):
        imdb_conv1d.main(options)


def test_texts_are_asked_on_the_command_line(run: cj.Run, cnnjax: Verb, tmp_path: Path) -> None:
    file = tmp_path / "review.txt"
    file.write_text("Far from stale it is funny!")
    texts = ["it was good and not bad", "it was bad and not good, " + 10 * "never "]
    out, err = cnnjax("predict", run.directory, file, "--text", texts[0], "--text", texts[1])
    probs = cj.predict(run.model, [*texts, file.read_text()])[:, 0]
    lines = out.splitlines()
    assert err == ""
    assert [line[:23] for line in lines] == [
        texts[0],
        "it was bad and not good",
        str(file)[:23],
    ]
    for line, probability in zip(lines, probs, strict=True):
        name, shown = line.split()[-2:]
        assert name == ("pos" if probability > 0.5 else "neg")
        assert abs(float(shown) - max(probability, 1 - probability)) < 1e-4
    out, _ = cnnjax("predict", run.directory, file, "--top", 2)
    assert out.count("pos") == out.count("neg") == 1


def test_unknown_words_are_a_warning_and_errors_a_line(
    run: cj.Run, cnnjax: Verb, tmp_path: Path
) -> None:
    folder = run.directory
    _, err = cnnjax("predict", folder, "--text", "qwertz asdf")
    assert err == (
        "warning: of texts [0] the model knows no word: what it says of them means nothing\n"
    )
    bad = tmp_path / "latin.txt"
    bad.write_bytes(b"caf\xe9")
    empty = tmp_path / "empty.txt"
    empty.write_text("...")
    for arguments, message in (
        (["predict", folder], "there is no image after"),
        (["predict", folder, "--text", ""], "texts[0] is empty"),
        (["predict", folder, "--text", "a", "--invert"], "--invert is for images, and imdb"),
        (["predict", folder, bad], "latin.txt is not UTF-8 text (byte 0xe9 at position 3)"),
        (["predict", folder, empty], "empty.txt is empty: it holds no word"),
        (["predict", folder, "nowhere.txt"], "nowhere.txt: no such file"),
        (["explain", folder, "--text", "a", "--sanity"], "--sanity is for images, and imdb"),
        (["explain", folder, "--text", "a", "--layer", "conv3"], "Did you mean 'conv2'"),
        (["gradcam", folder, "x.png"], "imdb_conv1d takes no images"),
        (["activations", folder, "x.png"], "imdb_conv1d takes no images"),
    ):
        _, err = cnnjax(*arguments, status=1)
        assert err.startswith("error: ")
        assert message in err, err


def test_a_model_of_images_takes_no_texts(cnnjax: Verb, tmp_path: Path) -> None:
    cj.save(cj.create_model("mlp", units=(4,)), tmp_path / "mlp")
    _, err = cnnjax("predict", tmp_path / "mlp", "--text", "a", status=1)
    assert err == "error: --text is for a model of texts, and mlp is none\n"


def test_texts_are_explained_on_the_command_line(run: cj.Run, cnnjax: Verb, tmp_path: Path) -> None:
    text = "it was good and not bad . " * 4
    out, _ = cnnjax("explain", run.directory, "--text", text, "--target", "neg", "--out", tmp_path,
                    "--layer", "conv1")  # fmt: skip
    assert out.strip() == str(tmp_path / "words.png")
    heat = np.load(tmp_path / "words.npz")["heat"]
    np.testing.assert_array_equal(
        heat, cj.explain.word_cam(run.model, [text], "conv1", target="neg")
    )


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of three classes of 40 texts each."""
    for label in ("bad", "fair", "good"):
        for i in range(40):
            file = tmp_path / "films" / label / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"a {label} film number {i}")
    return tmp_path / "films"


def test_other_nets_and_data_of_ones_own(films: Path) -> None:
    task = imdb_conv1d.experiment(ImdbOptions(data=str(films), model="gru", length=8))
    splits = load_data(task)
    assert {k: len(v) for k, v in splits.parts.items()} == {
        "train": 77,
        "validation": 19,
        "test": 24,
    }
    model = build_model(task, splits)
    assert model.layer_names == ("embedding", "gru", "logits")
    assert model.spec.label_names == ("bad", "fair", "good")
    assert cj.predict(model, ["a good film"]).shape == (1, 3)
    task = imdb_conv1d.experiment(ImdbOptions(model="lstm", classes=("good", "bad")))
    assert task.arguments == {"cell": "lstm"}
    assert task.texts is not None
    assert task.texts["class_names"] == ("good", "bad")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_recurrent_nets_are_trained_and_drawn(films: Path, tmp_path: Path, model: Any) -> None:
    out = str(tmp_path / "run")
    imdb_conv1d.main(ImdbOptions(data=str(films), model=model, length=8, epochs=1, out=out))
    assert (tmp_path / "run" / "figures" / "words.png").is_file()
    assert cj.load(out).layer_names[1] == model


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": "imdb_review"}, DataNotFound, "Did you mean 'imdb_reviews'"),
        ({"data": "templates", "vocabulary": 500}, ValueError, "have 102 different words"),
        ({"data": "templates", "length": 0}, ValueError, "length must be a whole number >= 1"),
        ({"data": "templates", "length": 20}, ValueError, "too small for 'imdb_conv1d'"),
    ],
)
def test_what_cannot_be_trained_is_named(
    options: dict, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        imdb_conv1d.main(ImdbOptions(**options, data_dir=str(tmp_path), out=str(tmp_path / "run")))


def test_recipes() -> None:
    reported = imdb_conv1d.experiment(ImdbOptions())
    training = reported.training
    assert (training.optimizer, training.learning_rate) == ("rmsprop", 1e-4)
    assert (training.batch_size, training.epochs, training.monitor) == (128, 10, None)
    assert reported.validation == 0.2
    assert reported.reported == {"val_accuracy": 0.85}
    assert reported.texts is not None
    assert reported.texts["length"] == 500
    assert imdb_conv1d.experiment(ImdbOptions(model="gru")).reported == {}
    tuned = imdb_conv1d.experiment(ImdbOptions(recipe="tuned"))
    assert (tuned.model, tuned.arguments) == (reported.model, reported.arguments)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv1d", "gru"])
def test_the_order_of_words_is_learned(model: str) -> None:
    splits = load_texts("templates", length=64, validation=0.2)
    task = imdb_conv1d.experiment(ImdbOptions(data="templates", model=model))
    net = build_model(task, splits)
    config = cj.TrainingConfig(epochs=12, batch_size=32, optimizer="adam", learning_rate=2e-3)
    assert cj.fit(net, splits, config, verbose=False).metrics["test_accuracy"] > 0.97
