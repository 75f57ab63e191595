"""What the recipes of the experiments with pretrained bases decide, and what options change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cnnjax as cj
from cnnjax.models.builder import build
from cnnjax.models.graph import trace
from cnnjax.recipes.shipped import cats_vs_dogs
from experiments import feature_extraction, fine_tuning, two_stage
from experiments._backbones import BackboneOptions, frozen_layers

pytestmark = pytest.mark.thorough

Asked = list[tuple[Any, ...]]


def abstract(name: str, **arguments: Any) -> cj.Model:
    """A base, or one with a head, without its values."""
    return cj.Model.abstract(*build(name, include_top=False, **arguments))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What is asked of `train_in_stages`, which does not train."""
    asked: Asked = []
    for module in (fine_tuning, two_stage):
        monkeypatch.setattr(module, "train_in_stages", lambda *a, **k: asked.append((*a, k)) or {})
    return asked


def test_features_are_classified_as_reported() -> None:
    task = feature_extraction.experiment(feature_extraction.FeatureOptions())
    assert task.name == "feature_extraction/vgg16"
    assert task.images == {"image_size": (150, 150), "resize": "stretch"}
    assert task.training == cj.TrainingConfig(
        epochs=30, batch_size=20, optimizer="rmsprop", learning_rate=2e-5, monitor=None
    )
    assert (task.recipe, task.changed, task.reported) == ("reported", {}, {"val_accuracy": 0.9})
    base = abstract("vgg16", input_shape=(150, 150, 3))
    assert trace(base)[-1].output_shape[1:] == (4, 4, 512)
    classifier = cj.create_model(
        task.model, input_shape=(4, 4, 512), num_classes=1, **task.arguments
    )
    assert cj.summary(classifier).parameters == 4 * 4 * 512 * 256 + 256 + 257
    assert classifier.module.dropout == 0.5


def test_the_head_and_then_block5_of_vgg16_are_trained_as_reported(stages: Asked) -> None:
    fine_tuning.run(fine_tuning.FineTuningOptions())
    ((options, task, head, free_from, fine, chosen),) = stages
    assert (options.backbone, task.images["image_size"]) == ("vgg16", (150, 150))
    training = task.training
    assert (training.optimizer, training.learning_rate, training.epochs) == ("rmsprop", 2e-5, 30)
    assert (training.batch_size, training.augment) == (20, cats_vs_dogs.AUGMENT)
    assert fine == {"learning_rate": 1e-5, "epochs": 100}
    assert chosen["reported"]["top"] == {"test_accuracy": 0.97}
    assert (task.recipe, task.changed, chosen["only"]) == ("reported", {}, None)
    model = abstract("vgg16", input_shape=(150, 150, 3), num_classes=1, classifier=head["units"])
    assert model.layer_names[-3:] == (head["pooling"], "dense1", "logits")
    frozen = frozen_layers(model, free_from, chosen["keep_norm"])
    assert {name.partition("_")[0] for name in frozen} == {f"block{n}" for n in range(1, 5)}
    assert frozen_layers(model, "none") == (*frozen, *(f"block5_conv{n}" for n in (1, 2, 3)))


def test_both_stages_of_inception_v3_are_as_reported(stages: Asked) -> None:
    two_stage.run(two_stage.TwoStageOptions())
    two_stage.run(two_stage.TwoStageOptions(cut="172"))
    (options, task, head, cut, fine, chosen), other = stages
    assert (options.backbone, task.images["image_size"]) == ("inception_v3", (299, 299))
    assert head == {"units": (1024,), "pooling": "avg"}
    assert (task.training.optimizer, task.one_logit, task.changed) == ("rmsprop", False, {})
    assert fine == {"optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9}
    assert (cut, chosen["keep_norm"]) == ("mixed8", False)
    assert (other[3], other[1].changed) == (172, {"cut": "172"})


def test_what_is_given_goes_before_the_recipe_and_is_recorded(stages: Asked) -> None:
    base: dict[str, Any] = {"backbone": "mobilenet", "alpha": 0.25}
    options = feature_extraction.FeatureOptions(
        **base, weights="some/file.h5", learning_rate=2e-5, epochs=3, pooling="avg"
    )
    task = feature_extraction.experiment(options)
    assert task.changed == {**base, "epochs": 3, "pooling": "avg"}  # the rate is the recipe's
    assert (task.training.epochs, task.reported) == (3, {})
    random = feature_extraction.experiment(feature_extraction.FeatureOptions(weights="random"))
    assert random.changed == {"weights": "random"}

    fine_tuning.run(
        fine_tuning.FineTuningOptions(
            **base, epochs=4, free_from="all", train_norm=True, stages="head"
        )
    )
    two_stage.run(two_stage.TwoStageOptions(recipe="tuned", train_norm=True))
    (fine, two) = stages
    assert fine[1].changed == {
        **base, "epochs": 4, "free_from": "all", "train_norm": True, "fine_epochs": 4,
    }  # fmt: skip
    assert (fine[3], fine[4]["epochs"], fine[5]["only"]) == ("all", 4, "head")
    assert (two[1].changed, two[3], two[5]["keep_norm"]) == (
        {"train_norm": True}, "conv_dw_12", False,
    )  # fmt: skip


def test_figures_are_those_of_vgg16_on_dogs_and_cats(stages: Asked) -> None:
    here = feature_extraction.FeatureOptions(data="some/cats_vs_dogs_small")
    assert feature_extraction.experiment(here).reported
    for other in ({"data": "birds"}, {"backbone": "vgg19"}, {"layer": "block4_pool"}):
        options = feature_extraction.FeatureOptions(**other)  # type: ignore[arg-type]
        assert feature_extraction.experiment(options).reported == {}
    fine_tuning.run(fine_tuning.FineTuningOptions(recipe="tuned"))
    assert stages[0][-1]["reported"] == {}


@pytest.mark.thorough
def test_all_frees_every_layer_and_keeps_normalisation_where_asked() -> None:
    model = abstract("mobilenet", alpha=0.25, input_shape=(32, 32, 3), num_classes=2, classifier=())
    assert frozen_layers(model, "all") == frozen_layers(model, 0) == ()
    norms = frozen_layers(model, "all", keep_norm=True)
    assert len(norms) == 27
    assert all(name.endswith("_bn") for name in norms)
    kept = frozen_layers(model, "conv_dw_12", keep_norm=True)
    assert set(kept) == {*cj.transfer.layers_before(model, "conv_dw_12"), *norms}
    assert len(kept) == len(set(kept))
    assert frozen_layers(model, "none") == cj.transfer.base_layers(model)


def test_a_width_for_a_base_without_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--alpha 0.25 is the width of mobilenet, which --backb"):
        _ = BackboneOptions(backbone="vgg16", alpha=0.25).arguments


def test_weights_that_are_not_at_hand_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BackboneOptions(backbone="vgg16", weights=str(tmp_path / "vgg16.h5"), image_size=32)
    with pytest.raises(FileNotFoundError, match=r"vgg16\.h5") as error:
        cj.create_model("vgg16", input_shape=(32, 32, 3), **options.arguments)
    assert "\n" not in str(error.value)
