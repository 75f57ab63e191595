"""The published files of the backbones are those that Keras' own applications ask for."""

import keras
import pytest
from keras.src.utils import file_utils

from cnnjax.models import BUILDERS, imagenet

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
