"""ONNX files: a model's program, read from JAX and written operator by operator.

There are packages that do this, and jax2onnx is the one that is kept. Its releases since 0.13.1
refuse the orbax-checkpoint that checkpoints here need, and 0.13.0 before them brings a dozen
packages, does not load whole under JAX 0.10 and writes an Inception V3 that onnxruntime does not
run. The nets here are made of some sixty operations of JAX, which is what stands in the files
beside this one; the format itself, and the check of what was written, are the package onnx's.

A model is traced with each convolution and pooling as one operation (`conv_engine("plain")`), not
in the forms that are fast on CPUs, so that runtimes meet what they are made for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.core import trees
from cnnjax.models.runtimes.inference import Inference, tracing

# Operators of this version have what is needed, and runtimes of 2023 and later know them.
OPSET, FORMAT = 18, 9

# Protocol buffers end at 2 GiB; what is no weight needs some room.
_LARGEST = 2**31 - 2**24


def write_onnx(inference: Inference, path: Path) -> None:
    """Write a file of ONNX, operators of version 18.

    Args:
        inference: what is exported.
        path: of the file.

    Raises:
        NotInOnnx: for an operation that cannot be written.
        ValueError: for a missing package, and for weights of 2 GB and more.
    """
    _check_installed("onnx")
    import onnx

    _check_size(inference)
    model = _model(inference)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _model(inference: Inference) -> Any:
    from onnx import helper

    from cnnjax.models.runtimes import onnx_loops, onnx_windows  # noqa: F401  # they note rules
    from cnnjax.models.runtimes.onnx_graph import Graph, Value
    from cnnjax.models.runtimes.onnx_operations import write_program

    inputs, variables = inference.inputs(), inference.model.variables
    with tracing():
        program, outputs = jax.make_jaxpr(inference.__call__, return_shape=True)(variables, inputs)
    sizes = {
        str(size): (name, axis)
        for name, one in reversed(inputs.items())
        for axis, size in enumerate(one.shape)
        if not isinstance(size, int)
    }
    graph = Graph(sizes)
    for name in (*inputs, *outputs):
        graph.unused(name)
    weights = [
        Value.constant(np.asarray(leaf), label=path.partition("/")[2])
        for path, leaf in trees.leaves(variables).items()
    ]
    given = [Value(one.shape, one.shape, np.dtype(one.dtype), tensor=n) for n, one in
             sorted(inputs.items())]  # fmt: skip
    made = write_program(graph, program, [*weights, *given])
    for name, value in zip(sorted(outputs), made, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.whole(value)], [name], name))
    contents = helper.make_graph(
        graph.nodes,
        inference.model.spec.name,
        [_info(name, one) for name, one in inputs.items()],
        [_info(name, one) for name, one in outputs.items()],
        _used(graph),
    )
    return _with_facts(contents, inference.facts())


def _with_facts(contents: Any, facts: Mapping[str, Any]) -> Any:
    from onnx import helper

    model = helper.make_model(
        contents,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=FORMAT,
        producer_name="cnnjax",
        producer_version=facts["cnnjax"],
    )
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    helper.set_model_props(model, texts)
    return model


def _used(graph: Any) -> list[Any]:
    """The constants that an operator reads, loops' bodies included."""
    names: set[str] = set()

    def visit(nodes: Any) -> None:
        for node in nodes:
            names.update(node.input)
            for setting in node.attribute:
                visit(setting.g.node)

    visit(graph.nodes)
    return [tensor for name, tensor in graph.constants.items() if name in names]


def _info(name: str, array: Any) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype))
    return helper.make_tensor_value_info(
        name, kind, [n if isinstance(n, int) else str(n) for n in array.shape]
    )


def _check_size(inference: Inference) -> None:
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(inference.model.variables))
    if size > _LARGEST:
        raise ValueError(
            f"{inference.model.spec.name} has weights of {size / 2**30:.1f} GiB, and an .onnx file "
            "holds less than 2: export to .stablehlo"
        )


def run_onnx(path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a file by name, of inputs by name, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def runtime() -> str:
    """Name and version of what runs a file here.

    Raises:
        ValueError: if it is not installed.
    """
    _check_installed("onnxruntime")
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _check_installed(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ValueError(
            f".onnx files need {package}, which is not installed: pip install 'cnnjax[export]'"
        )
