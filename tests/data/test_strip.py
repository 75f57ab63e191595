"""What a notebook shows of data sets."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import Dataset, Splits, from_arrays


def images_of(html: str) -> list[np.ndarray]:
    found = re.findall(r'base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in found]


def captions_of(html: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", html)


def test_a_data_set_is_one_line_and_its_images_from_beginning_to_end(squares):
    images, labels = squares
    data = from_arrays(images, labels, ("left", "<b>", "right"), name="squares")
    assert repr(data) == "Dataset('squares', 96 images 12x12x1 uint8, 3 classes)"
    shown = data._repr_html_()
    assert [image.tolist() for image in images_of(shown)[::9]] == [
        images[0, ..., 0].tolist(),
        images[-1, ..., 0].tolist(),
    ]
    assert len(captions_of(shown)) == 10
    assert set(captions_of(shown)) <= {"left", "&lt;b&gt;", "right"}


def test_splits_are_one_line_and_a_table_with_the_training_images(squares):
    splits = Splits(from_arrays(*squares)).with_validation(0.25)
    assert repr(splits) == "Splits(train 72, validation 24; images 12x12x1 uint8)"
    shown = splits._repr_html_()
    assert shown.count("<tr>") == 3
    assert images_of(shown)[0].tolist() == splits.train.inputs[0, ..., 0].tolist()


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        pytest.param(np.full((1, 2, 2, 1), 255.0, np.float32), 255, id="pixels"),
        pytest.param(np.array([-1.0, 0, 0, 1], np.float32).reshape(1, 2, 2, 1), 127, id="signed"),
        pytest.param(
            np.array([0, 500, 500, 1000], np.uint16).reshape(1, 2, 2, 1), 127, id="uint16"
        ),
    ],
)
def test_what_is_no_uint8_is_scaled(pixels, wanted):
    (image,) = images_of(Dataset(pixels, np.zeros(1, np.int32))._repr_html_())
    assert image[0, 1] == wanted


def test_large_images_are_made_small_and_many_channels_grey():
    data = Dataset(np.zeros((1, 400, 300, 5), np.uint8), np.zeros((1, 2), np.float32))
    (image,) = images_of(data._repr_html_())
    assert image.shape == (100, 75)
    assert captions_of(data._repr_html_()) == []


def test_what_is_no_image_has_no_strip():
    data = Dataset(np.zeros((4, 7), np.int32), np.arange(4), name="words")
    assert repr(data) == "Dataset('words', 4 inputs 7 int32)"
    assert images_of(data._repr_html_()) == []
