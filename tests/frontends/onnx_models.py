"""Tiny ONNX models for tests, written as in a sketch: nodes, inputs with their shapes, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cosma_sched.frontends.onnx_reader import read_onnx
from cosma_sched.frontends.options import ReadingOptions
from cosma_sched.graph import Graph

FLOAT = TensorProto.FLOAT
Shape = Sequence[int | str | None] | None
node = helper.make_node


def value(name: str, shape: Shape, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, values: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def weight(name: str, *shape: int, dtype: int = FLOAT) -> onnx.TensorProto:
    """An initializer without values, as a file without its weights holds it."""
    kept = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
    kept.external_data.add(key="location", value="weights.bin")
    return kept


def model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Mapping[str, Shape] | Iterable[onnx.ValueInfoProto],
    outputs: Iterable[str],
    *,
    initializers: Iterable[onnx.TensorProto] = (),
    declared: Iterable[onnx.ValueInfoProto] = (),
    opset: int = 18,
    functions: Iterable[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """Return a model; float inputs may be given as a dict of shapes; outputs have no shape."""
    given = [value(name, shape) for name, shape in inputs.items()] if isinstance(inputs, Mapping) else list(inputs)
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "test", given, results, list(initializers), value_info=list(declared))
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=domains, functions=list(functions))


def read(
    proto: onnx.ModelProto, *, fold: str = "none", views: str = "free", dtype: str | None = None, dims: Mapping[str, int] | None = None
) -> Graph:
    """Read a model as a file called ``net.onnx``; nothing is folded unless asked for."""
    return read_onnx(proto.SerializeToString(), path="net.onnx", name="net", options=ReadingOptions.checked(fold, views, dtype, dims))


def save(proto: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> str:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return str(path)


def types(graph: Graph) -> list[str]:
    return [operator.type for operator in graph.operators]


def edges(graph: Graph) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Every operator as (type, inputs, outputs)."""
    return [(operator.type, operator.inputs, operator.outputs) for operator in graph.operators]


def data_edges(graph: Graph) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Every operator as (type, inputs that are no parameters, outputs)."""
    return [
        (kind, tuple(name for name in inputs if graph.tensors[name].kind != "parameter"), outputs) for kind, inputs, outputs in edges(graph)
    ]
