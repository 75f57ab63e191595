"""Wrong labels are found by influence: a training and its curves."""

import numpy as np
import pytest

from experiments.research import wrong_labels


@pytest.mark.thorough
def test_wrong_labels_are_found_far_above_chance(tmp_path, capsys):
    figure = tmp_path / "figure.png"
    curves = wrong_labels.main(wrong_labels.Config(epochs=2, seeds=1, figure=figure))
    for curve in curves.values():
        assert (curve[0, 0], curve[0, -1]) == (0, 1)
        assert np.all(np.diff(curve) >= 0)
        assert curve[0, len(curve[0]) // 10] > 0.6
    assert figure.stat().st_size > 0
    assert "influence: " in capsys.readouterr().out
