"""A trained model knows what the classes of its data are called."""

from __future__ import annotations

import numpy as np
import pytest

import cnnjax as cj

CONFIG = cj.TrainingConfig(epochs=1, batch_size=8)


def pets(count: int = 16) -> cj.data.Dataset:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1), np.uint8)
    return cj.data.from_arrays(images, np.arange(count) % 2, ("cat", "dog"))


@pytest.mark.parametrize(
    ("own", "classes", "expected"),
    [((), 2, ("cat", "dog")), (("a", "b"), 2, ("a", "b")), ((), 1, ("cat", "dog")), ((), 3, ())],
)
def test_names_of_the_data_are_taken_where_the_model_has_none_and_they_fit(
    own: tuple[str, ...], classes: int, expected: tuple[str, ...], tmp_path
) -> None:
    model = cj.create_model(
        "mlp", input_shape=(4, 4, 1), units=(2,), num_classes=classes, label_names=own
    )
    run = cj.fit(model, pets(), CONFIG, directory=tmp_path / "run", verbose=False, report=False)
    assert run.model.spec.label_names == expected
    assert cj.load(tmp_path / "run").spec.label_names == expected
    assert model.spec.label_names == own
