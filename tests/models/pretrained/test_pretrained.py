"""Weight files into models and back: every format, Keras' own files, damaged and foreign ones."""

import json
import pickle
import warnings
import zipfile
from pathlib import Path

import h5py
import jax
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models import WeightsDoNotFit
from cnnjax.models.imagenet import CLASS_INDEX
from cnnjax.weights import DamagedWeights, read_weights
from experiments.parity import FORMATS, randomise, save_weights, twins

WEIGHTS = Path(__file__).resolve().parents[4] / "shared" / "weights"
PHOTOS = WEIGHTS.parent / "photos"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"needs real weights in {WEIGHTS}")

SHAPE = (12, 12, 1)


def keras_net(units=10, seed=0):
    """The LeNet of the registry in Keras, small, with random values."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(20, 5, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(50, 5, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="dense1"),
            layers.Dense(units, name="logits"),
        ]
    )
    randomise(model, seed)
    return model


def lenet(**arguments):
    return cj.create_model("lenet", input_shape=SHAPE, **arguments)


def inputs(n=3):
    return np.random.default_rng(0).uniform(0, 1, (n, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "net.weights.h5"
    keras_net().save_weights(path)
    return path


@pytest.mark.sample(1)
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.thorough
def test_keras_files_of_every_format(suffix, tmp_path):
    twin = keras_net()
    path = tmp_path / f"net.{suffix}"
    save_weights(twin, path)
    model = lenet(weights=path)
    with jax.numpy_rank_promotion("allow"):  # Keras relies on it
        theirs = twin(inputs())
    np.testing.assert_allclose(model(inputs()), theirs, rtol=1e-5, atol=1e-5)
    assert model.spec.weights == path.name


@pytest.mark.sample(1)
@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors", ".npz"])
@pytest.mark.parametrize("name", ["lenet", "mobilenet"])
def test_what_is_exported_is_read_back_to_the_bit(name, suffix, tmp_path):
    arguments = {"alpha": 0.25, "input_shape": (32, 32, 3)} if name == "mobilenet" else {}
    model = cj.create_model(name, seed=3, **arguments)
    path = cj.export_weights(model, tmp_path / f"weights{suffix}")
    again = cj.create_model(name, weights=path, seed=4, **arguments)
    assert trees.tree_hash(again.variables) == trees.tree_hash(model.variables)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet",
        pytest.param("xception", marks=pytest.mark.slow),
        pytest.param("inception_v3", marks=pytest.mark.slow),
    ],
)
def test_from_keras_and_back_every_weight_is_the_same_to_the_bit(name, tmp_path):
    size = (75, 75)
    arguments = {"alpha": 0.25} if name == "mobilenet" else {}
    pair = twins(name, size, include_top=False, **arguments)
    before = [np.asarray(w) for w in pair.keras.get_weights()]
    path = cj.export_weights(pair.ours, tmp_path / "back.weights.h5")
    for variable in pair.keras.weights:
        variable.assign(np.zeros(variable.shape))
    pair.keras.load_weights(path)
    after = pair.keras.get_weights()
    assert len(before) == len(after) > 0
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_automatic_names_of_a_later_session_do_not_matter(tmp_path):
    """Keras counts on: the second model's layers are conv2d_4, ...; the order decides."""
    keras.utils.clear_session()
    for _ in range(4):  # as many as a first Xception would have taken names for
        keras.layers.Conv2D(1, 1)
        keras.layers.BatchNormalization()
    net = keras.applications.Xception(weights=None, include_top=False, input_shape=(71, 71, 3))
    assert "conv2d_4" in [layer.name for layer in net.layers]
    randomise(net, 0)
    path = tmp_path / "net.h5"
    save_weights(net, path)
    model = cj.create_model("xception", include_top=False, input_shape=(71, 71, 3), weights=path)
    kernel = model.params["conv2d_3"]["kernel"]
    assert np.array_equal(kernel, net.get_layer("conv2d_7").kernel)


# The head


def test_another_number_of_classes_keeps_the_rest_and_says_so(keras_file):
    with pytest.warns(UserWarning, match=r"the head \(logits\) is new, with random weights"):
        model = lenet(weights=keras_file, num_classes=3, seed=5)
    whole = lenet(weights=keras_file)
    assert model.params["logits"]["kernel"].shape == (500, 3)
    assert np.std(model.params["logits"]["kernel"]) > 0
    for layer in ("conv1", "conv2", "dense1"):
        assert trees.tree_hash(model.params[layer]) == trees.tree_hash(whole.params[layer])


@pytest.mark.thorough
def test_without_the_top_from_a_file_with_it_and_the_other_way_round(tmp_path):
    arguments = {"alpha": 0.25, "input_shape": (32, 32, 3)}
    whole = cj.create_model("mobilenet", **arguments)
    with_top = cj.export_weights(whole, tmp_path / "top.weights.h5")
    bare = cj.create_model("mobilenet", include_top=False, weights=with_top, **arguments)
    assert "conv_preds" not in bare.params
    no_top = cj.export_weights(bare, tmp_path / "no_top.weights.h5")
    with pytest.warns(UserWarning, match=r"the head \(conv_preds\) is new"):
        again = cj.create_model("mobilenet", weights=no_top, seed=1, **arguments)
    params = dict(whole.params)
    same = {k: v for k, v in again.params.items() if k != "conv_preds"}
    params.pop("conv_preds")
    assert trees.tree_hash(same) == trees.tree_hash(params)


def mobilenet(**arguments):
    return cj.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3), **arguments)


@pytest.fixture(scope="module")
def finetuned():
    """Keras' MobileNet with another head, flat and as a layer of a Sequential model."""
    base = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    randomise(base, 1)
    x = layers.GlobalAveragePooling2D()(base.output)
    flat = keras.Model(base.input, layers.Dense(10, name="mine")(x))
    nested = keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(10)])
    return {"flat": flat, "nested": nested}


@pytest.mark.sample(1)
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", ["flat", "nested"])
@pytest.mark.thorough
def test_the_backbone_of_a_finetuned_file_is_kept(kind, suffix, finetuned, tmp_path):
    path = tmp_path / f"net.{suffix}"
    save_weights(finetuned[kind], path)
    with pytest.warns(UserWarning, match=r"the head \(conv_preds\) is new"):
        model = mobilenet(num_classes=10, weights=path)
    flat = finetuned["flat"]
    kernel = model.params["conv_pw_7"]["kernel"]
    assert np.array_equal(kernel, flat.get_layer("conv_pw_7").kernel)
    mean = model.state["batch_stats"]["conv_dw_13_bn"]["moving_mean"]
    assert np.array_equal(mean, flat.get_layer("conv_dw_13_bn").moving_mean)
    bare = mobilenet(include_top=False, weights=path)  # without a warning: nothing is missing
    assert np.array_equal(bare.params["conv_pw_7"]["kernel"], kernel)


@pytest.mark.sample(1)
@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
@pytest.mark.thorough
def test_a_file_of_a_trained_model_with_its_optimizer(suffix, tmp_path):
    """Step counters and random states lie in it as well."""
    twin = keras_net()
    twin.add(layers.Dropout(0.5))
    twin.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with jax.numpy_rank_promotion("allow"):  # Keras relies on it
        twin.fit(inputs(4), np.arange(4), verbose=0)
        theirs = twin.predict(inputs(), verbose=0)
    path = tmp_path / f"net.{suffix}"
    save_weights(twin, path)
    np.testing.assert_allclose(lenet(weights=path)(inputs()), theirs, rtol=1e-4, atol=1e-4)


# Files that do not fit


@pytest.mark.thorough
def test_a_file_of_several_nets_is_refused(tmp_path):
    """Which of the two would be meant?"""
    i = layers.Input((32, 32, 3))
    nets = [
        keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3), name=name)
        for name in ("a", "b")
    ]
    path = tmp_path / "ensemble.weights.h5"
    keras.Model(i, layers.Average()([net(i) for net in nets])).save_weights(path)
    for arguments in ({}, {"include_top": False}):
        with pytest.raises(WeightsDoNotFit, match="has 2 layers named 'conv1_bn', so it"):
            mobilenet(weights=path, **arguments)


@pytest.mark.slow
def test_layers_with_automatic_names_are_not_matched_by_name(tmp_path):
    """A convolution before the base moves all of Keras' numbers: conv2d is not its conv2d."""
    keras.utils.clear_session()
    i = layers.Input((75, 75, 3))
    x = layers.Conv2D(3, 1)(i)
    base = keras.applications.InceptionV3(
        weights=None, include_top=False, input_tensor=x, input_shape=(75, 75, 3)
    )
    path = tmp_path / "shifted.weights.h5"
    base.save_weights(path)
    with pytest.raises(WeightsDoNotFit):
        cj.create_model(
            "inception_v3",
            include_top=False,
            input_shape=(75, 75, 3),
            weights=path,
            allow_partial=True,
        )


@pytest.mark.slow
def test_a_file_of_another_model_offers_the_one_that_fits(tmp_path):
    model = cj.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3))
    path = cj.export_weights(model, tmp_path / "quarter.weights.h5")
    with pytest.raises(WeightsDoNotFit, match=r"weights of mobilenet \(alpha=0\.25\)") as caught:
        cj.create_model("resnet50", input_shape=(32, 32, 3), weights=path)
    assert "- conv2_block1_" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_extra_weights_are_listed(tmp_path):
    model = lenet()
    flat = trees.flatten(model.params)
    arrays = {k: np.asarray(v) for k, v in flat.items() if k != "conv2/bias"}
    arrays["conv9/kernel"] = np.zeros((1, 1, 1, 1), np.float32)
    arrays["conv1/kernel"] = arrays["conv1/kernel"][:3]
    path = tmp_path / "partial.npz"
    np.savez(path, **arrays)
    with pytest.raises(WeightsDoNotFit) as caught:
        lenet(weights=path)
    text = str(caught.value)
    assert "- conv2/bias" in text
    assert "+ conv9" in text
    assert "~ conv1/kernel: expected [5, 5, 1, 20], found [3, 5, 1, 20]" in text
    with pytest.warns(UserWarning, match=r"loaded in part.*- conv2/bias") as warned:
        part = lenet(weights=path, allow_partial=True, seed=7)
    assert len(warned) == 1
    assert np.array_equal(part.params["conv2"]["kernel"], model.params["conv2"]["kernel"])
    fresh = lenet(seed=7)
    assert np.array_equal(part.params["conv1"]["kernel"], fresh.params["conv1"]["kernel"])


@pytest.mark.slow
def test_a_file_with_nothing_that_fits_is_refused_even_in_part(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **{"somewhere/kernel": np.zeros((2, 2), np.float32)})
    with pytest.raises(WeightsDoNotFit):
        lenet(weights=path, allow_partial=True)


def test_the_old_resnet_file_is_recognised(tmp_path):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"res2a_branch2a"]
        group = file.create_group("res2a_branch2a")
        group.attrs["weight_names"] = [b"res2a_branch2a_W:0"]
        group["res2a_branch2a_W:0"] = np.zeros((1, 1, 64, 64), np.float32)
    with pytest.raises(WeightsDoNotFit, match="the ResNet50 file of Keras before"):
        cj.create_model("resnet50", input_shape=(32, 32, 3), weights=path)


# Damaged and hostile files


def test_groups_linked_many_times_over_are_visited_once(tmp_path):
    path = tmp_path / "fan.weights.h5"
    with h5py.File(path, "w") as file:
        inner = file.create_group("layers/end")
        for level in range(12):
            outer = file.create_group(f"level{level}")
            for number in range(6):
                outer[f"link{number}"] = inner
            inner = outer
        file["layers/net"] = inner
    with pytest.raises(DamagedWeights, match="is there more than once"):
        lenet(weights=path)


def test_a_layer_listed_again_and_again_is_refused(tmp_path):
    path = tmp_path / "again.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1"] * 600
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"kernel"]
        group["kernel"] = np.zeros(4, np.float32)
    with pytest.raises(DamagedWeights, match="layer_names lists a name more than once"):
        lenet(weights=path)


def test_many_small_empty_arrays_count_together(tmp_path):
    path = tmp_path / "many.weights.h5"
    with h5py.File(path, "w") as file:
        for number in range(40):
            group = file.create_group(f"layers/conv2d_{number}/vars")
            group.create_dataset("0", (1 << 17,), np.float32)  # nothing of it is stored
    with pytest.raises(DamagedWeights, match="would unpack"):
        lenet(weights=path)


def npz_with(tmp_path, header):
    path = tmp_path / "claims.npz"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("conv1/kernel.npy", body + bytes(16))
    return path


def test_arrays_that_claim_more_than_they_hold(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000,), }\n"
    with pytest.raises(DamagedWeights, match=r"announces .* \[100000000000000\]"):
        lenet(weights=npz_with(tmp_path, header))


def test_names_below_a_name(tmp_path):
    for suffix in (".npz", ".safetensors"):
        path = tmp_path / f"below{suffix}"
        arrays = {"conv1": np.zeros(2, np.float32), "conv1/kernel": np.zeros(2, np.float32)}
        if suffix == ".npz":
            np.savez(path, **arrays)
        else:
            from safetensors.numpy import save_file

            save_file(arrays, path)
        with pytest.raises(DamagedWeights, match=r"'conv1/kernel' lies below 'conv1'"):
            lenet(weights=path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_no_numbers(value, tmp_path):
    path = tmp_path / "nan.npz"
    np.savez(path, **{"conv1/kernel": np.full((5, 5, 1, 20), value)})
    with pytest.raises(DamagedWeights, match="'conv1/kernel' holds NaN, infinity or more than"):
        lenet(weights=path)


def test_bfloat16_is_floating(tmp_path):
    from safetensors.numpy import save_file

    model = lenet()
    arrays = {k: np.asarray(v.astype("bfloat16")) for k, v in trees.flatten(model.params).items()}
    save_file(arrays, tmp_path / "brain.safetensors")
    half = lenet(weights=tmp_path / "brain.safetensors")
    np.testing.assert_allclose(half(inputs()), model(inputs()), rtol=0.1, atol=0.1)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a directory"):
        lenet(weights=tmp_path)
    with pytest.raises(ValueError, match=r"weights must be None, 'imagenet' or the .*'imagnet'"):
        cj.create_model("vgg16", weights="imagnet")


def test_a_truncated_file(keras_file, tmp_path):
    for keep in (4, 100, 3000):
        path = tmp_path / "cut.weights.h5"
        path.write_bytes(keras_file.read_bytes()[:keep])
        with pytest.raises(DamagedWeights, match=r"cut\.weights\.h5"):
            lenet(weights=path)


def test_foreign_files(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("not weights")
    with pytest.raises(DamagedWeights, match=r"is no weight file: expected \.weights\.h5, \.h5"):
        lenet(weights=text)
    empty = tmp_path / "empty.h5"
    with h5py.File(empty, "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(DamagedWeights, match="holds no layers as Keras writes them"):
        lenet(weights=empty)
    with pytest.raises(FileNotFoundError, match=r"weight file .*nowhere\.h5 does not exist"):
        lenet(weights=tmp_path / "nowhere.h5")
    archive = tmp_path / "other.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(DamagedWeights):
        lenet(weights=archive)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("pickle_was_run"),))


def test_a_pickle_is_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    disguised = tmp_path / "weights.h5"
    disguised.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DamagedWeights, match="is a pickle, which could run any code"):
        lenet(weights=disguised)
    inside = tmp_path / "weights.npz"
    np.savez(inside, **{"conv1/kernel": np.array([Payload()], dtype=object)})
    with pytest.raises(DamagedWeights, match=r"weights\.npz is not a readable \.npz file"):
        lenet(weights=inside)
    assert not (tmp_path / "pickle_was_run").exists()


def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", bytes(50 << 20))
    with pytest.raises(DamagedWeights, match=r"would unpack from .* to 52,428,800 bytes"):
        lenet(weights=bomb)
    hdf5 = tmp_path / "bomb.h5"
    with h5py.File(hdf5, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"kernel"]
        group.create_dataset(
            "kernel", (1 << 40,), np.float32, chunks=(1 << 20,), compression="gzip"
        )
    with pytest.raises(DamagedWeights, match="would unpack"):
        lenet(weights=hdf5)
    npz = tmp_path / "bomb.npz"
    np.savez_compressed(npz, **{"conv1/kernel": np.zeros((50 << 18), np.float32)})
    with pytest.raises(DamagedWeights, match="would unpack"):
        lenet(weights=npz)


def test_members_with_paths_are_not_followed(tmp_path, keras_file):
    """Nothing is extracted: of a .keras file one member is read, by its exact name."""
    archive = tmp_path / "traversal.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../escaped", b"x")
        file.write(keras_file, "model.weights.h5")
    before = sorted(p.name for p in tmp_path.parent.iterdir())
    assert np.isfinite(lenet(weights=archive)(inputs())).all()
    assert sorted(p.name for p in tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("link", ["external", "soft"])
def test_links_are_not_followed(link, tmp_path, keras_file):
    path = tmp_path / "links.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        target = str(keras_file)
        file["conv1"] = h5py.ExternalLink(target, "/") if link == "external" else h5py.SoftLink("/")
    with pytest.raises(DamagedWeights, match="is a link, which is not followed"):
        lenet(weights=path)


def test_data_in_another_file_is_not_opened(tmp_path):
    path, other = tmp_path / "outside.h5", tmp_path / "other.bin"
    other.write_bytes(bytes(4))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"kernel"]
        group.create_dataset("kernel", (1,), np.float32, external=[(str(other), 0, 4)])
    with pytest.raises(DamagedWeights, match="lies in another file"):
        lenet(weights=path)


def test_integers_are_no_weights(tmp_path):
    path = tmp_path / "integers.npz"
    np.savez(path, **{"conv1/kernel": np.zeros((5, 5, 1, 20), np.int8)})
    with pytest.raises(DamagedWeights, match=r"'conv1/kernel' holds int8"):
        lenet(weights=path)


def test_half_precision_becomes_single(tmp_path):
    path = tmp_path / "half.npz"
    model = lenet()
    np.savez(path, **{k: np.asarray(v, np.float16) for k, v in trees.flatten(model.params).items()})
    half = lenet(weights=path)
    assert half.params["conv1"]["kernel"].dtype == np.float32
    np.testing.assert_allclose(half(inputs()), model(inputs()), rtol=1e-2, atol=1e-2)


# Export


def test_what_keras_does_not_have_is_not_exported_to_it(tmp_path):
    from flax import linen

    class Foreign(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Conv(3, (4, 4), padding="VALID")(x).reshape(x.shape[0], -1)

    model = cj.Model.from_module(Foreign(), (4, 4, 1))
    model_path = cj.export_weights(model, tmp_path / "any.npz")
    assert read_weights(model_path).layers[0].name == "Conv_0"
    with pytest.raises(ValueError, match="Conv_0 is a Conv, which Keras does not have"):
        cj.export_weights(model, tmp_path / "any.weights.h5")
    with pytest.raises(ValueError, match=r"must end with \.weights\.h5, \.safetensors or \.npz"):
        cj.export_weights(model, tmp_path / "any.h5")


def test_a_net_whose_order_is_not_known_is_not_exported_to_keras(tmp_path):
    from flax import linen

    class Sum(linen.Module):
        @linen.compact
        def __call__(self, x):
            a, b = cj.nn.Conv2D(2, 3, name="a")(x), cj.nn.Conv2D(2, 3, name="b")(x)
            return cj.nn.Dense(2, name="logits")((a + b).reshape(x.shape[0], -1))

    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            conv = cj.nn.Conv2D(1, 3, padding="same", name="conv")
            return cj.nn.Dense(2, name="logits")(cj.nn.Flatten(name="flatten")(conv(conv(x))))

    for module in (Sum(), Twice()):
        model = cj.Model.from_module(module, (4, 4, 1))
        with pytest.raises(ValueError, match="order of its layers is not known"):
            cj.export_weights(model, tmp_path / "net.weights.h5")
    assert not list(tmp_path.iterdir())


# ImageNet


def test_published_weights_come_from_the_cache_and_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"wrong")
    with pytest.raises(OSError, match="6d6bbae143d832006294945121d1f1fc"):
        cj.create_model("vgg16", include_top=False, weights="imagenet")


@pytest.mark.thorough
def test_a_mobilenet_put_there_by_hand_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("cnnjax.models.imagenet.HOST", "http://127.0.0.1:9")
    monkeypatch.setattr("cnnjax.models.imagenet._CLASS_INDEX_URL", "http://127.0.0.1:9/index.json")
    model = cj.create_model("mobilenet", alpha=0.5, input_shape=(128, 128, 3))
    (tmp_path / "weights").mkdir()
    exported = cj.export_weights(model, tmp_path / "x.weights.h5")
    exported.rename(tmp_path / "weights" / "mobilenet_5_0_128_tf.h5")
    arguments = {"alpha": 0.5, "weights": "imagenet"}
    again = cj.create_model("mobilenet", input_shape=(128, 128, 3), **arguments)
    assert trees.tree_hash(again.variables) == trees.tree_hash(model.variables)
    with (
        pytest.warns(UserWarning, match=r"no published weights for inputs of 96x96"),
        pytest.raises(OSError, match=r"127\.0\.0\.1:9/mobilenet/mobilenet_5_0_224_tf\.h5"),
    ):
        cj.create_model("mobilenet", input_shape=(96, 96, 3), **arguments)


def test_small_models_have_no_published_weights():
    with pytest.raises(ValueError, match="weights='imagenet' is not published for 'lenet'"):
        lenet(weights="imagenet")


@pytest.mark.sample(1)
@needs_weights
@pytest.mark.parametrize(
    "file",
    [
        "mobilenet_v1_0.25_224_keras.keras",
        "mobilenet_v1_0.25_224_keras.legacy.h5",
        "mobilenet_v1_0.25_224_keras.weights.h5",
        "mobilenet_v1_1.0_224_dequant.weights.h5",
    ],
)
@pytest.mark.thorough
def test_real_weights_give_the_predictions_of_keras(file):
    expected = json.loads((WEIGHTS / "expected_top5.json").read_text())
    stem = file.split(".legacy")[0].removesuffix(".keras").removesuffix(".weights.h5")
    photos = expected[stem]
    assert len(photos) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = cj.create_model(
            "mobilenet", alpha=0.25 if "0.25" in file else 1.0, weights=WEIGHTS / file
        )
    probs = cj.predict(model, [cj.data.read_image(PHOTOS / photo) for photo in photos])
    names = model.spec.label_names
    for row, top in zip(probs, photos.values(), strict=True):
        for index, name, probability in top:
            assert names[index] == name
            assert row[index] == pytest.approx(probability, abs=1e-4)
        best = np.argsort(-row)[:5]
        assert {int(k) for k in best} == {index for index, _, _ in top}


@needs_weights
@pytest.mark.slow
def test_the_partial_vgg19_is_loaded_in_part():
    file = WEIGHTS / "vgg19_blocks1-3_partial.npz"
    arguments = {"include_top": False, "input_shape": (32, 32, 3)}
    with pytest.raises(WeightsDoNotFit, match="- block4_conv1/bias"):
        cj.create_model("vgg19", weights=file, **arguments)
    with pytest.warns(UserWarning, match="loaded in part: - block4_conv1/"):
        model = cj.create_model("vgg19", weights=file, allow_partial=True, **arguments)
    with np.load(file) as arrays:
        for key in arrays.files:
            layer, weight = key.split("/")
            assert np.array_equal(model.params[layer][weight], arrays[key])


@needs_weights
def test_classes_are_named_by_the_index_beside_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    (tmp_path / "weights").mkdir()
    text = (WEIGHTS / CLASS_INDEX).read_bytes()
    (tmp_path / "weights" / CLASS_INDEX).write_bytes(text)
    probs = np.zeros((1, 1000))
    probs[0, 281] = 1
    assert cj.decode_predictions(probs, top=1) == [[("n02123045", "tabby", 1.0)]]


def test_names_that_cannot_be_had_are_an_error_that_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("cnnjax.models.imagenet._CLASS_INDEX_URL", "http://127.0.0.1:9/index.json")
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9.*put the file by hand at"):
        cj.decode_predictions(np.full((1, 1000), 1e-3))
