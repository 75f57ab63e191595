"""Settings: checked when made, to JSON and back."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.augment import Augment
from cnnjax.augment.config import AugmentConfig
from cnnjax.config import (
    GENERATORS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    TrainingConfig,
    to_dict,
)
from cnnjax.core.settings import from_dict
from cnnjax.core.text import qualified_name

NAN = float("nan")
BELOW_ONE = st.floats(0, 0.999)
AUGMENTS = st.builds(
    AugmentConfig,
    width_shift=st.floats(0, 30),
    horizontal_flip=st.booleans(),
    crop_padding=st.integers(0, 8),
    fill_mode=st.sampled_from(("nearest", "constant", "reflect")),
)


def training(momentum, **settings):
    """Momentum belongs to sgd only."""
    return TrainingConfig(momentum=momentum * (settings["optimizer"] == "sgd"), **settings)


TRAININGS = st.builds(
    training,
    epochs=st.integers(1, 1000),
    optimizer=st.sampled_from(OPTIMIZERS),
    learning_rate=st.floats(1e-8, 10),
    momentum=BELOW_ONE,
    schedule=st.sampled_from(SCHEDULES),
    weight_decay=st.floats(0, 1),
    average=BELOW_ONE,
    frozen=st.lists(st.text("ab*_", min_size=1, max_size=5), max_size=3).map(tuple),
    rate_factors=st.lists(st.tuples(st.text("ab*", min_size=1), st.floats(1e-3, 9))).map(tuple),
    layer_decay=st.floats(0.1, 1),
    clip_norm=st.none() | st.floats(0.1, 10),
    log_gradients=st.booleans(),
    augment=st.none() | AUGMENTS,
    seed=st.integers(0, 2**32 - 1),
    steps_per_dispatch=st.none() | st.integers(1, 100),
    precision=st.sampled_from(PRECISIONS),
    generator=st.sampled_from(GENERATORS),
    early_stopping=st.none() | st.integers(1, 9),
    resume=st.booleans(),
)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(TRAININGS)
def test_json_round_trip(config):
    text = json.dumps(to_dict(config))
    assert from_dict(TrainingConfig, json.loads(text)) == config


def test_numpy_numbers_become_pythons():
    config = TrainingConfig(epochs=np.int64(3), learning_rate=np.float32(0.5), seed=np.uint32(7))
    assert json.dumps(to_dict(config)) == json.dumps(
        to_dict(TrainingConfig(epochs=3, learning_rate=0.5, seed=7))
    )
    assert type(Augment(width_shift=np.float64(0.25)).width_shift) is float
    assert TrainingConfig(resume=np.True_).resume is True
    assert Augment(vertical_flip=np.bool_(False)).vertical_flip is False


def test_defaults_are_the_documented_ones():
    config = TrainingConfig()
    assert (config.epochs, config.batch_size, config.optimizer) == (5, 64, "rmsprop")
    assert (config.learning_rate, config.schedule, config.seed) == (1e-3, "constant", 0)
    assert (config.monitor, config.precision, config.augment) == ("loss", "float32", None)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="epochs"):
        TrainingConfig().epochs = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number >= 1, got 1.5"),
        ({"epochs": True}, "epochs must be a whole number >= 1, got True"),
        ({"epochs": "5"}, "epochs must be a whole number >= 1, got '5'"),
        ({"batch_size": -3}, "batch_size must be a whole number >= 1, got -3"),
        ({"keep": 0}, "keep must be a whole number >= 1, got 0"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch must be a whole number >= 1, got 0"),
        ({"early_stopping": 0}, "early_stopping must be a whole number >= 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number >= 1, got 0"),
        ({"weight_decay": -0.1}, "weight_decay must be a finite number >= 0, got -0.1"),
        ({"weight_decay": NAN}, "weight_decay must be a finite number >= 0, got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be a finite number >= 0, got inf"),
        ({"learning_rate": True}, "learning_rate must be a positive number, got True"),
        ({"momentum": True, "optimizer": "sgd"}, r"momentum must lie in \[0, 1\), got True"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"seed": 2**32}, r"seed must be at most 4294967295, got 4294967296"),
        ({"seed": 0.5}, "seed must be a whole number >= 0, got 0.5"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": 0.9}, "momentum belongs to 'sgd', got optimizer='rmsprop'"),
        ({"average": -0.1}, r"average must lie in \[0, 1\), got -0.1"),
        ({"label_smoothing": NAN}, r"label_smoothing must lie in \[0, 1\), got nan"),
        ({"warmup": 0.0}, r"warmup must lie in \(0, 1\), got 0.0"),
        ({"warmup": 1.0}, r"warmup must lie in \(0, 1\), got 1.0"),
        ({"learning_rate": 0}, "learning_rate must be a positive number, got 0"),
        ({"learning_rate": NAN}, "learning_rate must be a positive number, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be a positive number, got inf"),
        ({"frozen": "conv1"}, "frozen must be a tuple of patterns, got the string 'conv1'"),
        ({"rate_factors": "conv1"}, r"rate_factors must be pairs .*got 'conv1'"),
        ({"rate_factors": (("conv1",),)}, r"rate_factors must be pairs .*got \('conv1',\)"),
        ({"rate_factors": (("conv1", 0),)}, r"factor of 'conv1' must be positive, got 0: .*frozen"),
        ({"rate_factors": {"conv1": NAN}}, "factor of 'conv1' must be positive, got nan"),
        ({"rate_factors": (("conv1", "1"),)}, "factor of 'conv1' must be positive, got '1'"),
        ({"layer_decay": 0}, r"layer_decay must lie in \(0, 1\], got 0"),
        ({"layer_decay": 1.1}, r"layer_decay must lie in \(0, 1\], got 1.1"),
        ({"clip_norm": 0.0}, "clip_norm must be a positive number, got 0.0"),
        ({"clip_norm": float("inf")}, "clip_norm must be a positive number, got inf"),
        ({"clip_norm": True}, "clip_norm must be a positive number, got True"),
        ({"log_gradients": 1}, "log_gradients must be True or False, got 1"),
        ({"resume": "no"}, "resume must be True or False, got 'no'"),
        ({"deterministic": "false"}, "deterministic must be True or False, got 'false'"),
        ({"deterministic": None}, "deterministic must be True or False, got None"),
        (
            {"optimizer": "adm"},
            "optimizer must be one of .*, got 'adm'; did you mean 'adam'",
        ),
        ({"schedule": "cosin"}, "schedule must be one of constant, cosine, .*; did you mean 'cos"),
        ({"schedule": None}, "schedule must be one of constant, .*, got None"),
        ({"rate_decay": 1.0}, r"rate_decay must lie in \(0, 1\), got 1.0"),
        ({"rate_drops": (0.5, 1.0)}, r"rate_drops must be fractions of all steps in \(0, 1\), got"),
        ({"rate_drops": 0.5}, r"rate_drops must be fractions of all steps in \(0, 1\), got 0.5"),
        ({"rate_drops": (0.7, 0.5)}, r"rate_drops must rise, got \(0.7, 0.5\)"),
        ({"rate_patience": 0}, "rate_patience must be a whole number >= 1, got 0"),
        ({"precision": "float16"}, "precision must be one of .* got 'float16'; did you mean"),
        ({"monitor": 3}, "monitor must be a name, e.g. 'loss', got 3"),
        ({"mode": "maximum"}, "mode must be one of min, max, got 'maximum'"),
        ({"monitor": None, "mode": "max"}, "mode='max' needs a monitor.*got None"),
        ({"monitor": None, "early_stopping": 2}, "early_stopping needs a monitor.*got None"),
        ({"learning_rate": 10**400}, "learning_rate must be a positive number, got 1000"),
        ({"learning_rate": 1e-60}, "learning_rate must be a number that float32 has, got 1e-60"),
        ({"clip_norm": 1e39}, r"clip_norm must be a number that float32 has, got 1e\+39"),
        ({"weight_decay": 10**400}, "weight_decay must be a finite number >= 0, got 1000"),
        ({"momentum": 10**400, "optimizer": "sgd"}, r"momentum must lie in \[0, 1\), got 1000"),
        ({"epochs": 10**12}, "epochs must be at most 4294967295, got 1000000000000"),
        ({"checkpoint_every": 2**63}, "checkpoint_every must be at most 4294967295, got 922337"),
        ({"seed": 10**400}, r"seed must be at most 4294967295, got 1000"),
        ({"seed": "1"}, "seed must be a whole number >= 0, got '1'"),
        ({"seed": True}, "seed must be a whole number >= 0, got True"),
        ({"frozen": 5}, "frozen must be a tuple of patterns, got 5"),
        ({"frozen": ("a", 1)}, r"frozen must be a tuple of patterns, got \('a', 1\)"),
        ({"frozen": None}, "frozen must be a tuple of patterns, got None"),
        ({"augment": {"width_shft": 2}}, "AugmentConfig has no setting 'width_shft'.*width_shift"),
        ({"augment": "flip"}, "augment .*got 'flip'"),
    ],
)
def test_a_bad_training_setting_is_named_with_its_value(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changes)


@pytest.mark.parametrize("kind", [AugmentConfig, Augment])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width_shift": -1}, "width_shift must be a finite number >= 0, got -1"),
        ({"height_shift": NAN}, "height_shift must be a finite number >= 0, got nan"),
        ({"crop_padding": 1.5}, "crop_padding must be a whole number >= 0, got 1.5"),
        ({"width_shift": 10**10}, "width_shift must be at most 16777216 in size, got 10000000000"),
        (
            {"height_shift": 2**24 + 1},
            "height_shift must be at most 16777216 in size, got 16777217",
        ),
        ({"crop_padding": 10**9}, "crop_padding must be at most 16777216 in size, got 1000000000"),
        ({"channel_shift": 10**30}, "channel_shift must be at most 16777216 in size"),
        ({"rotation": 2.0**25}, "rotation must be at most 16777216 in size"),
        ({"brightness": (1, 10**30)}, "brightness must be at most 16777216 in size"),
        (
            {"fill_mode": "constant", "fill_value": -(10**30)},
            "fill_value must be at most 16777216 in size",
        ),
        ({"horizontal_flip": "no"}, "horizontal_flip must be True or False, got 'no'"),
        ({"vertical_flip": 0.3}, "vertical_flip must be True or False, got 0.3"),
        ({"fill_mode": "reflct"}, "fill_mode must be one of .*; did you mean 'reflect'"),
    ],
)
def test_a_bad_augmentation_setting_is_named_with_its_value(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


def test_from_dict_offers_the_nearest_setting():
    with pytest.raises(
        ValueError,
        match=r"no setting 'learning_rat'\. Did you mean 'learning_rate'",
    ):
        from_dict(TrainingConfig, {"learning_rat": 1})


def test_from_dict_offers_all_settings_where_none_is_near():
    with pytest.raises(ValueError, match=r"no setting 'zzz'\. Known settings: width_shift, .*flip"):
        from_dict(AugmentConfig, {"zzz": 1})


@pytest.mark.parametrize("values", [None, 5, [1], "epochs", [["epochs", 1]]])
def test_from_dict_takes_settings_by_name_only(values):
    with pytest.raises(ValueError, match="TrainingConfig must be settings by name, got"):
        from_dict(TrainingConfig, values)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainingConfig)])
@pytest.mark.parametrize("value", [[], {}, [[]], {"a": 1}, "", "\x1b", -1, 1e400, 10**400, True])
def test_json_of_any_type_is_a_setting_or_one_sentence(name, value):
    said = name
    try:
        from_dict(TrainingConfig, {name: value})
    except ValueError as error:
        said = str(error)
    assert name.partition("_")[0] in said or "AugmentConfig" in said
    assert "\x1b" not in said


def test_from_dict_checks_the_values():
    with pytest.raises(ValueError, match="epochs must be a whole number >= 1, got 0"):
        from_dict(TrainingConfig, {"epochs": 0})


def test_a_function_is_stored_as_its_name():
    assert to_dict(TrainingConfig(augment=json.dumps))["augment"] == "json.dumps"


def brighter(key, image, by=0.0, then=None):
    return image + by


def test_a_partial_is_stored_with_its_function_and_arguments():
    stored = [
        to_dict(TrainingConfig(augment=partial(brighter, by=by)))["augment"] for by in (1.0, 0.0)
    ]
    begin = f"functools.partial({__name__}.brighter, "
    assert stored == [f"{begin}by=1.0)", f"{begin}by=0.0)"]
    # Where an object lies in memory is no part of it: a run goes on in another process.
    assert qualified_name(partial(brighter, object(), then=json.dumps)) == (
        f"{begin}<object object>, then=json.dumps)"
    )


def test_an_augment_is_stored_as_its_settings():
    stored = to_dict(TrainingConfig(augment=Augment(width_shift=2, horizontal_flip=True)))
    assert stored["augment"] == to_dict(AugmentConfig(width_shift=2, horizontal_flip=True))
    assert from_dict(TrainingConfig, stored).augment.width_shift == 2


def test_patterns_may_be_a_list():
    assert TrainingConfig(frozen=["conv1", "conv2"]).frozen == ("conv1", "conv2")


def test_factors_may_be_a_mapping_or_lists():
    pairs = (("conv1", 0.5), ("conv2", 2.0))
    assert TrainingConfig(rate_factors=dict(pairs)).rate_factors == pairs
    assert TrainingConfig(rate_factors=[["conv1", np.float64(0.5)], ["conv2", 2.0]]) == (
        TrainingConfig(rate_factors=pairs)
    )
