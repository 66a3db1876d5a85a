"""The public calls: each joins a front end, a planner, its checker and the result."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from cosma_sched.errors import Defect, InputError, UsageError, shown
from cosma_sched.files import decode_json, read_bytes
from cosma_sched.graph import Graph
from cosma_sched.memory.calls import memory_bounds, memory_curve, plan_memory
from cosma_sched.result import Answer

if TYPE_CHECKING:
    from cosma_sched.experts.profile import Profile
    from cosma_sched.mapping.layer import Workload
    from cosma_sched.memory.buffers import Buffers

__all__ = ["graph_of", "load", "load_result", "memory_bounds", "memory_curve", "plan_memory", "recheck", "verify"]

_LOAD_OPTIONS = ("fold", "views", "dtype", "dim", "parameters", "functions")


class Violation(Protocol):
    """What every checker's violations have, beside the place of each planner."""

    @property
    def rule(self) -> str:
        """Name of the broken rule."""

    @property
    def message(self) -> str:
        """What is wrong, with the values."""


class _Kind(NamedTuple):
    """One schema of results; modules and names are given as text, so that only what is used is imported."""

    answer: str
    """Class of its answers, with `from_json`."""
    check: str
    """Function of (subject, answer) that returns the violations."""
    subjects: tuple[str, ...] = ("graph:Graph",)
    """Classes of what such a result is made for."""
    stands_alone: bool = False
    """Whether the result holds all that its check needs."""
    recheck: str | None = None
    """Function of (answer, model, result_path), where reading the subject again takes more than reading a graph."""


_LAYERS = ("mapping.layer:Workload",)
_KINDS: Mapping[str, _Kind] = {
    "cosma-sched/plan/1": _Kind("memory.plan:MemoryPlan", "memory.verify:verify"),
    "cosma-sched/bounds/1": _Kind("memory.bounds:MemoryBounds", "memory.verify:verify_bounds"),
    "cosma-sched/curve/1": _Kind("memory.curve_answer:MemoryCurve", "memory.verify:verify_curve"),
    "cosma-sched/packing/1": _Kind(
        "memory.packing_answer:PackingResult",
        "memory.pack_calls:check_packing",
        ("memory.buffers:BufferSet", "memory.plan:MemoryPlan", "graph:Graph", "memory.buffers:Sequence"),
        stands_alone=True,
        recheck="memory.pack_calls:recheck_packing",
    ),
    "cosma-sched/mapping/1": _Kind("mapping.answer:MappingResult", "mapping.calls:check", ("graph:Graph", *_LAYERS), stands_alone=True),
    "cosma-sched/fusion/1": _Kind("fusion.answer:FusionResult", "fusion.calls:check", ("graph:Graph", *_LAYERS)),
    "cosma-sched/schedule/1": _Kind("multicore.schedule:Schedule", "multicore.recheck:check"),
    "cosma-sched/schedule-front/1": _Kind("multicore.front:ScheduleFront", "multicore.front:check_front"),
    "cosma-sched/experts/1": _Kind(
        "experts.placement:Placement", "experts.calls:verify_any", ("experts.profile:Profile",), recheck="experts.calls:check_result"
    ),
}


def load(
    source: str | os.PathLike[str],
    *,
    fold: str = "elementwise",
    views: str = "free",
    dtype: str | None = None,
    dims: Mapping[str, int] | None = None,
    parameters: str | Sequence[str] | None = None,
    functions: str = "inline",
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
    parameters
        ONNX graph inputs that are weights, by name; ``auto``: those that are only ever the second operand of a matrix product. The
        graph's ``origin.warnings`` say which were found, and what else the file leaves open.
    functions
        ``inline`` writes out an ONNX file's own functions, ``keep`` leaves those named like a known activation (Silu) as operators.

    Raises
    ------
    InputError
        If the file is missing, damaged or not understood; carries every mistake found.
    UsageError
        If an option value is unknown.
    """
    from cosma_sched.frontends import load as load_graph

    return load_graph(source, fold=fold, views=views, dtype=dtype, dims=dims, parameters=parameters, functions=functions)


def verify(subject: Graph | Workload | Profile | Buffers | None, result: Answer) -> Sequence[Violation]:
    """Check a result against what it was made for, from scratch; an empty sequence means that it holds.

    Parameters
    ----------
    subject
        The network; of a placement of experts, the profile it was made with; of a packing, its buffers or what they were read from; None
        for a result that holds all that its check needs. A mapping result and a packing are such results; with their subject, what
        they list is compared too.
    result
        An answer of any planner.

    Returns
    -------
    sequence of Violation
        Every broken rule with its place and values.

    Raises
    ------
    UsageError
        If the subject is not what such a result is made for.
    """
    kind = _kind_of(result)
    if not (subject is None and kind.stands_alone) and not isinstance(subject, tuple(map(_named, kind.subjects))):
        wanted = " or a ".join(name.rpartition(":")[2] for name in kind.subjects)
        raise UsageError(f"a {type(result).__name__} is checked against a {wanted}, not a {type(subject).__name__}")
    return cast("Sequence[Violation]", _named(kind.check)(subject, result))


def recheck(result: Answer, model: str | None = None, *, result_path: str = "result") -> Sequence[Violation]:
    """Check a saved result against the files that it names.

    Parameters
    ----------
    result
        What `load_result` returned.
    model
        Zoo name or path of what it was made for; None takes the one of its provenance.
    result_path
        Name of the result in error messages.

    Raises
    ------
    UsageError, InputError
        As `graph_of` does.
    """
    kind = _kind_of(result)
    if kind.recheck is not None:
        return cast("Sequence[Violation]", _named(kind.recheck)(result, model, result_path=result_path))
    if kind.stands_alone and model is None:
        return verify(None, result)
    table = model or result.provenance.model or ""
    if table.lower().endswith(".csv") and _LAYERS[0] in kind.subjects:
        from cosma_sched.mapping.layer_table import read_layer_table

        return verify(read_layer_table(table), result)
    return verify(graph_of(result, model, result_path=result_path), result)


def load_result(path: str | os.PathLike[str]) -> Answer:
    """Read a saved result of any schema.

    Raises
    ------
    InputError
        If the file is no result, or is malformed; carries every mistake found.
    """
    name = os.fspath(path)
    document = decode_json(name, read_bytes(name))
    schema = document.get("schema") if isinstance(document, dict) else None
    kind = _KINDS.get(schema) if isinstance(schema, str) else None
    if kind is None:
        raise InputError(name, [Defect("schema", f"must be one of {', '.join(_KINDS)}, got {shown(schema)}")])
    return cast("Answer", _named(kind.answer).from_json(document, name))


def _kind_of(result: Answer) -> _Kind:
    name = f"{type(result).__module__}:{type(result).__qualname__}"
    for kind in _KINDS.values():
        if f"cosma_sched.{kind.answer}" == name:
            return kind
    raise UsageError(f"a {type(result).__name__} is no result")


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"cosma_sched.{module}"), name)


def graph_of(result: Answer, model: str | None = None, *, result_path: str = "result") -> Graph:
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
    kinds = {"dim": Mapping, "parameters": str | Sequence}
    strange = [name for name, value in given.items() if value is not None and not isinstance(value, kinds.get(name, str))]
    if strange:
        raise InputError(result_path, [Defect(f"provenance.options.{name}", f"cannot be {shown(given[name])}") for name in strange])
    dims = given.pop("dim", None)
    try:
        graph = load(str(source), dims=dims, **given)
    except UsageError as error:  # they stand in the result; nobody has typed them
        raise InputError(result_path, [Defect("provenance.options", str(error))]) from error
    if graph.sha256 != provenance.sha256:
        problem = f"has sha256 {graph.sha256[:12]}..., but {result_path} was made for {provenance.sha256[:12]}..."
        raise InputError(str(source), problem)
    return graph


def _looks_like_path(source: str) -> bool:
    return os.sep in source or Path(source).suffix in {".onnx", ".json"}
