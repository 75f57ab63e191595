"""One rule: what would be ignored is an error that names it."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.augment.config import AugmentConfig
from cnnjax.config import OPTIMIZER, TrainingConfig
from cnnjax.core.settings import names
from cnnjax.training import TrainState, make_train_step
from cnnjax.training.given import Given
from cnnjax.training.setting_checks import check_settings

Arrays = tuple[np.ndarray, np.ndarray]

# A value of each setting that is not its default.
OTHER: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.5,
    "schedule": "cosine",
    "warmup": 0.5,
    "rate_decay": 0.5,
    "rate_drops": (0.9,),
    "rate_patience": 2,
    "momentum": 0.9,
    "weight_decay": 0.1,
    "rate_factors": (("logits", 0.1),),
    "layer_decay": 0.5,
    "clip_norm": 1.0,
}
# What else a setting needs to be one that could be meant.
WITH: dict[str, dict[str, Any]] = {
    "warmup": {"schedule": "one_cycle"},
    "rate_decay": {"schedule": "exponential"},
    "rate_drops": {"schedule": "step"},
    "rate_patience": {"schedule": "plateau"},
    "momentum": {"optimizer": "sgd"},
}


def small(**arguments: Any) -> cj.Model:
    arguments = {"num_classes": 3, "units": (4,), **arguments}
    return cj.create_model("mlp", input_shape=(12, 12, 1), **arguments)


def fit(data: Any, model: cj.Model | None = None, **arguments: Any) -> cj.Run:
    settings = arguments.pop("config", {})
    config = TrainingConfig(**{"epochs": 1, "batch_size": 32, **settings})
    return cj.fit(model or small(), data, config, verbose=False, **arguments)


@pytest.mark.parametrize("name", names(TrainingConfig, OPTIMIZER))
def test_every_setting_that_a_given_optimiser_replaces_is_an_error(
    squares: Arrays, name: str
) -> None:
    message = rf"={re.escape(repr(OTHER[name]))} changes the configured optimiser, but another one"
    if name not in WITH:
        message = name + message
    else:
        (needed,) = WITH[name]
        message = rf"({name}|{needed})=.* changes the configured optimiser, but another one was"
    with pytest.raises(ValueError, match=message):
        fit(
            squares,
            config={"monitor": None, name: OTHER[name], **WITH.get(name, {})},
            optimizer=optax.sgd(0.1),
        )


# setting(s), situation, what the error says
IN_CONFIG = [
    ({"momentum": 0.5}, "momentum belongs to 'sgd', got optimizer='rmsprop'"),
    ({"momentum": 0.5, "optimizer": "adamw"}, "momentum belongs to 'sgd', got optimizer='adamw'"),
    ({"warmup": 0.1}, "warmup=0.1 belongs to 'one_cycle' and 'warmup_cosine', got schedule='const"),
    ({"warmup": 0.1, "schedule": "cosine"}, "warmup=0.1 belongs to 'one_cycle' and 'warmup_cosin"),
    (
        {"rate_decay": 0.5, "schedule": "cosine"},
        "rate_decay=0.5 belongs to 'step' and 'exponential' and 'plateau', got schedule='cosine'",
    ),
    ({"rate_drops": (0.5,), "schedule": "plateau"}, "rate_drops=(0.5,) belongs to 'step', got"),
    ({"rate_patience": 2, "schedule": "step"}, "rate_patience=2 belongs to 'plateau', got sched"),
    ({"learning_rate": 0.1, "schedule": abs}, "learning_rate=0.1 would be ignored: the schedule"),
    ({"early_stopping": 2, "monitor": None}, "early_stopping needs a monitor"),
    ({"accumulate": 7}, "accumulate=7 must divide batch_size=64 into equal parts"),
    ({"allow_changed": ("module",)}, "allow_changed=('module',) is for a run that is resumed"),
]


@pytest.mark.parametrize(("settings", "message"), IN_CONFIG)
def test_settings_that_others_leave_without_effect(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainingConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fill_value": 9.0, "width_shift": 2}, "fill_value=9.0 belongs to fill_mode='constant'"),
        (
            {"fill_value": 9.0, "rotation": 5.0, "fill_mode": "wrap"},
            "fill_value=9.0 belongs to fill_mode='constant', got fill_mode='wrap'",
        ),
        ({"fill_mode": "wrap"}, "fill_mode='wrap' is for what a move uncovers, and nothing moves"),
        (
            {"fill_mode": "constant", "fill_value": 9.0, "horizontal_flip": True},
            "fill_mode='constant' is for what a move uncovers, and nothing moves",
        ),
    ],
)
def test_augmentation_settings_without_effect(
    squares: Arrays, settings: dict, message: str
) -> None:
    for kind in (AugmentConfig, Augment):
        with pytest.raises(ValueError, match=re.escape(f"augment: {message}")):
            fit(squares, config={"augment": kind(**settings), "monitor": None})


IN_FIT = [
    ({"early_stopping": 2}, {}, "early_stopping=2 needs validation data"),
    ({"monitor": "accuracy"}, {}, "monitor='accuracy' needs validation data"),
    ({"mode": "max"}, {}, "mode='max' needs validation data"),
    ({"resume": True, "monitor": None}, {}, "resume=True needs a run directory"),
    ({"checkpoint_every": 2, "monitor": None}, {}, "checkpoint_every=2 needs a run directory"),
    ({"keep": 3}, {}, "keep=3 needs a run directory"),
    ({}, {"record": {"who": "me"}}, "record={'who': 'me'} needs a run directory"),
    ({"keep": 3}, {"directory": "run"}, "keep=3 counts the best checkpoints, and none is best"),
    (
        {"label_smoothing": 0.1},
        {"loss": cj.metrics.softmax_cross_entropy},
        "label_smoothing works with the default softmax loss only",
    ),
    (
        {"label_smoothing": 0.1},
        {"model": small(num_classes=1)},
        "label_smoothing works with the default softmax loss only",
    ),
    ({"rate_factors": (("dense1", 0.1),), "frozen": ("dense1",)}, {}, "names no trained parameter"),
]


@pytest.mark.parametrize(("settings", "arguments", "message"), IN_FIT)
def test_settings_that_fit_would_ignore(
    squares: Arrays, tmp_path: Any, settings: dict, arguments: dict, message: str
) -> None:
    if "directory" in arguments:
        arguments = {"directory": tmp_path / arguments["directory"]}
    images, labels = squares
    data = (images, np.minimum(labels, 1)) if "model" in arguments else squares
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(data, config=settings, **arguments)
    assert not list(tmp_path.iterdir())  # refused before anything is written


@pytest.mark.parametrize(
    ("config", "seeds", "message"),
    [
        ({"resume": True}, 2, "resume is an argument of sweep, not of its config"),
        ({"seed": 4}, (1, 2), "seed=4 of config would be ignored"),
        ({"seed": 4}, np.array([1, 2]), "seed=4 of config would be ignored"),
        ({"keep": 2}, 2, "keep=2 needs a run directory"),
        ({"monitor": "accuracy"}, 2, "monitor='accuracy' needs validation data"),
    ],
)
def test_settings_that_sweep_would_ignore(
    squares: Arrays, config: dict, seeds: Any, message: str
) -> None:
    make = partial(cj.create_model, "mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    with pytest.raises(ValueError, match=re.escape(message)):
        cj.sweep(make, squares, TrainingConfig(**config), seeds=seeds, verbose=False)


def test_every_field_is_used_or_refused_somewhere() -> None:
    """A new field has to be thought of here."""
    refused = {name for settings, *_ in (*IN_CONFIG, *IN_FIT) for name in settings}
    always_used = {"epochs", "batch_size", "seed", "average", "log_gradients", "precision"}
    always_used |= {"sampler", "generator", "remat"}
    # Refused where it cannot be honoured by tests of their own rooms, or of no effect on what is
    # computed: a CPU is always deterministic, and one device has nothing to divide.
    elsewhere = {"augment", "class_weights", "steps_per_dispatch", "deterministic"}
    elsewhere |= {"workers", "fsdp"}
    names = {field.name for field in fields(TrainingConfig)}
    assert names == refused | set(OTHER) | always_used | elsewhere | {"frozen"}


# --- one step ------------------------------------------------------------------------------------


def step_and_state(
    squares: Arrays, of_step: dict, of_state: dict, optimizer: Any = None
) -> TrainState:
    model = small(units=(4, 5))
    optimizer = optimizer or optax.sgd(0.1)
    step = make_train_step(model, optimizer=optimizer, **of_step)
    state = TrainState.create(model, optimizer, **of_state)
    batch = {"inputs": squares[0][:8], "labels": squares[1][:8]}
    return jax.jit(step)(state, batch)[0]


@pytest.mark.parametrize(
    ("of_step", "of_state", "message"),
    [
        (("dense1",), (), r"frozen=\('dense1',\) does not fit the state, which trains dense1/bias"),
        ((), ("dense1",), r"frozen=\(\) does not fit the state, which freezes dense1/bias"),
        (("dense*",), ("dense1",), r"does not fit the state, which trains dense2/bias"),
        (("dense1",), ("dense2",), r"does not fit the state, which trains dense1/bias"),
        (("*/bias",), ("*/kernel",), r"does not fit the state, which trains dense1/bias"),
    ],
)
def test_a_step_and_a_state_freeze_the_same(
    squares: Arrays, of_step: tuple, of_state: tuple, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        step_and_state(squares, {"frozen": of_step}, {"frozen": of_state})


def test_other_patterns_for_the_same_layers_fit(squares: Arrays) -> None:
    state = step_and_state(
        squares, {"frozen": ("dense?",)}, {"frozen": ("dense1", "dense2/kernel", "dense2/bias")}
    )
    assert int(state.step) == 1


def test_a_step_refuses_patterns_that_name_nothing() -> None:
    with pytest.raises(ValueError, match=r"frozen='dens1' names no .*'dense1'"):
        make_train_step(small(), frozen=("dens1",))


@pytest.mark.parametrize("pattern", ["dense1", "*"])
def test_a_pattern_alone_is_no_tuple_of_patterns(pattern: Any) -> None:
    message = f"frozen must be a tuple of patterns, got the string '{re.escape(pattern)}'"
    with pytest.raises(ValueError, match=message):
        make_train_step(small(), frozen=pattern)
    with pytest.raises(ValueError, match=message):
        TrainState.create(small(), optax.sgd(0.1), frozen=pattern)


@pytest.mark.parametrize("other", [{"units": (8,)}, {"units": (4, 4)}, {"num_classes": 2}])
def test_a_step_refuses_the_state_of_another_model(squares: Arrays, other: dict) -> None:
    state = TrainState.create(small(**other), optax.sgd(0.1))
    step = make_train_step(small(), optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"^state is of another model than mlp, whose parameters"):
        step(state, {"inputs": squares[0][:8], "labels": squares[1][:8]})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"inputs": np.zeros((2, 12, 12, 1))}, "has no 'labels', but 'inputs'"),
        ({"labels": np.zeros(2, int)}, "has no 'inputs', but 'labels'"),
        ({}, "has no 'inputs', but nothing"),
        ({"inputs": np.zeros((2, 1, 12, 12)), "labels": np.zeros(2, int)}, "their channels second"),
        ({"inputs": np.zeros((2, 12, 12, 3)), "labels": np.zeros(2, int)}, r"be \[N, H, W, 1\]"),
        ({"inputs": np.zeros((12, 12, 1)), "labels": np.zeros(2, int)}, r"got \[12, 12, 1\]"),
    ],
)
def test_a_step_refuses_what_is_no_batch_of_the_model(batch: dict, message: str) -> None:
    state = TrainState.create(small(), optax.sgd(0.1))
    with pytest.raises(ValueError, match=f"^batch.*{message}"):
        make_train_step(small(), optimizer=optax.sgd(0.1))(state, batch)


@pytest.mark.parametrize("other", [None, optax.adam(0.1), optax.sgd(0.1, momentum=0.9)])
def test_a_step_refuses_the_state_of_another_optimiser(squares: Arrays, other: Any) -> None:
    model = small()
    state = TrainState.create(model, optax.sgd(0.1))
    batch = {"inputs": squares[0][:8], "labels": squares[1][:8]}
    with pytest.raises(ValueError, match="optimizer does not fit the state, which was created"):
        make_train_step(model, optimizer=other)(state, batch)


# --- optimisers of one's own ---------------------------------------------------------------------

SHARP = optax.chain(contrib.normalize(), optax.sgd(0.05))
LABELS = {
    "dense1": {"kernel": "a", "bias": "a"},
    "logits": {"kernel": "b", "bias": "b"},
}
PARTS = {"a": optax.adam(1e-2), "b": optax.sgd(0.1)}


def is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)


TRAIN = {
    "sam": contrib.sam(optax.adam(1e-2), SHARP, opaque_mode=True),
    "line search": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(3)),
    "value": optax.polyak_sgd(),
    "labels": optax.multi_transform(PARTS, LABELS),
    "label function": optax.partition(
        PARTS, lambda params: jax.tree.map(lambda p: "a" if p.ndim > 1 else "b", params)
    ),
    "mask": optax.masked(optax.sgd(0.1), is_kernel),
    "if finite": optax.apply_if_finite(optax.adam(1e-2), 3),
    "multi steps": optax.MultiSteps(optax.adam(1e-2), 2),
    "hyperparams": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "plateau": optax.chain(optax.adam(1e-2), contrib.reduce_on_plateau()),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", TRAIN)
def test_optimisers_that_train(squares: Arrays, name: str) -> None:
    run = fit(squares, config={"epochs": 2, "monitor": None}, optimizer=TRAIN[name])
    assert run.history["loss"][1] < run.history["loss"][0]


@pytest.mark.thorough
def test_lbfgs_sees_the_loss_of_the_batch(squares: Arrays) -> None:
    search = optax.scale_by_backtracking_linesearch(3)  # which compiles faster than zoom
    optimizer = optax.lbfgs(memory_size=2, linesearch=search)
    config = {"epochs": 2, "batch_size": 96, "monitor": None}
    run = fit(squares, config=config, optimizer=optimizer)
    # By hand, as optax's documentation has it, on the whole data.
    model = small()
    images = model.spec.preprocess(squares[0])

    def loss(params: Any) -> jax.Array:
        logits = model.functions().apply(params, {}, images)
        return cj.metrics.softmax_cross_entropy(logits, jnp.asarray(squares[1])).mean()

    params, state = model.params, optimizer.init(model.params)
    for _ in range(2):
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=loss
        )
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), run.model.params, params
    )


def labelled(labels: Any) -> dict[str, optax.GradientTransformation]:
    return {
        "labels": optax.multi_transform(PARTS, labels),
        "partition": optax.chain(optax.clip(1.0), optax.partition(PARTS, labels)),
        "mask": optax.masked(optax.adam(0.1), jax.tree.map(lambda label: label == "a", labels)),
    }


@pytest.mark.parametrize("name", labelled(LABELS))
def test_labels_are_for_all_layers_also_beside_frozen_ones(squares: Arrays, name: str) -> None:
    config = {"frozen": ("dense1",), "monitor": None}
    fit(squares, config=config, optimizer=labelled(LABELS)[name])
    message = (
        r"^optimizer cannot begin with the parameters, \{layer: \{weight: array\}\} of dense1, "
        r"logits, with optax.MaskedNode\(\) for those of frozen=\('dense1',\) \(labels or masks of "
        r"them must have the same form, or be a function of this tree\): "
    )
    without = labelled({"logits": LABELS["logits"]})[name]
    with pytest.raises(ValueError, match=message) as raised:
        fit(squares, config=config, optimizer=without)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=message):
        TrainState.create(small(), without, frozen=("dense1",))


def test_an_optimiser_that_freezes_what_is_left_is_refused(squares: Arrays) -> None:
    optimizer = cj.training.freeze(optax.sgd(0.1), ("dense1",), small().params)
    with pytest.raises(
        ValueError, match=r"^optimizer trains nothing of .*frozen=\('logits',\) are"
    ):
        fit(squares, config={"frozen": ("logits",), "monitor": None}, optimizer=optimizer)
    bias = {"frozen": ("logits/bias",), "monitor": None}
    assert fit(squares, config=bias, optimizer=optimizer).metrics == {}


def test_a_token_that_the_model_does_not_know_cannot_be_put_in(squares: Arrays) -> None:
    model = cj.create_model(
        "imdb_conv1d", input_shape=(50,), num_classes=1, vocabulary_size=50, embedding_size=4
    )
    splits = cj.data.as_splits(squares)
    dropout = cj.augment.WordDropout(0.5, replacement=50)
    for augment in (dropout, cj.augment.Chain((cj.augment.WordDropout(0.1), dropout))):
        with pytest.raises(ValueError, match=r"^augment: WordDropout\(replacement=50\): .*50\)"):
            check_settings(TrainingConfig(augment=augment), model, splits, Given(), None, None, {})


def changing_state() -> optax.GradientTransformation:
    return optax.GradientTransformation(lambda p: (), lambda u, s, p=None: (u, (*s, u)))


def half_updates() -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda u: u.astype(jnp.bfloat16), updates), state

    return optax.GradientTransformation(lambda p: (), update)


def needs_more() -> optax.GradientTransformationExtraArgs:
    def update(updates: Any, state: Any, params: Any = None, *, hessian: Any) -> Any:
        return updates, hessian

    return optax.GradientTransformationExtraArgs(lambda p: (), update)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (contrib.sam(optax.adam(0.1), SHARP), "sam with opaque_mode=False.*give opaque_mode=True"),
        (optax.lookahead(optax.sgd(0.1), 5, 0.5), "optimizer cannot update .*no attribute 'fast'"),
        (needs_more(), "optimizer cannot update .*'hessian'"),
        (changing_state(), "optimizer must return updates and a state of the form"),
        (half_updates(), "optimizer must return updates and a state of the form"),
        (optax.sgd, r"optimizer must be an optax transformation, e\.g\. .*, got <function sgd>"),
        ("adam", "optimizer must be an optax transformation, .*, got adam"),
    ],
)
def test_optimisers_that_cannot_train_are_refused_in_one_sentence(
    squares: Arrays, tmp_path: Any, optimizer: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        fit(squares, optimizer=optimizer, directory=tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_an_update_that_names_what_it_looks_at_gets_just_that(squares: Arrays) -> None:
    seen = []

    def update(updates: Any, state: Any, params: Any = None, *, value: Any) -> Any:
        seen.append(value.shape)
        return jax.tree.map(lambda u: -0.1 * u, updates), state

    optimizer = optax.GradientTransformationExtraArgs(lambda p: (), update)
    run = fit(squares, config={"monitor": None}, optimizer=optimizer)
    by_hand = fit(squares, config={"monitor": None}, optimizer=optax.sgd(0.1))
    assert run.parameter_hash == by_hand.parameter_hash
    assert set(seen) == {()}
