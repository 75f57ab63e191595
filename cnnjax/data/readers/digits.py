"""The handwritten digits that come with the package: the data set that needs no files.

digits.npz holds the test set of E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository 1998, doi.org/10.24432/C50P49, CC BY 4.0: uint8 [1797, 8, 8] from 0
to 16, the number of dark pixels in blocks of 4x4, and labels; the same values as scikit-learn's
`load_digits`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnnjax.core import rng
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import Splits


def load_digits() -> Splits:
    """1,797 handwritten digits (8x8) at 28x28; every run tests on the same fifth."""
    from PIL import Image

    with np.load(Path(__file__).with_name("digits.npz")) as digits:
        small = (digits["images"] * (255 / 16)).round().astype(np.uint8)
        labels = digits["labels"].astype(np.int32)
    images = np.stack(
        [np.asarray(Image.fromarray(i).resize((28, 28), Image.Resampling.BICUBIC)) for i in small]
    )[..., None]
    names = tuple(str(i) for i in range(10))
    order = rng.permutation(len(labels), 0, "digits")
    cut = len(labels) // 5
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    return Splits(
        train=Dataset(images[train], labels[train], names, "digits train"),
        test=Dataset(images[test], labels[test], names, "digits test"),
    )
