"""StableHLO files: a zip archive of the program, as `jax.export` serialises it, and its facts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.models.runtimes.inference import Inference, tracing

PROGRAM, METADATA = "program.bin", "metadata.json"

PLATFORMS = ("cpu", "cuda", "tpu")

# Of every member, so that the same model makes the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_stablehlo(inference: Inference, path: Path) -> None:
    """Write a file that any JAX runs without cnnjax, on CPU, GPU and TPU.

    Args:
        inference: what is exported.
        path: of the file.
    """
    from jax import export

    variables = jax.tree.map(np.asarray, inference.model.variables)

    def program(inputs: dict[str, Any]) -> dict[str, Any]:
        return inference(variables, inputs)

    with tracing():
        exported = export.export(jax.jit(program), platforms=PLATFORMS)(inference.inputs())
    with zipfile.ZipFile(path, "w") as file:
        _add(file, PROGRAM, bytes(exported.serialize()))
        _add(file, METADATA, json.dumps(inference.facts(), indent=1).encode())


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    with file.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as member:
        member.write(content)


def run_stablehlo(path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a file by name, of inputs by name."""
    from jax import export

    with zipfile.ZipFile(path) as file:
        exported = export.deserialize(bytearray(file.read(PROGRAM)))
    outputs = jax.jit(exported.call)(dict(inputs))
    return {name: np.asarray(one) for name, one in outputs.items()}
