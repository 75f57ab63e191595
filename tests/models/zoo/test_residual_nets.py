"""ResNet v1 and v2, DenseNet and RegNetY: counts as published, and every layer against Keras'."""

import jax
import keras
import pytest
from keras.src.applications import densenet as keras_densenet
from keras.src.applications import resnet as keras_resnet
from keras_nets import abstract, beyond, parameters, twin

import cnnjax as cj
from cnnjax.models import BUILDERS, register
from cnnjax.models.zoo.densenet import DenseNet121
from cnnjax.models.zoo.resnet import ResNet50
from cnnjax.models.zoo.resnet_v2 import ResNet50V2
from experiments import parity

# As Keras' documentation and torchvision's metadata have them; Keras counts statistics, too.
KERAS = {
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "resnet152": 60_419_944,
    "resnet50_v2": 25_613_800,
    "resnet101_v2": 44_675_560,
    "resnet152_v2": 60_380_648,
    "densenet121": 8_062_504,
    "densenet169": 14_307_880,
    "densenet201": 20_242_984,
}
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "regnet_y_400mf": 4_344_144,
    "regnet_y_800mf": 6_432_512,
    "regnet_y_1_6gf": 11_202_430,
    "regnet_y_3_2gf": 19_436_338,
    "regnet_y_8gf": 39_381_472,
}


def marked(names):
    """The shallowest net by default, one of each family thoroughly, and all others by hand."""
    thorough = {"resnet50", "resnet50_v2", "densenet121", "regnet_y_400mf"}
    marks = {name: pytest.mark.thorough if name in thorough else pytest.mark.slow for name in names}
    return [pytest.param(n, marks=() if n == "resnet18" else marks[n]) for n in names]


def origin(name):
    return {"origin": "torch"} if "origin" in BUILDERS[name].arguments else {}


@pytest.mark.parametrize("name", marked(KERAS))
def test_number_of_parameters_is_that_published_by_keras(name):
    assert parameters(name) == KERAS[name]


@pytest.mark.parametrize("name", marked(TORCHVISION))
def test_number_of_parameters_is_that_published_by_torchvision(name):
    net = abstract(name, **origin(name))
    assert sum(leaf.size for leaf in jax.tree.leaves(net.params)) == TORCHVISION[name]
    assert {net.spec.cam_layer, *net.spec.head} <= set(net.layer_names)


def shallow_resnet(size, v2):
    """Keras' net with two blocks a stage, no top."""

    def stages(x):
        stack = (
            keras_resnet.stack_residual_blocks_v2 if v2 else keras_resnet.stack_residual_blocks_v1
        )
        odd = 5 if v2 else 2  # the stage without a stride
        for number, filters in enumerate((64, 128, 256, 512), start=2):
            x = stack(x, filters, 2, stride1=1 if number == odd else 2, name=f"conv{number}")
        return x

    return keras_resnet.ResNet(
        stages, v2, True, include_top=False, weights=None, input_shape=(*size, 3), pooling="avg"
    )


def shallow_densenet(size):
    return keras_densenet.DenseNet(
        [2, 2, 2, 2], include_top=False, weights=None, input_shape=(*size, 3), pooling="avg"
    )


@pytest.fixture
def shallow(request):
    """A family's net with two blocks a stage, under a name of its own."""
    base = request.param
    register("shallow", (32, 32, 3), min_size=32, num_classes=1000, preprocessing="none")(
        type("Shallow", (base,), {"blocks": (2, 2, 2, 2), "__doc__": "A shallow net."})
    )
    yield base
    BUILDERS.pop("shallow")


@pytest.mark.thorough
@pytest.mark.parametrize("shallow", [ResNet50, ResNet50V2, DenseNet121], indirect=True)
def test_every_layer_equals_keras_at_an_odd_size_with_two_blocks_a_stage(shallow):
    size = (37, 50)

    def net():
        keras.utils.clear_session()
        if shallow is DenseNet121:
            return shallow_densenet(size)
        return shallow_resnet(size, v2=shallow is ResNet50V2)

    pair = twin(net, "shallow", include_top=False, pooling="avg")
    assert beyond(parity.compare(pair, batch=2)) == ""


@pytest.mark.parametrize("name", marked(["resnet18", "resnet50_v2", "regnet_y_400mf"]))
def test_stochastic_depth_is_a_layer_of_each_block_but_the_first_and_nothing_at_rate_zero(name):
    plain, deep = abstract(name), abstract(name, stochastic_depth=0.2)
    drops = [layer for layer in deep.layer_names if layer.endswith("_drop")]
    blocks = [layer for layer in plain.layer_names if layer.endswith("_out")]
    assert len(drops) == len(blocks) - 1
    assert sorted({*deep.layer_names} - {*drops}) == sorted(plain.layer_names)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v3", "xception"])
def test_an_unknown_origin_is_named(name):
    with pytest.raises(ValueError, match="origin must be 'keras' or 'torch', got 'tf'"):
        abstract(name, origin="tf")


def test_the_older_names_of_torchvisions_published_densenets_are_known():
    table = BUILDERS["densenet121"].foreign[0]
    older = ["features.denseblock1.denselayer2.norm.1", "features.denseblock4.denselayer16.conv.2"]
    newer = [name.replace("norm.", "norm").replace("conv.", "conv") for name in older]
    ours = ["conv2_block2_0_bn", "conv5_block16_2_conv"]
    assert list(table.ours(older, {}).values()) == list(table.ours(newer, {}).values()) == ours


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v3", "xception"])
def test_keras_published_weights_are_not_for_pytorchs_arithmetic(name):
    with pytest.raises(ValueError, match="those of Keras, for origin='keras', got origin='torch'"):
        cj.create_model(name, origin="torch", weights="imagenet")
