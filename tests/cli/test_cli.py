"""The `cnnjax` command: its verbs, its errors in one line, and what an import costs."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, environment, python, start
from PIL import Image

import cnnjax as cj
from cnnjax import cli
from cnnjax.cli.verb import TASKS, Verb
from cnnjax.models.builder import build
from cnnjax.runs import write_report

Output = tuple[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net on digits, with its report."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = cj.TrainingConfig(epochs=2, batch_size=64, optimizer="adam", monitor=None)
    digits = cj.data.load("digits")
    model = cj.create_model("mlp", units=(16,), label_names=digits.train.label_names)
    cj.fit(model, digits, config, directory=folder, verbose=False)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five test digits as PNG files: grey, RGB, and one of another size."""
    folder = tmp_path_factory.mktemp("digits")
    test = cj.data.load("digits").test
    files = []
    for i, image in enumerate(test.inputs[:5]):
        one_image = Image.fromarray(image[..., 0])
        one_image = one_image.convert("RGB") if i == 1 else one_image
        one_image = one_image.resize((56, 56)) if i == 2 else one_image
        files.append(folder / f"digit{i}.png")
        one_image.save(files[-1])
    return files


# predict


def test_predict_names_the_most_probable_class_of_every_image(
    cnnjax: Callable[..., Output], run: Path, digits: list[Path]
) -> None:
    out, err = cnnjax("predict", run, *digits)
    model = cj.load(run)
    probs = cj.predict(model, [cj.data.read_image(file, 1) for file in digits])
    *lines, note = out.splitlines()
    assert err == ""
    assert note.startswith("# images were brought to 28x28 by cutting out the largest centred part")
    for line, file, row in zip(lines, digits, probs, strict=True):
        name, label, probability = line.split()
        assert name == str(file)
        assert label == model.spec.label_names[row.argmax()]
        assert float(probability) == pytest.approx(row.max(), abs=1e-4)


def test_predict_may_name_several_classes(
    cnnjax: Callable[..., Output], run: Path, digits: list[Path]
) -> None:
    out, _ = cnnjax("predict", run, digits[0], "--top", "3")
    values = out.splitlines()[0].split()[1:]
    assert len(values) == 6
    probabilities = [float(p) for p in values[1::2]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_predict_can_swap_dark_and_light(
    cnnjax: Callable[..., Output], run: Path, digits: list[Path], tmp_path: Path
) -> None:
    paper = tmp_path / "paper.png"
    Image.fromarray(255 - np.asarray(Image.open(digits[0]))).save(paper)
    plain, _ = cnnjax("predict", run, digits[0])
    swapped, _ = cnnjax("predict", run, paper, "--invert")
    assert plain.split()[1:] == swapped.split()[1:]


def test_an_unreadable_image_is_named_and_the_others_are_predicted(
    cnnjax: Callable[..., Output], run: Path, digits: list[Path], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(digits[0].read_bytes()[:60])
    out, err = cnnjax("predict", run, broken, digits[0], missing, digits[1], status=1)
    assert [line.split()[0] for line in out.splitlines()] == [str(digits[0]), str(digits[1])]
    assert f"{broken}: not a readable image" in err
    assert f"{missing}: no such file" in err
    assert len(err.splitlines()) == 1


@pytest.mark.thorough
def test_predict_as_a_command_of_its_own(run: Path, digits: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    done = python("-m", "cnnjax", "predict", run, broken, digits[0], status=1)
    assert done.stdout.split()[0] == str(digits[0])
    assert done.stderr.startswith(f"error: {broken}: not a readable image")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a small MobileNet of three classes."""
    model = cj.create_model("mobilenet", alpha=0.25, num_classes=3, input_shape=(32, 32, 3))
    return cj.export_weights(model, tmp_path_factory.mktemp("weights") / "quarter.weights.h5")


MOBILENET = ("--model", "mobilenet", "--alpha", "0.25", "--input-shape", "32", "32", "3")


@pytest.mark.thorough
def test_predict_with_a_model_and_a_weight_file(
    cnnjax: Callable[..., Output], quarter: Path, tmp_path: Path
) -> None:
    """Of every mode that images have, all at once, with one that cannot be read."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    one_image = Image.fromarray(pixels)
    files = {
        "rgb.jpg": one_image.convert("RGB"),
        "grey.png": one_image.convert("L"),
        "alpha.png": one_image,
        "palette.gif": one_image.convert("P"),
        "cmyk.jpg": one_image.convert("CMYK"),
        "lossless.webp": one_image.convert("RGB"),
        "deep.png": Image.fromarray(pixels[..., 0].astype(np.uint16) * 257),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    out, err = cnnjax(
        "predict", *MOBILENET, "--num-classes", "3", "--weights", quarter, "--top", "2",
        *(tmp_path / name for name in [*files, "broken.jpg"]), "--resize", "pad", status=1,
    )  # fmt: skip
    *lines, note = out.splitlines()
    assert [Path(line.split()[0]).name for line in lines] == list(files)
    assert all(len(line.split()) == 5 for line in lines)
    assert note == "# images were brought to 32x32 by scaling all of it and adding black bars"
    assert err.startswith(f"error: {tmp_path / 'broken.jpg'}: not a readable image")
    assert len(err.splitlines()) == 1


@pytest.mark.thorough
def test_predict_with_the_weights_of_another_model(
    cnnjax: Callable[..., Output], quarter: Path, digits: list[Path]
) -> None:
    options = ("--model", "mobilenet", "--alpha", "0.5", "--input-shape", "32", "32", "3")
    _, err = cnnjax("predict", *options, "--weights", quarter, digits[0], status=1)
    assert "does not fit mobilenet (alpha=0.5)" in err
    assert "It has the weights of mobilenet (alpha=0.25)" in err
    assert len(err.splitlines()) == 1


def test_an_option_between_the_run_and_the_images(
    cnnjax: Callable[..., Output], run: Path, digits: list[Path]
) -> None:
    assert cnnjax("predict", run, "--top", "3", *digits) == cnnjax(
        "predict", run, *digits, "--top", "3"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "x.h5"), "--weights is for a model by name, not for the run"),
        (("--alpha", ".5"), "--alpha is for a model by name"),
        (("--set", "units=3"), "--set is for a model by name"),
    ],
)
def test_options_of_a_model_with_a_run(
    options: tuple[str, ...], message: str, cnnjax: Callable[..., Output], run: Path
) -> None:
    _, err = cnnjax("predict", run, "x.png", *options, status=1)
    assert message in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alpha", ".5", "--set", "alpha=.25"), "alpha is given twice: 0.25 and 0.5"),
        (("--set", "weights=x"), "model 'mobilenet' has no argument 'weights'"),
        (("--set", "include_top=no"), "include_top must be True or False, got 'no'"),
    ],
)
def test_settings_that_contradict(
    options: tuple[str, ...], message: str, cnnjax: Callable[..., Output]
) -> None:
    _, err = cnnjax("summary", "mobilenet", *options, status=1)
    assert message in err


@pytest.mark.thorough
def test_a_random_head_predicts_nothing(
    cnnjax: Callable[..., Output], quarter: Path, digits: list[Path]
) -> None:
    options = (*MOBILENET, "--num-classes", "5", "--weights", quarter)
    out, err = cnnjax("predict", *options, digits[0], status=1)
    assert out == ""
    assert "the head (conv_preds) is new" in err
    assert len(err.splitlines()) == 1


def test_predict_needs_an_image(cnnjax: Callable[..., Output], run: Path) -> None:
    _, err = cnnjax("predict", run, status=1)
    assert f"there is no image after {run}" in err


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_predict_with_what_is_no_run(
    cnnjax: Callable[..., Output], digits: list[Path], tmp_path: Path, what: str
) -> None:
    place = {"missing": tmp_path / "none", "empty": tmp_path, "file": digits[0]}[what]
    out, err = cnnjax("predict", place, digits[0], status=1)
    assert out == ""
    assert err.startswith(f"error: {place} ")
    assert len(err.splitlines()) == 1


def test_a_damaged_run_is_one_line(
    cnnjax: Callable[..., Output], run: Path, digits: list[Path], tmp_path: Path
) -> None:
    copy = damaged(run, tmp_path)
    _, err = cnnjax("predict", copy, digits[0], status=1)
    assert err.startswith(f"error: checkpoint {copy}")
    assert len(err.splitlines()) == 1


@pytest.mark.thorough
def test_reading_a_damaged_run_makes_no_noise(run: Path, tmp_path: Path) -> None:
    """Orbax's event loop complains late, and not every time: so many times."""
    script = """
import sys
import cnnjax as cj
for _ in range(25):
    try:
        cj.load(sys.argv[1])
    except cj.runs.CheckpointError as error:
        print(error)
"""
    done = python("-c", script, damaged(run, tmp_path))
    assert len(done.stdout.splitlines()) == 25
    assert done.stderr == ""


def damaged(run: Path, folder: Path) -> Path:
    """A copy with the values of its checkpoints cut off."""
    copy = Path(shutil.copytree(run, folder / "damaged"))
    for file in (copy / "checkpoints").glob("*/model/**/*"):
        if file.is_file() and file.stat().st_size > 5000:
            file.write_bytes(file.read_bytes()[:1000])
    return copy


# list, summary, report, doctor


def test_list_has_a_line_for_every_model(cnnjax: Callable[..., Output]) -> None:
    out, _ = cnnjax("list")
    names = [line.split()[0] for line in out.splitlines()[2:]]
    assert {"mlp", "mnist_convnet", "lenet", "cifar_plain", "cifar_deep"} <= set(names)
    assert len(set(names)) == len(names)
    assert "28x28x1" in out
    resnet = next(line for line in out.splitlines() if line.startswith("resnet50 "))
    for cell in (
        "25.6M",
        "7.72G",
        "imagenet, torchvision, timm",
        "74.9 keras",
        "2016",
        "He et al.",
    ):
        assert cell in resnet
    for name in names:
        build(name)


def test_summary_of_a_model_by_name(cnnjax: Callable[..., Output]) -> None:
    out, _ = cnnjax("summary", "mnist_convnet")
    assert "93,322" in out
    assert "conv1" in out
    out, _ = cnnjax(
        "summary", "mlp", "--input-shape", "4", "4", "3", "--num-classes", "2", "--set", "units=5,6"
    )
    assert "input 4x4x3, 2 classes" in out
    assert f"{48 * 5 + 5 + 5 * 6 + 6 + 6 * 2 + 2:,}" in out


def test_summary_of_a_run_is_that_of_its_model(cnnjax: Callable[..., Output], run: Path) -> None:
    out, _ = cnnjax("summary", run)
    assert out.strip() == str(cj.summary(cj.load(run))).strip()


def test_summary_of_an_unknown_model_offers_the_nearest(cnnjax: Callable[..., Output]) -> None:
    _, err = cnnjax("summary", "mnist_convet", status=1)
    wanted = "error: there is no model 'mnist_convet'. Did you mean 'mnist_convnet'"
    assert err.startswith(wanted)
    assert err.endswith("?\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist_convnet", "--input-shape", "4", "4", "1"), "too small"),
        (("mlp", "--num-classes", "0"), "num_classes must be a whole number >= 1"),
        (("mlp", "--set", "unit=3"), "no argument 'unit'. Did you mean 'units'?"),
        (("mlp", "--set", "units"), "--set needs NAME=VALUE"),
    ],
)
def test_summary_of_what_cannot_be(
    cnnjax: Callable[..., Output], arguments: tuple[str, ...], message: str
) -> None:
    _, err = cnnjax("summary", *arguments, status=1)
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_report_writes_the_page_again(cnnjax: Callable[..., Output], run: Path) -> None:
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    out, _ = cnnjax("report", run)
    assert out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_bytes() == before


def test_report_of_what_is_no_run(cnnjax: Callable[..., Output], tmp_path: Path) -> None:
    _, err = cnnjax("report", tmp_path, status=1)
    assert err == f"error: {tmp_path} is not a run directory: it has no run.json\n"


def test_doctor_tells_what_is_here_and_what_is_missing(
    cnnjax: Callable[..., Output], tmp_path: Path
) -> None:
    import jax

    out, err = cnnjax("doctor", "--data-dir", tmp_path)
    assert err == ""
    assert jax.__version__ in out
    assert "digits" in out
    assert str(tmp_path) in out
    assert "mnist" in out
    assert "cnnjax data prepare NAME" in out
    facts = {line.split()[0] for line in out.splitlines()}
    assert {"python", "jax", "flax", "cores", "backend", "allocator", "cache"} <= facts


def test_doctor_of_a_directory_that_does_not_exist(
    cnnjax: Callable[..., Output], tmp_path: Path
) -> None:
    out, _ = cnnjax("doctor", "--data-dir", tmp_path / "none")
    assert f"{tmp_path / 'none'} (does not exist)" in out


def test_without_a_verb_the_verbs_are_listed_by_task(cnnjax: Callable[..., Output]) -> None:
    out, err = cnnjax()
    assert (out, err) == cnnjax("--help")
    assert "usage: cnnjax" in out
    assert "cnnjax train quickstart" in out
    lines = out.splitlines()
    titles = [lines.index(task) for task in TASKS]
    assert titles == sorted(titles)
    for verb in ("list", "summary", "predict", "report", "doctor"):
        assert verb in out


def test_help_and_the_package_itself_take_no_jax_along() -> None:
    code = "import sys, cnnjax; from cnnjax.cli import main; main([]); print('jax' in sys.modules)"
    assert python("-c", code).stdout.splitlines()[-1] == "False"


def test_a_verb_is_found_from_its_class(
    cnnjax: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    cnnjax("--help")  # imports the others
    monkeypatch.setattr(Verb, "known", dict(Verb.known))

    @dataclass(frozen=True)
    class TeaBrew(Verb):
        """Brew tea."""

        minutes: int = 3

        def run(self) -> None:
            print(f"brewed for {self.minutes} minutes")

    assert cnnjax("tea", "brew", "--minutes", "4") == ("brewed for 4 minutes\n", "")
    assert "tea brew      Brew tea.\n" in cnnjax("--help")[0]
    assert cnnjax("tea", "--help")[0] == "usage: cnnjax tea [-h] VERB ...\n\ntea brew  Brew tea.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predct", "x"], "there is no verb 'predct'. Did you mean 'predict'?"),
        (["data", "inof"], "there is no verb 'data inof'. Did you mean 'data info'"),
        (["summary", "lenet", "--num-clases", "3"], "--num-clases. Did you mean '--num-classes'?"),
        (["train", "mlp", "--epochs", "3"], "Unrecognized --epochs. A setting has no dashes: ep"),
        (["train", "mlp", "--lr=1"], "A setting has no dashes: learning_rate=VALUE"),
        (["summary", "lenet", "mlp"], "Unrecognized mlp (cnnjax summary --help)"),
        (["data", "prepare"], "names: at least one is needed"),
        (["predict", "run", "x.png", "--resize", "fit"], "invalid choice 'fit' for argument"),
        (["evaluate", "run", "--part", "all"], "Expected one of test, train, validation (cnn"),
        (["explain", "run", "x.png", "--box", "cat", "1"], "argument '--box'. Expected 5 values"),
    ],
)
def test_a_wrong_argument_is_one_line(
    cnnjax: Callable[..., Output], arguments: list[str], words: str
) -> None:
    out, err = cnnjax(*arguments, status=2)
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert "---" not in err
    assert len(err.splitlines()) == 1


def test_the_version_is_that_of_the_package(cnnjax: Callable[..., Output]) -> None:
    assert cnnjax("--version") == (f"{version('cnnjax')}\n", "")


@pytest.mark.parametrize("verb", ["list", "summary", "predict", "report", "doctor"])
def test_every_verb_explains_itself(cnnjax: Callable[..., Output], verb: str) -> None:
    out, _ = cnnjax(verb, "--help")
    assert f"usage: cnnjax {verb}" in out
    assert "default: None" not in " ".join(out.replace("│", " ").split())


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cnnjax"), "list"],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mnist_convnet" in done.stdout


# Which errors become one line


def outcome(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> BaseException:
    monkeypatch.delenv("CNNJAX_TRACEBACK", raising=False)

    def action() -> None:
        raise error

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is the question
        cli.run_as_command(action)
    return caught.value


def test_an_error_of_a_library_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ValueError("shapes do not match")
    assert outcome(error, monkeypatch) is error
    bug = KeyError("x")
    assert outcome(bug, monkeypatch) is bug


def test_an_error_of_a_commands_own_folder_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def main():\n    raise ValueError('give --size')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CNNJAX_TRACEBACK", raising=False)
    main = importlib.import_module("mine").main
    with pytest.raises(SystemExit):
        cli.run_as_command(main, tmp_path)
    assert capsys.readouterr().err == "error: give --size\n"
    with pytest.raises(ValueError, match="give --size"):
        cli.run_as_command(main)


@pytest.mark.thorough
def test_an_experiments_own_error_is_a_line() -> None:
    done = python("-m", "experiments.captcha", "--test-images", "0", status=1)
    assert done.stderr == "error: test_images must be at least 1, got 0\n"


def test_a_model_of_series_takes_no_images(tmp_path: Path, cnnjax: Callable[..., Output]) -> None:
    model = cj.create_model("series_windows", input_shape=(24, 1), window=8, filters=2, units=2)
    cj.save(model, tmp_path / "model")
    _, said = cnnjax("predict", tmp_path / "model", "photo.jpg", status=1)
    assert "series_windows takes no images, but arrays [24, 1]" in said


def test_ctrl_c_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = outcome(cj.training.Interrupted("saved in x"), monkeypatch)
    assert isinstance(stop, SystemExit)
    assert stop.code == 130
    assert capsys.readouterr().err == "saved in x\n"
    stop = outcome(KeyboardInterrupt(), monkeypatch)
    assert isinstance(stop, SystemExit)
    assert stop.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNJAX_TRACEBACK", "1")
    with pytest.raises(ValueError, match="there is no model"):
        cli.main(["summary", "nothing"])


# Importing


IMPORT = """
import os, signal, sys
before = signal.getsignal(signal.SIGINT), dict(os.environ)
import jax
settings = dict(jax.config.values)
import cnnjax
changed = {k for k, v in jax.config.values.items() if k in settings and settings[k] != v}
assert not changed, changed
assert jax.config.jax_compilation_cache_dir is None
assert (signal.getsignal(signal.SIGINT), dict(os.environ)) == before
heavy = {"tensorflow", "tensorflow_datasets", "sklearn", "matplotlib", "keras", "h5py", "torch"}
print(sorted(heavy & set(sys.modules)))
import cnnjax.cli
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_loads_little_changes_nothing_and_warns_of_nothing(tmp_path: Path) -> None:
    switches = ("JAX_COMPILATION_CACHE_DIR", "KERAS_BACKEND")
    extra = dict.fromkeys(switches, "")
    quiet = start("-W", "error", "-c", "import cnnjax", cwd=tmp_path)
    out = python("-c", f"import os\nfor k in {switches!r}: os.environ.pop(k)\n{IMPORT}", **extra)
    _, err = quiet.communicate(timeout=300)
    assert (quiet.returncode, err) == (0, "")
    assert out.stdout.splitlines() == ["[]", "[]"]
