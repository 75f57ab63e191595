"""The published files of the backbones are those that Keras' own applications ask for."""

import hashlib

import keras
import pytest
from keras.src.utils import file_utils
from keras_nets import abstract

from cnnjax.core.download_job import DownloadError
from cnnjax.models import BUILDERS, Release, imagenet

APPLICATIONS = {
    "resnet50": "ResNet50",
    "resnet50_v2": "ResNet50V2",
    "densenet121": "DenseNet121",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "inception_v3": "InceptionV3",
    "xception": "Xception",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "resnet101_v2": "ResNet101V2",
    "resnet152_v2": "ResNet152V2",
    "densenet169": "DenseNet169",
    "densenet201": "DenseNet201",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
    "efficientnet_v2_s": "EfficientNetV2S",
    **{f"efficientnet_b{n}": f"EfficientNetB{n}" for n in range(8)},
    **{f"convnext_{s}": f"ConvNeXt{s.title()}" for s in ("tiny", "small", "base", "large")},
}


# Of torchvision, where Keras has no such net.
TORCHVISION = {
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "alexnet": "AlexNet",
    "squeezenet1_0": "SqueezeNet1_0",
    "squeezenet1_1": "SqueezeNet1_1",
    "regnet_y_400mf": "RegNet_Y_400MF",
    "regnet_y_800mf": "RegNet_Y_800MF",
    "regnet_y_1_6gf": "RegNet_Y_1_6GF",
    "regnet_y_3_2gf": "RegNet_Y_3_2GF",
    "regnet_y_8gf": "RegNet_Y_8GF",
}


class Asked(Exception):
    """Stands for the download."""


@pytest.mark.slow
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_published_file_is_the_one_of_keras(name, include_top, monkeypatch):
    def get_file(fname, origin, file_hash=None, **_):
        raise Asked(origin, file_hash)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        getattr(keras.applications, APPLICATIONS[name])(weights="imagenet", include_top=include_top)
    release = BUILDERS[name].release
    release = release({}) if callable(release) else release
    path, digest = release.top if include_top else release.without_top
    url = path if path.startswith("https://") else f"{imagenet.HOST}/{path}"
    assert asked.value.args == (url.format(size=224), digest)


@pytest.mark.thorough
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_published_file_is_the_one_of_torchvision(name):
    models = pytest.importorskip("torchvision").models
    weights = models.get_weight(f"{TORCHVISION[name]}_Weights.IMAGENET1K_V1")
    release = BUILDERS[name].release
    assert release.top == release.without_top == (weights.url, release.top[1])
    assert weights.url.endswith(f"-{release.top[1]}.pth")
    published = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert BUILDERS[name].published["torchvision"] == published


def test_a_file_is_checked_by_the_digits_in_its_name(tmp_path, monkeypatch):
    file = tmp_path / "net.pth"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(imagenet, "download", lambda url, directory, **_: file)
    spec = abstract("alexnet").spec
    right, wrong = (Release.of_torchvision(f"net-{digits}") for digits in (digest[:8], "0" * 8))
    assert imagenet.weight_file("net", right, spec) == file
    with pytest.raises(DownloadError, match="expected one that begins with 00000000: delete it"):
        imagenet.weight_file("net", wrong, spec)
