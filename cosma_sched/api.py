"""The public calls: each joins a front end, a planner, its checker and the result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosma_sched.errors import Defect, InputError, UsageError, shown
from cosma_sched.files import decode_json, read_bytes
from cosma_sched.graph import Graph
from cosma_sched.memory import bounds as memory_bounds_module
from cosma_sched.memory import plan as plan_module
from cosma_sched.memory import verify as checker
from cosma_sched.memory.bounds import MemoryBounds
from cosma_sched.memory.calls import memory_bounds, memory_curve, plan_memory
from cosma_sched.memory.curve_answer import SCHEMA as CURVE_SCHEMA
from cosma_sched.memory.curve_answer import MemoryCurve
from cosma_sched.memory.plan import MemoryPlan

if TYPE_CHECKING:
    from cosma_sched.experts.placement import Placement
    from cosma_sched.experts.profile import Profile
    from cosma_sched.experts.verify import Violation as PlacementViolation
    from cosma_sched.mapping.answer import MappingResult
    from cosma_sched.mapping.verify import Violation as MappingViolation

TENSORS = ("activations", "all")
BUDGET_NAMES = ("M_R", "M_H", "M_P")
MOST_WORKERS = 8
__all__ = ["graph_of", "load", "load_result", "memory_bounds", "memory_curve", "plan_memory", "verify"]

MAPPING_SCHEMA = "cosma-sched/mapping/1"
EXPERTS_SCHEMA = "cosma-sched/experts/1"
_LOAD_OPTIONS = ("fold", "views", "dtype", "dim")


def load(
    source: str | os.PathLike[str],
    *,
    fold: str = "elementwise",
    views: str = "free",
    dtype: str | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """Read a network.

    Parameters
    ----------
    source
        A zoo name, the path of an ONNX file or of a graph JSON, or ``-`` for a graph JSON on standard input.
    fold
        Which operators join their neighbours: ``none``, ``batchnorm``, ``elementwise`` or ``prologue``. ONNX only.
    views
        ``free``: transposes and constant slices take no memory of their own; ``strict``: they are operators. ONNX only.
    dtype
        Element type that replaces every floating-point type, such as ``int8``; zoo networks load as int8, files with their own types.
    dims
        Values of symbolic ONNX dimensions by name.

    Raises
    ------
    InputError
        If the file is missing, damaged or not understood; carries every mistake found.
    UsageError
        If an option value is unknown.
    """
    from cosma_sched.frontends import load as load_graph

    return load_graph(source, fold=fold, views=views, dtype=dtype, dims=dims)


def verify(
    graph: Graph | Profile | None, result: MemoryPlan | MemoryBounds | MemoryCurve | MappingResult | Placement
) -> Sequence[checker.Violation | MappingViolation | PlacementViolation]:
    """Check a result against its graph from scratch; an empty sequence means that it holds.

    Parameters
    ----------
    graph
        The network; of a placement of experts, the profile it was made with. A mapping result holds all that its check needs; with its
        graph, the layers are compared too.
    result
        The result.

    Returns
    -------
    sequence of Violation
        Every broken rule with its place and values.
    """
    if isinstance(result, MemoryBounds | MemoryPlan | MemoryCurve):
        if not isinstance(graph, Graph):
            raise UsageError("a memory plan is checked against its graph")
        if isinstance(result, MemoryCurve):
            return checker.verify_curve(graph, result)
        return checker.verify_bounds(graph, result) if isinstance(result, MemoryBounds) else checker.verify(graph, result)
    from cosma_sched.mapping.answer import MappingResult

    if isinstance(result, MappingResult) and (graph is None or isinstance(graph, Graph)):
        from cosma_sched.mapping.calls import verify_mapping

        return verify_mapping(result, graph)
    from cosma_sched.experts.calls import verify_any

    return verify_any(graph, result)


def load_result(path: str | os.PathLike[str]) -> MemoryPlan | MemoryBounds | MemoryCurve | MappingResult | Placement:
    """Read a saved result of any schema.

    Raises
    ------
    InputError
        If the file is no result, or is malformed; carries every mistake found.
    """
    name = os.fspath(path)
    document = decode_json(name, read_bytes(name))
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == plan_module.SCHEMA:
        return MemoryPlan.from_json(document, name)
    if schema == memory_bounds_module.SCHEMA:
        return MemoryBounds.from_json(document, name)
    if schema == CURVE_SCHEMA:
        return MemoryCurve.from_json(document, name)
    if schema == MAPPING_SCHEMA:
        from cosma_sched.mapping.answer import MappingResult

        return MappingResult.from_json(document, name)
    if schema == EXPERTS_SCHEMA:
        from cosma_sched.experts.placement import Placement

        return Placement.from_json(document, name)
    known = (plan_module.SCHEMA, memory_bounds_module.SCHEMA, CURVE_SCHEMA, MAPPING_SCHEMA, EXPERTS_SCHEMA)
    raise InputError(name, [Defect("schema", f"must be one of {', '.join(known)}, got {shown(schema)}")])


def graph_of(
    result: MemoryPlan | MemoryBounds | MemoryCurve | MappingResult, model: str | None = None, *, result_path: str = "result"
) -> Graph:
    """Read the graph that a result was made for, with the reading options of its provenance.

    Parameters
    ----------
    result
        A saved result.
    model
        Zoo name or path; None takes the one in the provenance, relative paths seen from the working directory.
    result_path
        Name of the result in error messages.

    Raises
    ------
    UsageError
        If no model is given and the result's own came from standard input, from Python, or is gone.
    InputError
        If the model's content is not the one the result was made for.
    """
    provenance = result.provenance
    source = model or provenance.model
    if model is None:
        if source is None or source == "-":
            came = "was built in Python" if source is None else "came from standard input"
            raise UsageError(f"{result_path}: its model {came}; name the file with --model MODEL")
        if _looks_like_path(source) and not Path(source).exists():
            raise UsageError(f"{result_path}: its model {shown(source)} is gone; name the file with --model MODEL")
    given = {name: provenance.options[name] for name in _LOAD_OPTIONS if name in provenance.options}
    dims = given.pop("dim", None)
    graph = load(str(source), dims=dims, **given)
    if graph.sha256 != provenance.sha256:
        problem = f"has sha256 {graph.sha256[:12]}..., but {result_path} was made for {provenance.sha256[:12]}..."
        raise InputError(str(source), problem)
    return graph


def _looks_like_path(source: str) -> bool:
    return os.sep in source or Path(source).suffix in {".onnx", ".json"}
