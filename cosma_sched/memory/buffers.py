"""Where buffers come from: a CSV file, the stays of a saved plan, a network in its given order, or Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosma_sched.errors import Defect, InputError, UsageError, shown
from cosma_sched.files import decode_json, encode_json, read_bytes, sha256
from cosma_sched.graph import SCHEMA as GRAPH_SCHEMA
from cosma_sched.graph import Buffer, Graph
from cosma_sched.memory.buffer_csv import BufferTable, aligned, decode_buffer_csv, pin_defects
from cosma_sched.memory.packing_answer import buffer_to_json
from cosma_sched.memory.plan import SCHEMA as PLAN_SCHEMA
from cosma_sched.memory.plan import MemoryPlan
from cosma_sched.memory.problem import Network

RESERVED = "(reserved)"
"""The buffer that stands for the bytes a plan keeps free at the bottom."""


@dataclass(frozen=True, slots=True)
class BufferSet:
    """Buffers to be packed and where they come from.

    Parameters
    ----------
    name
        For headings.
    buffers
        With unique names.
    sha256
        Of the file, of the graph, or of the buffers themselves.
    source
        Path or zoo name, ``-`` for standard input, None where built in Python.
    options
        With which they were read.
    table
        The CSV file they stand in, if they do.
    """

    name: str
    buffers: tuple[Buffer, ...]
    sha256: str
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    table: BufferTable | None = None


Buffers = Sequence[Buffer] | BufferSet | MemoryPlan | Graph | str | os.PathLike[str]
"""What `read_buffers` takes."""


def read_buffers(
    source: Buffers,
    *,
    capacity_bytes: int | None = None,
    align_bytes: int = 1,
    order: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> BufferSet:
    """Return the buffers of a source, checked.

    Parameters
    ----------
    source
        Buffers; a plan, whose stays are packed; a graph, whose tensors live from creation, or first use, to last use in the given order; or
        the path of a file with one of these, a zoo name, ``-`` for standard input.
    capacity_bytes
        Pins must lie below it; None where there is no limit.
    align_bytes
        Every offset has to be a multiple of this too.
    order
        ``given`` for a network; None elsewhere.
    reading
        Options of a model reader (``fold``, ``views``, ``dtype``, ``dims``).

    Raises
    ------
    InputError
        With every mistake at once.
    UsageError
        If an option has no meaning for the source.
    """
    if isinstance(source, str | os.PathLike):
        found = _read(os.fspath(source), capacity_bytes, align_bytes, reading or {})
    elif isinstance(source, BufferSet):
        found = source
    elif isinstance(source, MemoryPlan):
        found = BufferSet("the stays of a plan", buffers_of_plan(source), sha256(encode_json(source.to_json()).encode()))
    elif isinstance(source, Graph):
        found = _of_graph(source)
    else:
        buffers = tuple(source)
        if strange := [value for value in buffers if not isinstance(value, Buffer)]:
            raise UsageError(f"buffers must be Buffer values, a plan, a graph or the path of a file; got {shown(strange[0])} among them")
        found = BufferSet("buffers built in Python", buffers, sha256(encode_json([buffer_to_json(b) for b in buffers]).encode()))
    _refuse_idle_options(found, order, reading or {})
    return _checked(found, capacity_bytes, align_bytes)


def buffers_of_plan(plan: MemoryPlan) -> tuple[Buffer, ...]:
    """Return the stays of a plan as buffers, with the plan's own alignment, pins and reserved bytes.

    A tensor that stays once gives its name, one that comes back ``name@step``.

    Raises
    ------
    InputError
        If the plan has no answer.
    """
    if plan.residency is None or plan.order is None:
        raise InputError("plan", f"has status {plan.status} and no stays to pack")
    options = plan.provenance.options
    align, reserve, pins = int(options.get("align", 1)), int(options.get("reserve", 0)), options.get("pin") or {}
    counts: dict[str, int] = {}
    for stay in plan.residency:
        counts[stay.tensor] = counts.get(stay.tensor, 0) + 1
    buffers = [
        Buffer(
            stay.tensor if counts[stay.tensor] == 1 else f"{stay.tensor}@{stay.start}",
            stay.start,
            stay.end,
            stay.size_bytes,
            align,
            pins.get(stay.tensor),
        )
        for stay in plan.residency
    ]
    bottom = [Buffer(RESERVED, 0, max(1, len(plan.order)), reserve, offset=0)] if reserve else []
    return (*bottom, *buffers)


def buffers_of_graph(graph: Graph) -> tuple[Buffer, ...]:
    """Return the tensors of a graph as buffers: live from creation, or first use, to last use in the given order; parameters left out."""
    network = Network(graph)
    uses = network.uses(network.given_order)
    return tuple(Buffer(tensor.name, own[0], own[-1] + 1, tensor.size_bytes) for tensor, own in zip(network.tensors, uses, strict=True))


def _of_graph(graph: Graph) -> BufferSet:
    origin = graph.origin
    options = {"order": "given", **(origin.options if origin else {})}
    return BufferSet(graph.name or "a network", buffers_of_graph(graph), graph.sha256, (origin.model or None) if origin else None, options)


def _read(path: str, capacity_bytes: int | None, align_bytes: int, reading: Mapping[str, Any]) -> BufferSet:
    if path != "-" and _is_model(path):
        return _read_model(path, reading)
    content = read_bytes(path)
    name = "standard input" if path == "-" else Path(path).name
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        table = decode_buffer_csv(path, content, capacity_bytes=capacity_bytes, align_bytes=align_bytes)
        return BufferSet(name, table.buffers, sha256(content), path, {}, table)
    document = decode_json(path, content)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == PLAN_SCHEMA:
        plan = MemoryPlan.from_json(document, path)
        if plan.residency is None:
            raise InputError(path, f"has status {plan.status} and no stays to pack")
        return BufferSet(name, buffers_of_plan(plan), sha256(content), path)
    if schema == GRAPH_SCHEMA:
        if path != "-":
            return _read_model(path, reading)
        graph = Graph.from_json(content, path)
        return BufferSet(graph.name or name, buffers_of_graph(graph), graph.sha256, path, {"order": "given"})
    known = f"{PLAN_SCHEMA}, {GRAPH_SCHEMA}, or the file a CSV with the columns id, lower, upper, size"
    raise InputError(path, [Defect("schema", f"must be {known}; got {shown(schema)}")])


def _is_model(path: str) -> bool:
    """Return whether a name is an ONNX file or stands for a network; a name of the zoo comes before a file of that name."""
    suffix = Path(path).suffix.lower()
    if suffix in {".csv", ".json"}:
        return False
    if suffix == ".onnx" or not os.path.exists(path):
        return True
    from cosma_sched.frontends import zoo

    return path in zoo.names()


def _read_model(path: str, reading: Mapping[str, Any]) -> BufferSet:
    from cosma_sched.frontends import load

    return _of_graph(load(path, **reading))


def _refuse_idle_options(found: BufferSet, order: str | None, reading: Mapping[str, Any]) -> None:
    """An option that nothing reads is refused, never ignored."""
    is_network = found.options.get("order") == "given"
    if order is not None and order != "given":
        raise UsageError(f"order must be given, got {shown(order)}: packing keeps the lifetimes it gets; plan_memory looks for an order")
    if not is_network and order is not None:
        raise UsageError(f"{found.name} holds lifetimes, no network: an order cannot apply to it")
    if not is_network and any(value not in (None, {}) for value in reading.values()):
        raise UsageError(f"{found.name} holds lifetimes, no network: {' and '.join(reading)} cannot apply to it")


def _checked(found: BufferSet, capacity_bytes: int | None, align_bytes: int) -> BufferSet:
    """Align every buffer, and refuse pins that break a rule and names that stand twice."""
    defects, buffers = [], []
    seen: set[str] = set()
    for buffer in found.buffers:
        where = f"buffer {shown(buffer.name)}"
        if buffer.name in seen:
            defects.append(Defect(where, "stands twice; names must be unique"))
        seen.add(buffer.name)
        try:
            buffers.append(aligned(buffer, align_bytes))
        except InputError as error:
            defects += [Defect(f"{where}: {defect.where}", defect.problem) for defect in error.defects]
    for index, problem in pin_defects(buffers, capacity_bytes):
        defects.append(Defect(f"buffer {shown(buffers[index].name)}: offset", problem))
    if defects:
        raise InputError(found.source or found.name, defects)
    return BufferSet(found.name, tuple(buffers), found.sha256, found.source, found.options, found.table)
