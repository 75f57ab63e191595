"""Settings as text become what their fields take."""

from __future__ import annotations

from dataclasses import fields

import pytest

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.recipes.typed import explained, with_settings

# As somebody types them, and what they are.
TYPED = [
    ("class_weights", "1,2.5", (1.0, 2.5)),
    ("class_weights", "balanced", "balanced"),
    ("frozen", "conv1,block5_*", ("conv1", "block5_*")),
    ("frozen", "1", ("1",)),
    ("rate_factors", "block5_*:0.1,block4_*:0.01", (("block5_*", 0.1), ("block4_*", 0.01))),
    ("clip_norm", "none", None),
    ("clip_norm", "1", 1),
    ("deterministic", "True", True),
    ("deterministic", "true", True),
    ("learning_rate", "1e-3", 1e-3),
    ("monitor", "None", None),
    ("augment", "none", None),
    ("augment.zoom", "0.1", Augment(zoom=0.1)),
    ("augment.brightness", "0.8,1.2", Augment(brightness=(0.8, 1.2))),
]


@pytest.mark.parametrize(("name", "text", "value"), TYPED, ids=[f"{n}={t}" for n, t, _ in TYPED])
def test_a_setting_is_what_was_typed(name: str, text: str, value: object) -> None:
    training = with_settings(TrainingConfig(), {name: text})
    assert getattr(training, name.partition(".")[0]) == value


def test_the_value_of_every_setting_can_be_typed() -> None:
    usual = TrainingConfig(schedule="step", rate_decay=0.5)
    given = {f.name: str(getattr(usual, f.name)) for f in fields(usual)}
    assert with_settings(TrainingConfig(), given) == usual


@pytest.mark.parametrize("kind", [TrainingConfig, Augment])
def test_every_setting_is_explained(kind: type) -> None:
    texts = explained(kind)
    assert set(texts) == {field.name for field in fields(kind)}
    assert all(len(text) > 10 for text in texts.values())
    assert not any("Raises:" in text or "References:" in text for text in texts.values())


def test_settings_of_a_function_as_augmentation_are_refused() -> None:
    def flipped(key: object, image: object) -> object:
        return image

    with pytest.raises(ValueError, match=r"augment\.zoom is a setting of an Augment, and this"):
        with_settings(TrainingConfig(augment=flipped), {"augment.zoom": "0.1"})
