"""``cosma-sched inspect``: what a file holds."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosma_sched.cli.arguments import Debug, Dim, Dtype, Fold, Json, Verbose, Views, dimensions
from cosma_sched.cli.output import Action, Output, table_width

if TYPE_CHECKING:
    from cosma_sched.graph import Graph

NAME = "inspect"


def command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A zoo name, an ONNX file, a graph JSON, a saved result, or - for graph JSON.", show_default=False
        ),
    ],
    fold: Fold = "elementwise",
    views: Views = "free",
    dtype: Dtype = None,
    dim: Dim = None,
    json: Json = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> Action:
    """Say what a file is: a network's operators by type, its tensors and the largest of them, or a saved result.

    Example: cosma-sched inspect resnet50
    """
    del debug
    dims = dimensions(dim)

    def run() -> int:
        from cosma_sched import api
        from cosma_sched.report.answers import answer_lines
        from cosma_sched.report.table import graph_lines

        if _is_result(file):
            result = api.load_result(file)
            Output(json).deliver(result.to_json(), answer_lines(result, file, width=table_width(), all_rows=verbose > 0))
            return 0
        graph = api.load(file, fold=fold, views=views, dtype=dtype, dims=dims)
        what = _kind(file)
        document = {"schema": "cosma-sched/inspection/1", "file": file, "kind": what, **_summary(graph)}
        Output(json).deliver(document, graph_lines(graph, what, width=table_width(), all_rows=verbose > 0))
        return 0

    return run


def _is_result(file: str) -> bool:
    """Return whether a file is a document of ours that is no graph; what is wrong with it is said by whoever reads it."""
    from cosma_sched.errors import InputError
    from cosma_sched.files import decode_json, read_bytes
    from cosma_sched.graph import SCHEMA

    if Path(file).suffix != ".json":
        return False
    try:
        document = decode_json(file, read_bytes(file))
    except InputError:
        return False
    schema = document.get("schema") if isinstance(document, dict) else None
    return isinstance(schema, str) and schema.startswith("cosma-sched/") and schema.split("/")[1] != SCHEMA.split("/")[1]


def _kind(file: str) -> str:
    if file == "-" or Path(file).suffix == ".json":
        return "graph JSON"
    if ":" in file and not os.path.exists(file):
        return "network built from its description"
    return "ONNX model" if os.path.exists(file) else "network of the zoo"


def _summary(graph: Graph) -> dict[str, Any]:
    kinds = Counter(str(tensor.kind) for tensor in graph.tensors.values())
    sizes: Counter[str] = Counter()
    for tensor in graph.tensors.values():
        sizes[str(tensor.kind)] += tensor.size_bytes
    largest = max(graph.tensors.values(), key=lambda tensor: tensor.size_bytes)
    return {
        "name": graph.name,
        "sha256": graph.sha256,
        "operators": len(graph),
        "operator_types": dict(sorted(Counter(operator.type for operator in graph).items())),
        "tensors": {kind: {"count": kinds[kind], "size_bytes": sizes[kind]} for kind in sorted(kinds)},
        "largest": largest.to_json(),
    }
