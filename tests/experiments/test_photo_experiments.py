"""The experiments on folders of photos, from the folder to predictions for files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from commands import python
from PIL import Image

import cnnjax as cj
from cnnjax import cli
from cnnjax.core import trees
from cnnjax.recipes import for_every_seed, load_data
from cnnjax.recipes.shipped import cats_vs_dogs, cifar10
from cnnjax.runs.results import Claim, Measured, read_claims
from experiments import feature_extraction, fine_tuning, own_images, photo_augmentation, two_stage
from experiments._backbones import BackboneOptions, report_stages

pytestmark = pytest.mark.thorough

TINY = {
    "backbone": "mobilenet", "weights": "random", "alpha": 0.25, "image_size": 32, "epochs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue noise in class folders, 15 of each."""
    root = tmp_path_factory.mktemp("photos") / "colours"
    rng = np.random.default_rng(0)
    for label, channel in (("blue", 2), ("red", 0)):
        for i in range(15):
            image = rng.integers(0, 90, (60, 52, 3), dtype=np.uint8)
            image[..., channel] += 150
            path = root / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def three_classes(root: Path, photos: Path) -> Path:
    """The same and a third class."""
    for label in ("blue", "red"):
        (root / label).mkdir(parents=True)
        for file in (photos / label).iterdir():
            (root / label / file.name).write_bytes(file.read_bytes())
    rng = np.random.default_rng(1)
    (root / "grey").mkdir()
    for i in range(15):
        noise = rng.integers(0, 256, (60, 52, 1), dtype=np.uint8)
        Image.fromarray(np.repeat(noise, 3, axis=-1)).save(root / "grey" / f"{i}.png")
    return root


@pytest.mark.thorough
def test_features_a_classifier_on_them_and_answers_for_photos(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = feature_extraction.FeatureOptions(
        data=str(photos), out=str(tmp_path / "run"), features=str(tmp_path / "features"),
        recipe="tuned", **TINY,
    )  # fmt: skip
    (run,) = feature_extraction.main(options)
    splits = cj.data.load(photos, image_size=(32, 32), resize="crop").with_test(0.2)
    whole = cj.load(tmp_path / "run" / "model")
    assert splits.test is not None
    accuracy = cj.evaluate(whole, splits.test)["accuracy"]
    assert accuracy == pytest.approx(run.metrics["test_accuracy"])
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    base = {k: v for k, v in whole.params.items() if k not in whole.spec.head}
    assert facts["base"]["weights"] == "random"
    assert facts["base"]["hash"] == trees.tree_hash({"params": base, **whole.state})
    figures = tmp_path / "run" / "figures"
    assert (figures / "confusion_matrix.png").is_file()

    capsys.readouterr()
    files = [str(photos / "red" / "3.png"), str(photos / "blue" / "4.png")]
    cli.main(["predict", str(tmp_path / "run"), *files])
    said = capsys.readouterr().out.splitlines()
    probs = cj.predict(whole, [cj.data.read_image(f) for f in files])
    for line, prob in zip(said, probs[:, 0], strict=False):
        assert f"{'red' if prob > 0.5 else 'blue'} {max(prob, 1 - prob):.4f}" in line

    cut = feature_extraction.FeatureOptions(
        **{**vars(options), "layer": "conv_pw_5_relu", "out": str(tmp_path / "cut")}
    )
    (middle,) = feature_extraction.main(cut)
    assert middle.model.spec.input_shape == (1, 1, 64)
    assert not (tmp_path / "cut" / "model").exists()


@pytest.mark.slow
def test_fine_tuning_trains_the_head_then_the_top_and_nothing_else(
    photos: Path, tmp_path: Path
) -> None:
    options = fine_tuning.FineTuningOptions(
        data=str(photos), out=str(tmp_path / "runs"), train_norm=True, **TINY
    )
    (runs,) = fine_tuning.main(options)
    head, top = (runs[name].model.variables for name in ("head", "top"))
    start = cj.create_model("mobilenet", alpha=0.25, include_top=False, input_shape=(32, 32, 3))
    base = trees.flatten(start.variables)
    after_head, after_top = trees.flatten(head), trees.flatten(top)
    assert all(np.array_equal(after_head[k], v) for k, v in base.items())
    changed = {k.split("/")[1] for k in base if not np.array_equal(after_top[k], base[k])}
    blocks = [f"conv_{kind}_{number}" for kind in ("dw", "pw") for number in (12, 13)]
    # The gradients of random kernels may be too small to move them.
    assert {f"{block}_bn" for block in blocks} <= changed
    assert changed <= {*blocks, *(f"{block}_bn" for block in blocks)}
    for name in ("head", "top"):
        facts = json.loads((tmp_path / "runs" / name / "run.json").read_text())
        assert facts["frozen_hash"] == facts["frozen_hash_after"]
        assert facts["experiment"] == f"fine_tuning/mobilenet/{name}"
    config = json.loads((tmp_path / "runs" / "top" / "config.json").read_text())
    assert config["training"]["learning_rate"] == 1e-5
    assert (tmp_path / "runs" / "head" / "figures" / "augmentation.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["80", "conv_pw_13"])
def test_two_stages_with_a_cut_by_number_or_by_name(photos: Path, tmp_path: Path, cut: str) -> None:
    options = two_stage.TwoStageOptions(
        data=str(photos), out=str(tmp_path / "runs"), cut=cut, **{**TINY, "epochs": 1}
    )
    (runs,) = two_stage.main(options)
    assert runs["top"].model.spec.num_classes == 2
    assert runs["top"].model.params["dense1"]["kernel"].shape == (256, 1024)
    config = json.loads((tmp_path / "runs" / "top" / "config.json").read_text())["training"]
    assert (config["optimizer"], config["momentum"]) == ("sgd", 0.9)
    wanted = cj.transfer.layers_before(runs["top"].model, int(cut) if cut.isdigit() else cut)
    assert tuple(config["frozen"]) == wanted


@pytest.mark.slow
def test_both_cuts_of_inception_v3_are_those_of_keras_list() -> None:
    from keras.applications import InceptionV3

    from cnnjax.models.builder import build

    model = cj.Model.abstract(*build("inception_v3", include_top=False))
    theirs = InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3)).layers
    for cut in (172, 249):
        wanted = [layer.name for layer in theirs[:cut] if layer.weights]
        ours = cj.transfer.layers_before(model, cut)
        assert len(ours) == len(wanted)
        kinds = [name.rstrip("_0123456789") for name in (*ours, *wanted)]
        assert sorted(kinds[: len(ours)]) == sorted(kinds[len(ours) :])
    assert cj.transfer.layers_before(model, "mixed8") == cj.transfer.layers_before(model, 249)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg19", "resnet50", "inception_v3", "xception"])
def test_every_backbone_goes_through_all_experiments(
    photos: Path, tmp_path: Path, name: str
) -> None:
    size = cj.models.BUILDERS[name].min_size
    common = {"data": str(photos), "backbone": name, "weights": "random", "image_size": size,
              "epochs": 1}  # fmt: skip
    (run,) = feature_extraction.main(
        feature_extraction.FeatureOptions(
            **common, out=str(tmp_path / "features"), features=str(tmp_path / "kept")
        )
    )
    assert (run.directory / "model" / "model.json").is_file()
    (runs,) = fine_tuning.main(fine_tuning.FineTuningOptions(**common, out=str(tmp_path / "fine")))
    cut = fine_tuning.TOP_BLOCKS[name]
    (stages,) = two_stage.main(
        two_stage.TwoStageOptions(**common, cut=cut, out=str(tmp_path / "two"))
    )
    for run in (*runs.values(), *stages.values()):
        facts = json.loads((run.directory / "run.json").read_text())
        assert facts["frozen_hash"] == facts["frozen_hash_after"]


@pytest.mark.slow
def test_own_images_of_three_classes_from_scratch(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = three_classes(tmp_path / "own", photos)
    (root / "red" / "broken.jpg").write_bytes(b"no image")
    options = own_images.OwnOptions(
        data=str(root), image_size=48, epochs=2, out=str(tmp_path / "run")
    )
    (run,) = own_images.main(options)
    assert run.model.spec.label_names == ("blue", "grey", "red")
    assert run.model.spec.resize == "stretch"
    assert "1 file was set aside" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["source"]["folder"]["files_set_aside"] == 1
    assert [s[0] for s in record["source"]["steps"]] == ["with_test", "with_validation"]
    assert (run.directory / "report.html").is_file()
    assert cj.reproduce(tmp_path / "run", verbose=False).same


@pytest.mark.slow
def test_own_images_on_a_pretrained_base(photos: Path, tmp_path: Path) -> None:
    weights = cj.export_weights(
        cj.create_model("mobilenet", alpha=0.25, include_top=False, input_shape=(32, 32, 3)),
        tmp_path / "mobilenet.weights.h5",
    )
    options = own_images.OwnOptions(
        data=str(photos), out=str(tmp_path / "run"),
        **{**TINY, "weights": str(weights), "epochs": 8},
    )  # fmt: skip
    (run,) = own_images.main(options)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["experiment"] == "own_images/mobilenet"
    assert facts["base"]["weights"] == "mobilenet.weights.h5"
    assert (run.directory / "model" / "model.json").is_file()


def test_without_a_folder_or_with_a_wrong_one_the_error_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give the folder of your images: python -m"):
        own_images.main(own_images.OwnOptions())
    with pytest.raises(FileNotFoundError, match="'no_such_folder' was not found"):
        own_images.main(own_images.OwnOptions(data="no_such_folder"))
    with pytest.raises(ValueError, match=r"--alpha 0.5 is of a pretrained base: give"):
        own_images.main(own_images.OwnOptions(data=str(tmp_path), alpha=0.5))


@pytest.mark.parametrize("weights", [None, "random"])
def test_own_images_are_divided_and_trained_as_the_options_say(weights: str | None) -> None:
    options = own_images.OwnOptions(data="mine", weights=weights, learning_rate=3e-4, epochs=2)
    make = own_images.features_task if weights else own_images.experiment
    task = make(options)
    assert task.training.learning_rate == 3e-4
    assert task.training.epochs == 2
    assert (task.validation, task.test) == (0.15, 0.15)
    assert task.images["image_size"] == ((224, 224) if weights else (150, 150))


def test_every_seed_has_a_folder_and_the_mean_of_each_stage_is_printed_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = fine_tuning.FineTuningOptions(seed=3, seeds=2, out="runs")
    chosen = for_every_seed(options, lambda one: (one.seed, one.seeds, one.out))
    assert chosen == [(3, 1, "runs/seed3"), (4, 1, "runs/seed4")]
    assert for_every_seed(replace(options, seeds=1), lambda one: one.out) == ["runs"]

    def run(accuracy: float) -> cj.Run:
        history = {"epoch": np.ones(1), "accuracy": np.ones(1), "loss": np.zeros(1)}
        return cj.Run(None, history, {"test_accuracy": accuracy}, None, "", 1, 2.0)  # type: ignore[arg-type]

    results = [{"head": run(0.5), "top": run(0.7)}, {"head": run(0.6), "top": run(0.7)}]
    report_stages(fine_tuning.experiment(options), results, str(tmp_path))
    head, *curves, top, _ = capsys.readouterr().out.splitlines()
    assert head.startswith("head: vgg16 test accuracy: 55.00 % (standard deviation 7.07 %")
    assert top.startswith("top: vgg16 test accuracy: 70.00 % (standard deviation 0.00 %")
    assert curves == [f"curves: {tmp_path / 'reported-head-seeds.png'}"]
    figures = ["reported-head-seeds.png", "reported-top-seeds.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == figures
    report_stages(fine_tuning.experiment(options), results[:1], str(tmp_path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("module", [feature_extraction, own_images])
def test_classifiers_on_features_are_drawn_over_their_seeds(
    module: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(options: BackboneOptions, task: cj.experiment.Experiment) -> cj.Run:
        history = {"epoch": np.ones(1), "accuracy": np.ones(1), "loss": np.zeros(1)}
        metrics = {"test_accuracy": 0.5 + options.seed / 10}
        return cj.Run(None, history, metrics, None, "", 1, 2.0)  # type: ignore[arg-type]

    monkeypatch.setattr(feature_extraction, "run", run)
    options = own_images.OwnOptions if module is own_images else feature_extraction.FeatureOptions
    module.main(options(data="mine", weights="imagenet", seeds=2, out=str(tmp_path)))
    *_, line, curves = capsys.readouterr().out.splitlines()
    assert line.startswith("mlp test accuracy: 55.00 % (standard deviation 7.07 % over 2 seeds)")
    figure = "seeds.png" if module is own_images else "reported-seeds.png"
    assert curves == f"curves: {tmp_path / figure}"
    assert (tmp_path / figure).is_file()


def test_dogs_against_cats_is_as_reported() -> None:
    plain = cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions())
    assert plain.training == cj.TrainingConfig(
        epochs=30, batch_size=20, optimizer="rmsprop", learning_rate=1e-4, monitor=None
    )
    assert (plain.model, plain.images["image_size"]) == ("cats_convnet", (150, 150))
    cured = cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions(cure="augmented"))
    assert cured.arguments == {"dropout": 0.5}
    assert cured.training.epochs == 100
    assert cured.training.augment == cj.augment.Augment(
        rotation=40, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2, horizontal_flip=True
    )
    assert cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions(cure="decay")).training.weight_decay > 0
    assert cured.recipe == "reported"
    model = cj.create_model("cats_convnet")
    assert cj.summary(model).parameters == 3_453_121


def test_dogs_against_cats_tuned_is_the_same_net_on_the_same_photos() -> None:
    cured = cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions(cure="augmented"))
    tuned = cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions(recipe="tuned"))
    assert tuned == replace(cured, recipe="tuned", training=cats_vs_dogs.TUNED)
    assert tuned.reported == {"val_accuracy": 0.81}
    with pytest.raises(ValueError, match="--cure decay is for --recipe reported"):
        cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions(recipe="tuned", cure="decay"))


def test_augmentation_on_photos_differs_in_nothing_else_and_is_claimed_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[cj.experiment.Experiment] = []

    def run_variants(variants: Any, options: Any) -> dict[str, list[cj.Run]]:
        trained.extend(make(options) for make in variants.values())
        history = {"accuracy": np.ones(1), "seconds": np.ones(1)}
        run = cj.Run(None, history, {"test_accuracy": 0.5}, None, "", 1, 2.0)  # type: ignore[arg-type]
        return {name: [run] for name in variants}

    monkeypatch.setattr(photo_augmentation, "run_variants", run_variants)
    gaps = iter([[0.5], [0.25]] * 2)
    monkeypatch.setattr(photo_augmentation._studies, "plain_gaps", lambda *_: next(gaps))
    photo_augmentation.main(photo_augmentation.AugmentationOptions(out=str(tmp_path)))
    names = [f"photo_augmentation/{n}/{arm}" for n in (200, 2000) for arm in ("none", "mild")]
    assert [task.name for task in trained] == names
    assert [task.training.epochs for task in trained] == [100, 100, 30, 30]
    for plain, mild in (trained[:2], trained[2:]):
        training = replace(mild.training, augment=None)
        same = {"name": plain.name, "description": plain.description, "training": training}
        assert replace(mild, **same) == plain
    claims, _ = read_claims(tmp_path / "claims.json")
    better = [claim for claim in claims if isinstance(claim, Claim)]
    assert {name for claim in better for name in (claim.first, claim.second)} == set(names)
    gaps_found = [(c.first_name, c.first, c.second) for c in claims if isinstance(c, Measured)]
    assert gaps_found == [("none", (0.5,), (0.25,))] * 2
    assert "| 2000/mild |" in (tmp_path / "photo_augmentation.md").read_text()


def test_an_experiment_may_leave_out_the_part_for_validation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        for label in ("cats", "dogs"):
            (tmp_path / part / label).mkdir(parents=True)
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / label / "0.png")
    options = photo_augmentation.AugmentationOptions(data=str(tmp_path), sizes=(2,), image_size=46)
    splits = load_data(photo_augmentation.experiment(2, "none", options))
    assert [*splits.parts] == ["train", "test"]
    assert splits.source is not None
    assert splits.source["steps"][0] == ["without_validation"]
    assert [*cj.data.reload(splits.source).parts] == ["train", "test"]


@pytest.mark.slow
def test_dogs_against_cats_runs_and_is_bitwise_the_same_when_resumed(
    photos: Path, tmp_path: Path
) -> None:
    options = cats_vs_dogs.CatsOptions(
        data=str(photos), cure="augmented", epochs=2, out=str(tmp_path / "whole"),
    )  # fmt: skip
    task = replace(cats_vs_dogs.experiment(options), images={"image_size": (46, 46)})
    through = cj.experiment.run_experiment(task, tmp_path / "whole", verbose=False)
    half = replace(task, training=replace(task.training, epochs=1))
    cj.experiment.run_experiment(half, tmp_path / "half", verbose=False)
    again = replace(task, training=replace(task.training, resume=True))
    resumed = cj.experiment.run_experiment(again, tmp_path / "half", verbose=False)
    assert resumed.parameter_hash == through.parameter_hash


def test_augmentation_of_cifar10() -> None:
    chosen = cifar10.experiment(cifar10.CifarOptions(model="deep", augment="mild"))
    assert chosen.training.augment == cifar10.AUGMENTS["mild"]
    assert (chosen.name, chosen.reported) == ("cifar10/deep/augmented-mild", {})
    with pytest.raises(ValueError, match="--augment is for --recipe reported"):
        cifar10.experiment(cifar10.CifarOptions(recipe="tuned", augment="mild"))


def test_a_scan_from_the_command_line(photos: Path, tmp_path: Path) -> None:
    root = three_classes(tmp_path / "own", photos)
    (root / "red" / "empty.jpg").touch()
    said = python("-m", "cnnjax", "data", "scan", root).stdout
    assert "train: 45 images" in said
    assert "red/empty.jpg: empty" in said
    (root / "red" / os.fsdecode(b"b\xff.png")).touch()
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    said = python("-m", "cnnjax", "data", "scan", root, **strict).stdout
    assert r"red/b\udcff.png: empty" in said
    wrong = python("-m", "cnnjax", "data", "scan", tmp_path / "absent", status=1).stderr
    assert wrong.startswith("error: folder ")


def test_recipes_of_fine_tuning() -> None:
    def training(**options: Any) -> cj.TrainingConfig:
        return fine_tuning.experiment(fine_tuning.FineTuningOptions(**options)).training

    reported, tuned = training(), training(recipe="tuned")
    assert (reported.optimizer, reported.learning_rate, reported.epochs) == ("rmsprop", 2e-5, 30)
    assert (tuned.optimizer, tuned.learning_rate, tuned.schedule) == ("adam", 1e-3, "cosine")
    assert training(recipe="tuned", learning_rate=0.5, epochs=2).learning_rate == 0.5
    assert training(learning_rate=0.5).augment == reported.augment != tuned.augment
