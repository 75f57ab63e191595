"""Wrong labels are found by influence: a training and its curves."""

import numpy as np
import pytest

from experiments.research import wrong_labels


@pytest.mark.thorough
def test_wrong_labels_are_found_far_above_chance(tmp_path, capsys):
    options = wrong_labels.WrongLabelOptions(epochs=2, out=str(tmp_path))
    curves = wrong_labels.main(options)
    for curve in curves.values():
        assert (curve[0, 0], curve[0, -1]) == (0, 1)
        assert np.all(np.diff(curve) >= 0)
        assert curve[0, len(curve[0]) // 10] > 0.6
    assert (tmp_path / "found.png").stat().st_size > 0
    assert "influence: " in capsys.readouterr().out
