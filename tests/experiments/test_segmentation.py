"""The segmentation of shapes: its data are those of the seed, its figure and its IoU are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

import cnnjax as cj
from experiments import segmentation


def test_shapes_are_a_function_of_the_seed() -> None:
    data, same, other = (segmentation.shapes(4, seed) for seed in (1, 1, 2))
    assert data.fingerprint == same.fingerprint != other.fingerprint
    assert (data.inputs.dtype, data.labels.dtype) == (np.uint8, np.int32)
    assert set(np.unique(segmentation.shapes(20, 0).labels)) == {0, 1, 2, 3}


@pytest.mark.thorough
def test_it_trains_measures_and_draws(tmp_path: Path) -> None:
    options = segmentation.SegmentationOptions(
        train_examples=20, test_examples=8, epochs=1, out=str(tmp_path / "new")
    )
    runs = segmentation.main(options)
    assert list(runs) == ["as_they_are", "altered"]
    model = cj.load(tmp_path / "new" / "altered")
    test = segmentation.shapes(8, 2)
    answers = cj.predict(model, test.inputs).argmax(-1).ravel()
    wanted = jaccard_score(test.labels.ravel(), answers, average=None, labels=range(4))
    metrics = runs["altered"][0].metrics
    np.testing.assert_allclose(metrics["test_each"], wanted, atol=1e-6)
    assert np.isclose(metrics["test_iou"], wanted.mean())
    image = Image.open(tmp_path / "new" / "segmentation.png")
    assert np.asarray(image.convert("L")).std() > 5
    cells = segmentation.iou_of_each(runs["altered"])
    assert float(cells[-1]) == round(100 * wanted.mean(), 2)
