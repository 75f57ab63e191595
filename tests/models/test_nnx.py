"""NNX modules as models; the oracle is NNX itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import after_every_dispatch
from flax import linen, nnx
from modules import NnxConvnet

import cnnjax as cj
from cnnjax.core import rng, trees
from cnnjax.models import taps

IMAGES = np.random.default_rng(0).random((6, 12, 12, 1), np.float32)
LABELS = np.arange(6) % 3
KEY = jax.random.key(0)
ROWS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


class Dense(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(nnx.relu(self.norm(self.dense(x))))


class Looped(nnx.Module):
    def __init__(self, rngs):
        make = nnx.vmap(Dense, in_axes=0, out_axes=0)
        self.layers = nnx.split_rngs(splits=3)(make)(rngs)

    def __call__(self, x):
        loop = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return loop(x, self.layers)


class Computed(nnx.Module):
    def __init__(self, rngs):
        self.layer = Dense(rngs)

    def __call__(self, x):
        return nnx.remat(lambda layer, x: layer(x))(self.layer, x)


class Compiled(nnx.Module):
    def __init__(self, rngs):
        self.layer = Dense(rngs)

    @nnx.jit
    def __call__(self, x):
        return self.layer(x)


def net(seed: int = 0, **arguments) -> NnxConvnet:
    return NnxConvnet(**arguments, rngs=nnx.Rngs(seed))


def model_of(module, shape=(12, 12, 1), **options) -> cj.Model:
    return cj.Model.from_nnx(module, shape, preprocessing="none", **options)


def flat(module, kind) -> dict[str, np.ndarray]:
    pairs = nnx.to_flat_state(nnx.state(module, kind))
    return {"/".join(map(str, path)): np.asarray(value[...]) for path, value in pairs}


def assert_trees_close(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for path, array in wanted.items():
        np.testing.assert_allclose(found[path], array, **tolerance, err_msg=path)


def test_variables_have_the_modules_own_path_names_and_values():
    module = net()
    model = model_of(module)
    assert set(model.variables) == {"params", "batch_stats"}
    assert trees.flatten(model.params).keys() == flat(module, nnx.Param).keys()
    assert_trees_close(trees.flatten(model.params), flat(module, nnx.Param), rtol=0)
    assert_trees_close(
        trees.flatten(model.state["batch_stats"]), flat(module, nnx.BatchStat), rtol=0
    )


def test_layers_and_their_table_have_them_too():
    rows = cj.summary(model_of(net())).rows
    assert [row.name for row in rows] == [
        *(f"blocks/{i}/{name}" for i in (0, 1) for name in ("conv", "norm", "drop")),
        "logits",
    ]
    assert [row.kind for row in rows[:3]] == ["Conv", "BatchNorm", "Dropout"]
    assert rows[0].output_shape == (12, 12, 4)
    assert rows[0].parameters == 9 * 4 + 4
    assert rows[0].flops == 2 * 144 * 9 * 4
    assert rows[0].receptive_field == (3, 3)
    assert rows[-1].flops == 2 * 5 * 3


def test_evaluation_is_nnxs_own_and_leaves_the_module_as_it_was():
    module = net()
    logits = model_of(module)(IMAGES)
    assert not module.blocks[0].drop.deterministic
    assert type(module.blocks[0].conv) is nnx.Conv
    module.eval()
    np.testing.assert_allclose(logits, module(IMAGES), rtol=1e-5, atol=1e-6)


class Key(linen.Module):
    """What a Linen module draws first."""

    def __call__(self):
        return self.make_rng("dropout")


def seeded(module: nnx.Module, key: jax.Array) -> nnx.Module:
    """The module in training mode, each of its random streams with the key of its path."""
    module.train()
    for path, part in nnx.iter_graph(module):
        if isinstance(part, nnx.RngStream):
            name = "/".join(map(str, (*path, "key")))
            part.key[...] = rng.named(key, name)
            part.count[...] = jnp.uint32(0)
    return module


@pytest.mark.thorough
def test_training_is_nnxs_own_with_dropout_statistics_and_gradients():
    module = net()
    model = model_of(module)
    functions = model.functions()

    def loss(params):
        logits, state = functions.apply_train(params, model.state, IMAGES, KEY)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), state

    def nnx_loss(module):
        logits = module(IMAGES)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

    (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(model.params)
    key = Key().apply({}, rngs={"dropout": KEY})
    wanted, wanted_gradients = nnx.value_and_grad(nnx_loss)(seeded(module, key))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    pairs = nnx.to_flat_state(wanted_gradients)
    wanted_flat = {"/".join(map(str, path)): value[...] for path, value in pairs}
    assert_trees_close(trees.flatten(gradients), wanted_flat, rtol=1e-4, atol=1e-6)
    assert_trees_close(
        trees.flatten(state["batch_stats"]), flat(module, nnx.BatchStat), rtol=1e-5, atol=1e-6
    )


def test_the_key_of_the_step_decides_what_is_drawn():
    model = model_of(net())
    train = jax.jit(model.functions().apply_train)
    first, _ = train(model.params, model.state, IMAGES, KEY)
    assert first.tolist() == train(model.params, model.state, IMAGES, KEY)[0].tolist()
    assert first.tolist() != train(model.params, model.state, IMAGES, jax.random.key(1))[0].tolist()


def test_fit_ends_where_a_loop_by_hand_with_nnxs_optimizer_does(squares):
    images, labels = squares
    class_net = nnx.Sequential(
        nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, momentum=0.9, rngs=nnx.Rngs(0)),
        nnx.relu,
        lambda x: x.mean(axis=(1, 2)),
        nnx.Linear(4, 3, rngs=nnx.Rngs(1)),
    )
    config = cj.TrainingConfig(epochs=4, batch_size=len(images), monitor=None)
    model = cj.Model.from_nnx(class_net, (12, 12, 1))
    run = cj.fit(model, squares, config, optimizer=optax.sgd(0.5), verbose=False)
    optimizer = nnx.Optimizer(class_net, optax.sgd(0.5), wrt=nnx.Param)
    class_net.train()

    @nnx.jit
    def step(net, optimizer):
        def loss(net):
            logits = net(jnp.asarray(images, jnp.float32) / 255)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        optimizer.update(net, nnx.grad(loss)(net))

    for _ in range(4):
        step(class_net, optimizer)
    found = trees.flatten(run.model.variables)
    assert_trees_close(
        {k.partition("/")[2]: v for k, v in found.items()},
        {**flat(class_net, nnx.Param), **flat(class_net, nnx.BatchStat)},
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_frozen_batchnorm_uses_its_averages_and_keeps_them():
    model = model_of(net())
    _, state = model.functions(("blocks/0",)).apply_train(model.params, model.state, IMAGES, KEY)
    before = trees.flatten(model.state)
    same = {k for k, v in trees.flatten(state).items() if v.tolist() == before[k].tolist()}
    assert same == {f"batch_stats/blocks/0/norm/{name}" for name in ("mean", "var")}


def test_what_is_shared_is_there_once():
    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 3, rngs=rngs)
            self.second = nnx.List([self.first, nnx.relu])

        def __call__(self, x):
            return self.second[0](self.first(x))

    model = model_of(Twice(nnx.Rngs(0)), (3,))
    assert trees.flatten(model.params).keys() == {"first/bias", "first/kernel"}
    (row,) = cj.summary(model).rows
    assert (row.name, row.parameters, row.flops) == ("first", 12, 2 * 2 * 9)


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", [Dense, Looped, Computed, Compiled])
def test_layers_are_read_and_edited_within_nnxs_transformations(kind):
    module = kind(nnx.Rngs(0))
    model = model_of(module, (3,))
    prefix = {Dense: "", Looped: "layers/"}.get(kind, "layer/")
    for _ in range(2):  # what is compiled must not be taken for what is watched
        _, layers = taps.run(model.static, model.variables, ROWS, read=[f"{prefix}norm"])
        (*_, last) = layers[f"{prefix}norm"]
        np.testing.assert_allclose(jax.nn.relu(last), model(ROWS), rtol=1e-6)
    assert len(layers[f"{prefix}norm"]) == (3 if kind is Looped else 1)

    def edit(visit):
        return visit.proceed() * (0 if visit.path == f"{prefix}norm" else 1)

    assert not taps.run(model.static, model.variables, ROWS, edit=edit).outputs.any()
    module.eval()
    np.testing.assert_allclose(model(ROWS), module(ROWS), rtol=1e-5, atol=1e-6)
    train = model.functions().apply_train
    assert train(model.params, model.state, ROWS, KEY)[0].tolist() != model(ROWS).tolist()


def test_attention_is_nnxs_own():
    class Attending(nnx.Module):
        def __init__(self, rngs):
            self.attend = nnx.MultiHeadAttention(2, 4, dropout_rate=0.5, decode=False, rngs=rngs)
            self.logits = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.logits(self.attend(x.reshape(len(x), 9, 4)).mean(axis=1))

    module, images = Attending(nnx.Rngs(0)), IMAGES[:, :6, :6]
    maps = cj.explain.attention_maps(model_of(module, (6, 6, 1)), images)
    module.eval()
    look = nnx.capture(module.attend, nnx.Intermediate)
    _, seen = look(images.reshape(len(images), 9, 4), sow_weights=True)
    (wanted,) = seen["attention_weights"].get_value()
    assert maps.keys() == {"attend"}
    np.testing.assert_allclose(maps["attend"], wanted, rtol=1e-5, atol=1e-6)


def test_switches_and_rngs_of_call_are_set():
    class Switched(nnx.Module):
        def __init__(self, rngs):
            self.drop = nnx.Dropout(0.5)
            self.dense = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x, *, rngs, inference):
            return self.dense(self.drop(x, rngs=rngs, deterministic=inference))

    module = Switched(nnx.Rngs(0))
    model = model_of(module, (3,), train_argument="inference")
    assert model.spec.train_arguments == ("train", "not inference")
    np.testing.assert_allclose(model(ROWS), module(ROWS, rngs=None, inference=True), rtol=1e-6)
    train = model.functions().apply_train
    assert train(model.params, model.state, ROWS, KEY)[0].tolist() != model(ROWS).tolist()
    with pytest.raises(ValueError, match=r"cannot be applied to inputs of shape \[N, 3\]"):
        model_of(module, (3,))


@pytest.mark.thorough
def test_losses_that_a_module_sows_are_added():
    class Penalised(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            self.sow("losses", "size", (self.dense.kernel[...] ** 2).sum())
            return self.dense(x)

    module = Penalised(nnx.Rngs(0))
    with pytest.warns(DeprecationWarning, match="capture"):
        module(ROWS)  # what it sowed before is no variable
    model = model_of(module, (3,), task="values")
    assert set(model.variables) == {"params"}
    targets = np.ones((4, 2), np.float32)

    def loss(params):
        outputs = ROWS @ params["kernel"] + params["bias"][None]
        return ((outputs - targets) ** 2).mean() + (params["kernel"] ** 2).sum()

    step = cj.training.make_train_step(model, optimizer=optax.sgd(0.1))
    state = cj.training.TrainState.create(model, optax.sgd(0.1), seed=0)
    batch = {"inputs": ROWS, "labels": targets, "mask": np.ones(4, np.float32)}
    batch |= {"index": np.arange(4), "epoch": np.int32(0)}
    after, _ = step(state, batch)
    before = model.params["dense"]
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, before, jax.grad(loss)(before))
    assert_trees_close(after.variables()["params"]["dense"], wanted, rtol=1e-5, atol=1e-6)


def test_what_a_module_notes_is_left_out():
    class Noting(Dense):
        def __call__(self, x):
            x = super().__call__(x)
            self.sow(nnx.Intermediate, "features", x)
            return x

    module = Noting(nnx.Rngs(0))
    with pytest.warns(DeprecationWarning, match="capture"):
        module(ROWS)
    assert set(model_of(module, (3,)).variables) == {"params", "batch_stats"}


def test_a_function_draws_the_values_from_the_seed():
    def make(rngs):
        return NnxConvnet(rngs=rngs)

    model = model_of(make, seed=3)
    wanted = flat(make(nnx.Rngs(rng.stream(3, "parameters"))), nnx.Param)
    assert_trees_close(trees.flatten(model.params), wanted, rtol=0)
    assert trees.tree_hash(model.params) != trees.tree_hash(model_of(make, seed=4).params)
    assert model.static == model_of(net()).static
    of_class = model_of(NnxConvnet, seed=3)  # whose argument has no place, but a name
    assert trees.tree_hash(of_class.params) == trees.tree_hash(model.params)
    random = cj.explain.randomisation(
        model, IMAGES, cj.explain.methods_at("blocks/1/conv", ["grad_cam"]), groups=1
    )
    assert random.heatmaps.shape[:2] == (1, 2)


def test_a_model_is_saved_and_loaded_with_its_module(tmp_path):
    model = model_of(net(1))
    cj.save(model, tmp_path / "model")
    loaded = cj.load(tmp_path / "model", net(2))
    assert loaded(IMAGES).tolist() == model(IMAGES).tolist()
    with pytest.raises(cj.models.UnreadableModel, match=r"give it as cj\.load\(directory, module="):
        cj.load(tmp_path / "model")
    with pytest.raises(cj.models.UnreadableModel, match="do not fit NnxConvnet"):
        cj.load(tmp_path / "model", net(classes=4))
    other = net()
    other.blocks[1].norm.momentum = 0.5
    with pytest.raises(cj.models.UnreadableModel, match=r"blocks/1/norm/momentum"):
        cj.load(tmp_path / "model", other)


def test_weights_go_into_a_file_by_their_paths(tmp_path):
    file = cj.export_weights(model_of(net()), tmp_path / "weights.npz")
    with np.load(file) as weights:
        assert any("blocks/1/conv" in name for name in weights.files)


@pytest.mark.thorough
def test_a_run_that_died_is_resumed_to_the_same_bits(squares, tmp_path):
    def fit(directory, resume=False):
        config = cj.TrainingConfig(
            epochs=2, batch_size=32, checkpoint_every=1, monitor=None, resume=resume
        )
        model = cj.Model.from_nnx(net(), (12, 12, 1))
        return cj.fit(model, squares, config, directory=tmp_path / directory, verbose=False)

    wanted, count = fit("through"), itertools.count(1)

    def die(_):
        if next(count) == 5:
            raise RuntimeError("killed")

    undo = after_every_dispatch(die)
    try:
        with pytest.raises(RuntimeError, match="killed"):
            fit("killed")
    finally:
        undo()
    assert fit("killed", resume=True).parameter_hash == wanted.parameter_hash
    with pytest.raises(cj.runs.RunError, match="as its model"):
        cj.reproduce(tmp_path / "through", data=squares, verbose=False)
    model = cj.Model.from_nnx(net(), (12, 12, 1))
    assert cj.reproduce(tmp_path / "through", data=squares, model=model, verbose=False).same


@pytest.mark.thorough
def test_transfer_in_fifteen_lines(squares):
    images, labels = squares
    config = cj.TrainingConfig(epochs=3, batch_size=16, optimizer="adam", learning_rate=0.02)
    run = cj.fit(cj.Model.from_nnx(net(), (12, 12, 1)), squares, config, verbose=False)
    module = run.model.to_nnx()
    module.logits = nnx.Linear(5, 2, rngs=nnx.Rngs(1))
    model = cj.Model.from_nnx(module, (12, 12, 1), label_names=("left", "right"))
    config = cj.TrainingConfig(epochs=3, batch_size=16, frozen=("blocks/*",), learning_rate=0.1)
    tuned = cj.fit(model, (images, labels.clip(0, 1)), config, verbose=False).model
    inputs = tuned.spec.preprocess(images[:4])
    maps = cj.explain.grad_cam(tuned, inputs, layer="blocks/1/conv", target="right")
    assert maps.shape == (4, 12, 12)
    assert trees.tree_hash(tuned.params["blocks"]) == trees.tree_hash(run.model.params["blocks"])
    assert tuned.params["logits"]["kernel"].tolist() != module.logits.kernel[...].tolist()
    assert cj.predict(tuned, images[:4]).shape == (4, 2)
    assert cj.explain.activations(tuned, inputs, ["blocks/0/conv"])


class Wrong(nnx.Module):
    """Does one thing that a model does not."""

    def __init__(self, what):
        rngs = nnx.Rngs(0)
        self.what, self.deterministic = what, True
        self.dense = nnx.Linear(3, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.seen = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x):
        x = self.dense(x)
        if self.what == "drops":
            x = self.drop(x, deterministic=False)
        if self.what == "draws":
            x = x + self.drop.rngs.normal(x.shape)
        if self.what == "averages":
            x = self.norm(x, use_running_average=True)
        if self.what == "counts":
            self.seen[...] += 1
        if self.what == "sets" and not self.deterministic:
            self.dense.bias[...] = x.mean(axis=0)
        return x


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("drops", r"drop \(Dropout\) would be in training mode in evaluation too, whatever module"),
        ("draws", "it would draw random numbers in evaluation too"),
        ("averages", r"would stay in evaluation mode in training, .* unswitched=\('norm',\)"),
        ("counts", "would change batch_stats/seen in evaluation too, where nothing keeps it"),
        ("sets", "would change params/dense/bias in training itself"),
    ],
)
def test_what_a_training_could_not_honour_is_refused(what, said):
    with pytest.raises(ValueError, match=f"Wrong.*{said}"):
        model_of(Wrong(what), (3,))


class InLinen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return nnx.bridge.ToLinen(nnx.Linear, args=(3, 3), name="inner")(x)


@pytest.mark.thorough
def test_bridges_and_what_is_no_nnx_module_are_refused():
    bridged = nnx.Sequential(nnx.bridge.ToNNX(linen.Dense(3), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"its part layers/0 is a Linen module in nnx\.bridge"):
        model_of(bridged, (3,))
    with pytest.raises(ValueError, match=r"inner is an NNX module in nnx\.bridge\.ToLinen"):
        cj.Model.from_module(InLinen(), (3,))
    with pytest.raises(ValueError, match=r"Dense is a Linen module: cj.Model.from_module takes it"):
        model_of(linen.Dense(3), (3,))
    with pytest.raises(ValueError, match=r"got NnxConvnet: an NNX one is for cj.Model.from_nnx"):
        cj.Model.from_module(net(), (12, 12, 1))
    with pytest.raises(ValueError, match=r"a function that makes one of nnx\.Rngs, got 'net'"):
        model_of("net", (3,))
    with pytest.raises(ValueError, match=r"must make an NNX module of nnx.Rngs, it returns int"):
        model_of(lambda rngs: 3, (3,))
    with pytest.raises(ValueError, match=r"Linear cannot be called with nnx.Rngs alone \(missing"):
        model_of(nnx.Linear, (3,))
    shapes = nnx.eval_shape(lambda: Dense(nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"params/dense/bias has a shape and no value"):
        model_of(shapes, (3,))
    with pytest.raises(ValueError, match="MLP is no NNX module: to_nnx is for models of"):
        cj.create_model("mlp", units=(3,)).to_nnx()
    with pytest.raises(ValueError, match="was given with its values, so that no others can be"):
        cj.Model.initialise(model_of(net()).module, model_of(net()).spec, 1)
