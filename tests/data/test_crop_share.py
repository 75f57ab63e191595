"""The share of an image that evaluation keeps, as torchvision resizes and cuts."""

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj


def image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "resized", "box"),
    [
        (300, 400, (64, 85), (4, 14)),  # 85 - 56 = 29, half of it to even: 14
        (401, 300, (85, 64), (14, 4)),
        (40, 40, (64, 64), (4, 4)),
    ],
)
def test_the_shorter_side_is_resized_and_the_middle_cut_out(height, width, resized, box):
    pixels = image(height, width)
    whole = Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.BILINEAR)
    expected = np.asarray(whole)[box[0] : box[0] + 56, box[1] : box[1] + 56]
    ours = cj.data.resize_image(pixels, (56, 56), share=0.875)
    np.testing.assert_array_equal(ours, expected)


def test_torchvision_evaluates_so():
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    for height, width in ((300, 401), (401, 300), (97, 250)):
        pixels = Image.fromarray(image(height, width))
        theirs = transforms.center_crop(transforms.resize(pixels, [64]), [56, 56])
        ours = cj.data.resize_image(np.asarray(pixels), (56, 56), share=0.875)
        np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_an_image_of_the_size_stays_as_it_is():
    pixels = image(56, 56)
    np.testing.assert_array_equal(cj.data.resize_image(pixels, (56, 56), share=0.875), pixels)
