"""Every kind of backbone as ONNX: onnxruntime computes what the model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cnnjax as cj
from cnnjax.models import BUILDERS

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# The narrowest of families that have different operations, as small as they take images; all
# others are measured by experiments/benchmarks/exported.py.
FAMILIES: dict[str, dict[str, Any]] = {
    "convnext_tiny": {},
    "mobilenet_v2": {"alpha": 0.35},
    "mobilenet_v3_small": {},
    "regnet_y_400mf": {},
    "resnet18": {},
    "squeezenet1_1": {},
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in FAMILIES if name in BUILDERS])
def test_a_family_is_exported(tmp_path: Path, name: str) -> None:
    side = max(BUILDERS[name].min_size, 32)
    model = cj.create_model(name, input_shape=(side, side, 3), num_classes=10, **FAMILIES[name])
    assert cj.export(model, tmp_path / "m.onnx", batch=2, logits=True).difference <= 1e-5
