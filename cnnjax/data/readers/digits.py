"""The handwritten digits that scikit-learn carries: the data set that needs no files."""

from __future__ import annotations

import numpy as np

from cnnjax.core import rng
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import Splits


def load_digits() -> Splits:
    """scikit-learn's 1,797 handwritten digits (8x8) at 28x28; every run tests on the same fifth."""
    from PIL import Image
    from sklearn import datasets

    digits = datasets.load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(i).resize((28, 28), Image.Resampling.BICUBIC)) for i in small]
    )[..., None]
    labels = digits.target.astype(np.int32)
    names = tuple(str(i) for i in range(10))
    order = rng.permutation(len(labels), 0, "digits")
    cut = len(labels) // 5
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    return Splits(
        train=Dataset(images[train], labels[train], names, "digits train"),
        test=Dataset(images[test], labels[test], names, "digits test"),
    )
