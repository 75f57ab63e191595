"""Whether training reaches what a user's module switches: found when the model is made."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models import Model
from cnnjax.training import TrainState, make_train_step

IMAGES = np.random.default_rng(0).random((6, 4, 4, 2), np.float32)
KEY = jax.random.key(3)


def logits(x: jax.Array) -> jax.Array:
    return linen.Dense(3, name="logits")(x.mean(axis=(1, 2)))


def normed(x: jax.Array, train: bool, **options: Any) -> jax.Array:
    return linen.BatchNorm(use_running_average=not train, momentum=0.5, name="norm", **options)(x)


def dropped(x: jax.Array, train: bool) -> jax.Array:
    return linen.Dropout(0.5, deterministic=not train, name="drop")(x)


def noisy(module: linen.Module, x: jax.Array, stream: str = "noise") -> jax.Array:
    return x + jax.random.normal(module.make_rng(stream), x.shape)


class IsTrain(linen.Module):
    @linen.compact
    def __call__(self, x, is_train):
        return logits(normed(x, is_train))


class EnableDropout(linen.Module):
    @linen.compact
    def __call__(self, x, *, enable_dropout=False):
        return logits(dropped(normed(x, enable_dropout), enable_dropout))


class Inference(linen.Module):
    @linen.compact
    def __call__(self, x, inference=True):
        return logits(dropped(x, not inference))


class AnyArgument(linen.Module):
    @linen.compact
    def __call__(self, x, **options):
        return logits(normed(x, options.get("training", False)))


class OnByDefault(linen.Module):
    @linen.compact
    def __call__(self, x, learning=True):
        return logits(normed(x, learning))


class Skipped(linen.Module):
    """Its dropout is not even called in evaluation."""

    @linen.compact
    def __call__(self, x, fitting=None):
        return logits(dropped(x, True) if fitting else x)


class OwnNoise(linen.Module):
    @linen.compact
    def __call__(self, x, perturbed=False):
        return logits(noisy(self, x) if perturbed else x)


class OwnState(linen.Module):
    @linen.compact
    def __call__(self, x, update=False):
        seen = self.variable("counts", "seen", jnp.zeros, ())
        if update:
            seen.value += x.shape[0]
        return logits(x)


class OwnDropPath(linen.Module):
    rate: float

    @linen.compact
    def __call__(self, x, deterministic=True):
        if deterministic:
            return x
        return x * jax.random.bernoulli(self.make_rng("droppath"), 1 - self.rate, x.shape)


class Paths(linen.Module):
    @linen.compact
    def __call__(self, x, is_training_now=False):
        return logits(OwnDropPath(0.2, name="path")(x, deterministic=not is_training_now))


class Spectral(linen.Module):
    @linen.compact
    def __call__(self, x, power_step=False):
        conv = linen.Conv(3, (1, 1), name="conv")
        return logits(linen.SpectralNorm(conv, name="norm")(x, update_stats=power_step))


class Constant(linen.Module):
    """No switch at all: a frozen norm."""

    @linen.compact
    def __call__(self, x):
        return logits(normed(x, False))


class ConstantDropout(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return logits(dropped(x, False))


class Attention(linen.Module):
    @linen.compact
    def __call__(self, x, eval_mode=True):
        x = x.reshape(x.shape[0], 16, 2)
        attend = linen.MultiHeadDotProductAttention(2, dropout_rate=0.1, name="attend")
        return linen.Dense(3)(attend(x, deterministic=eval_mode).mean(axis=1))


NAMED = [
    (IsTrain(), "is_train", ("is_train",)),
    (EnableDropout(), "enable_dropout", ("enable_dropout",)),
    (Inference(), "inference", ("not inference",)),
    (AnyArgument(), "training", ("training",)),
    (OnByDefault(), "learning", ("learning",)),
    (Skipped(), "fitting", ("fitting",)),
    (OwnNoise(), "perturbed", ("perturbed",)),
    (OwnState(), "update", ("update",)),
    (Paths(), "is_training_now", ("is_training_now",)),
    (Spectral(), "power_step", ("power_step",)),
    (Attention(), "eval_mode", ("not eval_mode",)),
]


def moves(model: Model) -> bool:
    """Whether a training pass draws random numbers or changes what the model keeps."""
    apply_train = jax.jit(model.functions().apply_train)
    first, state = apply_train(model.params, model.state, IMAGES, KEY)
    second, _ = apply_train(model.params, model.state, IMAGES, jax.random.key(4))
    changed = trees.tree_hash(state) != trees.tree_hash(model.state)
    return changed or first.tolist() != second.tolist()


@pytest.mark.parametrize(("module", "name", "names"), NAMED)
def test_a_switch_of_another_name_is_an_error_that_names_it(module, name, names):
    wanted = rf"train_argument='{name}'"
    with pytest.raises(ValueError, match=wanted) as raised:
        Model.from_module(module, (4, 4, 2))
    assert "\n" not in str(raised.value)


@pytest.mark.sample(2)
@pytest.mark.parametrize(("module", "name", "names"), NAMED)
def test_a_named_switch_trains_whichever_of_its_values_is_training(module, name, names):
    model = Model.from_module(module, (4, 4, 2), train_argument=name)
    assert model.spec.train_arguments == names
    assert moves(model)
    assert model(IMAGES).tolist() == model(IMAGES).tolist()


@pytest.mark.parametrize(
    ("module", "layer"),
    [(Constant(), r"norm \(BatchNorm\)"), (ConstantDropout(), r"drop \(Dropout\)")],
)
def test_layers_that_nothing_reaches_are_an_error(module, layer):
    name = type(module).__name__
    message = rf"^{name}: {layer} would stay in evaluation mode in training.*; if this is meant"
    with pytest.raises(ValueError, match=message):
        Model.from_module(module, (4, 4, 2))


def test_a_module_that_is_the_same_in_training_is_said_to_be_so():
    model = Model.from_module(Constant(), (4, 4, 2), train_argument=False)
    assert model.spec.train_arguments == ()
    assert not moves(model)
    assert not moves(Model.from_module(OwnNoise(), (4, 4, 2), train_argument=False))
    message = r"train_argument=False says that ConstantDropout has no switch.* but it has train:"
    with pytest.raises(ValueError, match=message):
        Model.from_module(ConstantDropout(), (4, 4, 2), train_argument=False)


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return normed(linen.Conv(2, (1, 1))(x), train)


class Forgetful(linen.Module):
    """Its block is not told of training."""

    @linen.compact
    def __call__(self, x, train=False):
        return logits(dropped(Block(name="block")(x), train))


class ForgetfulScan(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        body = linen.scan(
            Body,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=2,
        )
        return logits(body(name="body")(dropped(x, train), None)[0])


class Body(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        return normed(linen.Conv(2, (1, 1))(x), False), None


class TwoSwitches(linen.Module):
    @linen.compact
    def __call__(self, x, train=False, enable_dropout=False):
        return logits(dropped(normed(x, train), enable_dropout))


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("module", "layer"), [(Forgetful(), "block/norm"), (ForgetfulScan(), "body/norm")]
)
def test_every_layer_must_be_reached_or_named(module, layer):
    message = (
        rf"{layer} \(BatchNorm\) would stay in evaluation mode in training, although .* gets "
        rf"train=True in training: .*unswitched=\('{layer}',\)"
    )
    with pytest.raises(ValueError, match=message):
        Model.from_module(module, (4, 4, 2))
    model = Model.from_module(module, (4, 4, 2), unswitched=(layer.partition("/")[0],))
    _, state = model.functions().apply_train(model.params, model.state, IMAGES, KEY)
    assert trees.tree_hash(state) == trees.tree_hash(model.state)
    assert moves(model)
    with pytest.raises(ValueError, match="unswitched='blok' names no BatchNorm or Dropout"):
        Model.from_module(module, (4, 4, 2), unswitched=("blok",))


def test_several_switches_are_all_named():
    with pytest.raises(ValueError, match=r"train_argument=\('train', 'enable_dropout'\)"):
        Model.from_module(TwoSwitches(), (4, 4, 2))
    model = Model.from_module(TwoSwitches(), (4, 4, 2), train_argument=("train", "enable_dropout"))
    assert model.spec.train_arguments == ("train", "enable_dropout")
    assert moves(model)


@pytest.mark.parametrize("name", ["is_trian", "x", "", 3, "not is_trian"])
def test_an_unknown_switch_is_an_error(name):
    message = rf"train_argument={name!r} is no argument of IsTrain.__call__ beside its inputs"
    with pytest.raises(ValueError, match=re.escape(message)):
        Model.from_module(IsTrain(), (4, 4, 2), train_argument=(name,))


def test_a_meaning_that_is_given_is_taken_at_its_word():
    assert moves(Model.from_module(Inference(), (4, 4, 2), train_argument="not inference"))
    with pytest.raises(ValueError, match=r"norm \(BatchNorm\) would be in training mode in eval"):
        Model.from_module(IsTrain(), (4, 4, 2), train_argument="not is_train")

    class Unseen(linen.Module):  # nothing shows which value is which
        @linen.compact
        def __call__(self, x, fast=False):
            return logits(x) * (2.0 if fast else 1.0)

    for name in ("fast", "not fast"):
        model = Model.from_module(Unseen(), (4, 4, 2), train_argument=name)
        trained, _ = model.functions().apply_train(model.params, {}, IMAGES, KEY)
        ratio = 2.0 if name == "fast" else 0.5
        np.testing.assert_allclose(trained, ratio * model(IMAGES), rtol=1e-6)


class Sampled(linen.Module):
    @linen.compact
    def __call__(self, x):
        return logits(dropped(x, True))


class BatchOnly(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return logits(normed(x, True))


class AlwaysNoisy(linen.Module):
    @linen.compact
    def __call__(self, x):
        return logits(noisy(self, x))


class AlwaysCounting(linen.Module):
    @linen.compact
    def __call__(self, x):
        self.variable("cache", "calls", jnp.zeros, ()).value += 1
        return logits(x)


@pytest.mark.parametrize("train_argument", [None, False])
@pytest.mark.parametrize(
    ("module", "what"),
    [
        (Sampled(), r"drop \(Dropout\) would be in training mode in evaluation too"),
        (AlwaysNoisy(), "it would draw random numbers in evaluation too"),
        (AlwaysCounting(), "it would change its variables in evaluation too"),
    ],
)
def test_what_evaluation_cannot_do_is_refused_when_the_model_is_made(module, what, train_argument):
    with pytest.raises(ValueError, match=what):
        Model.from_module(module, (4, 4, 2), train_argument=train_argument)
    with pytest.raises(ValueError, match=r"norm \(BatchNorm\) would be in training mode in eval"):
        Model.from_module(BatchOnly(), (4, 4, 2))


# --- axis_name ---------------------------------------------------------------------------------


class Net(linen.Module):
    """The same net with and without the axes of a `pmap`; the norms are fields or of `setup`."""

    axis: str | None = None
    given: linen.Module | None = None

    def setup(self):
        self.first = linen.BatchNorm(momentum=0.5, axis_name=self.axis)

    @linen.compact
    def __call__(self, x, train=False):
        x = self.first(x, use_running_average=not train)
        x = linen.GroupNorm(num_groups=1, axis_name=self.axis, name="group")(x)
        x = linen.LayerNorm(axis_name=self.axis, name="layer")(x)
        if self.given is not None:
            x = self.given(x, use_running_average=not train)
        return logits(linen.remat(Inner)(self.axis, name="inner")(x))


class Inner(linen.Module):
    axis: str | None

    @linen.compact
    def __call__(self, x):
        return linen.LayerNorm(axis_name=self.axis)(x)


@pytest.mark.thorough
def test_axis_names_are_not_needed_and_change_no_bit(squares):
    images, labels = squares
    hashes = set()
    for axis in (None, "batch"):
        net = Net(axis, linen.BatchNorm(momentum=0.5, axis_name=axis))
        model = Model.from_module(net, (12, 12, 1))
        config = cj.TrainingConfig(epochs=1, batch_size=32, monitor=None)
        run = cj.fit(model, (images, labels), config, verbose=False)
        assert net.given.axis_name == axis  # the user's module is as it was
        outputs = cj.predict(run.model, images[:4])
        x = run.model.spec.preprocess(images[:2])
        scores = cj.explain.saliency(run.model, x, target=1)
        hashes.add((run.parameter_hash, outputs.tobytes(), np.asarray(scores).tobytes()))
        assert run.metrics == {}
    assert len(hashes) == 1


def test_statistics_of_groups_of_devices_are_refused():
    class Groups(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            return logits(normed(x, train, axis_name="batch", axis_index_groups=[[0, 1]]))

    with pytest.raises(ValueError, match="norm has axis_index_groups, and here statistics are"):
        Model.from_module(Groups(), (4, 4, 2))


class Rows(linen.Module):
    """The rows of an image beside each other, with the statistics of all of them."""

    axis: str | tuple[str, ...]

    @linen.compact
    def __call__(self, x, train=False):
        rows = linen.vmap(
            lambda norm, x: norm(x, use_running_average=not train),
            in_axes=1,
            out_axes=1,
            variable_axes={"params": None, "batch_stats": None},
            split_rngs={"params": False},
            axis_name="rows",
        )
        return logits(rows(linen.BatchNorm(momentum=0.5, axis_name=self.axis), x))


@pytest.mark.parametrize("axis", ["rows", ("rows",), ("rows", "batch")])
def test_an_axis_that_the_module_makes_itself_is_kept(axis):
    model = Model.from_module(Rows(axis), (4, 4, 2))
    _, state = model.functions().apply_train(model.params, model.state, IMAGES, KEY)
    (mean,) = (leaf for path, leaf in trees.leaves(state).items() if path.endswith("/mean"))
    np.testing.assert_allclose(mean, 0.5 * IMAGES.mean((0, 1, 2)), rtol=1e-5)


def test_axes_of_partitioned_parameters_are_left_out(tmp_path):
    class Partitioned(linen.Module):
        @linen.compact
        def __call__(self, x):
            init = linen.with_partitioning(linen.initializers.lecun_normal(), ("in", "out"))
            return linen.Dense(3, kernel_init=init)(x.mean((1, 2)))

    model = Model.from_module(Partitioned(), (4, 4, 2))
    assert model.params["Dense_0"]["kernel"].shape == (2, 3)
    cj.save(model, tmp_path / "model")
    loaded = cj.load(tmp_path / "model", Partitioned())
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


def test_a_collective_operation_of_ones_own_is_refused_when_the_model_is_made():
    class Mean(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            return logits(x if not train else x - jax.lax.pmean(x, "devices"))

    with pytest.raises(ValueError, match=r"^Mean cannot be trained: .*devices"):
        Model.from_module(Mean(), (4, 4, 2))


# --- random streams ----------------------------------------------------------------------------


class Streams(linen.Module):
    streams: tuple[str, ...]

    @linen.compact
    def __call__(self, x, train=False):
        drawn = [jax.random.normal(self.make_rng(s), (3,)) for s in self.streams] if train else []
        return logits(x) * 0 + sum(drawn, start=jnp.zeros(3))[None]


@pytest.mark.parametrize("stream", ["noise", "stochastic_depth", "droppath", "dropout"])
def test_every_random_stream_gets_a_key_of_the_step(stream):
    model = Model.from_module(Streams((stream,)), (4, 4, 2))
    step = jax.jit(make_train_step(model, optimizer=optax.sgd(0.0), log_gradients=True))
    batch = {"inputs": np.uint8(255 * IMAGES), "labels": np.zeros(6, np.int32)}
    losses = []
    for seed in (0, 0, 1):
        state = TrainState.create(model, optax.sgd(0.0), seed=seed)
        for _ in range(2):
            state, sums = step(state, batch)
            losses.append(float(sums["loss"]))
    assert losses[:2] == losses[2:4]
    assert len(set(losses)) == 4  # another draw at every step and for every seed


def test_streams_are_independent_of_each_other():
    def draw(*streams):
        model = Model.from_module(Streams(streams), (4, 4, 2))
        return model.functions().apply_train(model.params, {}, IMAGES, KEY)[0][0].tolist()

    noise, dropout, both = draw("noise"), draw("dropout"), draw("noise", "dropout")
    assert noise != dropout
    np.testing.assert_allclose(both, np.add(noise, dropout), rtol=1e-5)


# --- what a module leaves behind ---------------------------------------------------------------


class Sowing(linen.Module):
    collection: str
    name_: str
    summed: bool = False
    in_training: bool = True

    @linen.compact
    def __call__(self, x, train=False):
        options = {"init_fn": lambda: 0.0, "reduce_fn": lambda a, b: a + b} if self.summed else {}
        if train or not self.in_training:
            self.sow(self.collection, self.name_, (x**2).sum(), **options)
        return logits(x)


@pytest.mark.parametrize("in_training", [True, False])
@pytest.mark.parametrize(
    ("collection", "name", "summed"),
    [
        ("intermediates", "aux_loss", False),
        ("aux_losses", "moe", True),
        ("penalties", "tv", False),
        ("reg", "weights", False),
        ("intermediates", "commitment", False),
        ("moe_metrics", "load_balancing", False),
    ],
)
def test_a_sown_loss_that_training_would_ignore_is_an_error(collection, name, summed, in_training):
    with pytest.raises(ValueError, match=f"Sowing sows {collection}/{name}, which a training"):
        Model.from_module(Sowing(collection, name, summed, in_training), (4, 4, 2))


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("collection", ["intermediates", "metrics", "features"])
def test_other_sown_values_are_left_out(collection, summed):
    model = Model.from_module(Sowing(collection, "energy", summed), (4, 4, 2))
    assert set(model.variables) == {"params"}
    _, state = model.functions().apply_train(model.params, {}, IMAGES, KEY)
    assert state == {}


def test_a_module_may_be_called_after_what_it_is_for():
    class Head(linen.Module):
        @linen.compact
        def __call__(self, x):
            part = Sowing("intermediates", "map", in_training=False, name="auxiliary_kl_head")
            return part(x)

    assert set(Model.from_module(Head(), (4, 4, 2)).variables) == {"params"}


@pytest.mark.parametrize("collection", ["late", "batch_stats"])
def test_a_variable_that_only_training_makes_is_an_error(collection):
    class Late(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            x = normed(x, train)
            if train:
                self.variable(collection, "steps", jnp.zeros, ()).value += 1
            return logits(x)

    with pytest.raises(ValueError, match=f"Late makes the variable {collection}/steps in training"):
        Model.from_module(Late(), (4, 4, 2))


def test_logits_must_be_the_same_kind_in_training():
    class Inception(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            y = logits(x)
            return (y, 2 * y) if train else y

    with pytest.raises(ValueError, match=r"must return the same logits in training as in eval"):
        Model.from_module(Inception(), (4, 4, 2))


class TwoInputs(linen.Module):
    @linen.compact
    def __call__(self, x, mask):
        return logits(x * mask)


class NamedInput(linen.Module):
    @linen.compact
    def __call__(self, *, image):
        return logits(image)


class NeedsMask(linen.Module):
    @linen.compact
    def __call__(self, x, *, mask, train=False):
        return logits(x * mask)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (TwoInputs(), "a model has one input, so its __call__ must do without mask"),
        (NeedsMask(), "a model has one input, so its __call__ must do without mask"),
        (NamedInput(), "takes 1 positional argument but 2 were given"),
    ],
)
def test_modules_of_other_inputs_are_refused_in_one_sentence(module, message):
    with pytest.raises(ValueError, match=message) as raised:
        Model.from_module(module, (4, 4, 2))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("first\nsecond"), ZeroDivisionError])
def test_an_error_of_a_module_in_training_comes_when_the_model_is_made(error):
    class Broken(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            if train:
                raise error
            return logits(x)

    with pytest.raises(ValueError, match=r"^Broken cannot be trained: ") as raised:
        Model.from_module(Broken(), (4, 4, 2))
    assert "\n" not in str(raised.value)


# --- what is made of such a model --------------------------------------------------------------


@pytest.mark.thorough
def test_a_switch_of_another_name_is_kept_on_disk_and_known_to_explanations(tmp_path, squares):
    class Own(linen.Module):
        @linen.compact
        def __call__(self, x, inference):
            x = linen.Conv(4, (3, 3), name="conv")(x)
            x = linen.BatchNorm(use_running_average=inference, name="norm")(x)
            x = cj.nn.GlobalAveragePooling2D(name="pool")(x)
            return linen.Dense(3, name="logits")(dropped(x, not inference))

    model = Model.from_module(Own(), (12, 12, 1), train_argument="inference")
    config = cj.TrainingConfig(epochs=1, batch_size=32, monitor=None)
    run = cj.fit(model, squares, config, directory=tmp_path / "run", verbose=False)
    before, after = (m.variables["batch_stats"]["norm"]["mean"] for m in (model, run.model))
    assert before.tolist() != after.tolist()
    for directory in (tmp_path / "run", cj.save(run.model, tmp_path / "model")):
        loaded = cj.load(directory, module=Own())
        assert loaded.spec.train_arguments == ("not inference",)
        assert loaded.static == model.static
        x = squares[0][:2]
        assert cj.predict(loaded, x).tolist() == cj.predict(run.model, x).tolist()
        x = loaded.spec.preprocess(x)
        assert np.isfinite(cj.explain.grad_cam(loaded, x, layer="conv", target=1)).all()
        assert cj.explain.activations(loaded, x)["conv"].shape == (2, 12, 12, 4)
        assert cj.summary(loaded).rows[0].name == "conv"


@pytest.mark.parametrize("name", ["mnist_convnet", "lenet", "mlp"])
def test_built_in_modules_are_found_to_train(name):
    built = cj.create_model(name)
    model = Model.from_module(built.module, built.spec.input_shape)
    assert model.spec.num_classes == built.spec.num_classes


@pytest.mark.parametrize(
    "value", [jax.random.key(0), (jnp.sin, jnp.ones(2)), {"a": jnp.ones(3)}, np.ones(3)]
)
@pytest.mark.thorough
def test_a_module_whose_fields_hold_arrays_is_made_and_trained(value: Any) -> None:
    class Net(linen.Module):
        held: Any

        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(3)(x.mean(axis=(1, 2)))

    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    config = cj.TrainingConfig(epochs=1, batch_size=4, monitor=None)
    model = cj.Model.from_module(Net(value), (8, 8, 3))
    run = cj.fit(model, (images, np.arange(8) % 3), config, verbose=False)
    assert np.isfinite(run.history["loss"]).all()
