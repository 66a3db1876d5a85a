"""What an architect gives: groups by name, and tile lengths from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import networkx as nx

from cosma_sched.errors import Defect, InputError, shown, suggestion
from cosma_sched.files import decode_json, read_bytes
from cosma_sched.fusion.assemble import in_running_order
from cosma_sched.fusion.problem import FusionProblem

_LIMIT = 16 * 2**20


def tiles_of(tiles: str) -> tuple[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the kind of tiles, and the lengths of a file.

    Parameters
    ----------
    tiles
        ``all``, ``strips``, or a JSON file ``{"rows": [...], "columns": [...]}``.

    Raises
    ------
    InputError
        With every mistake of the file.
    """
    if tiles in {"all", "strips"}:
        return tiles, ((), ())
    document = decode_json(tiles, read_bytes(tiles, limit_bytes=_LIMIT))
    if not isinstance(document, dict):
        raise InputError(tiles, 'must be an object such as {"rows": [2, 4], "columns": [60]}')
    defects = [Defect(str(name), "unknown field; fields are rows, columns") for name in document if name not in {"rows", "columns"}]
    lengths = []
    for name in ("rows", "columns"):
        values = document.get(name, [])
        if not isinstance(values, list) or any(not isinstance(value, int) or isinstance(value, bool) or value < 1 for value in values):
            defects.append(Defect(name, f"must be a list of whole numbers >= 1, got {shown(values)}"))
            continue
        lengths.append(tuple(sorted(set(values))))
    if defects:
        raise InputError(tiles, defects)
    return "listed", (lengths[0], lengths[1])


def groups_of(problem: FusionProblem, groups: str | Sequence[Sequence[str]]) -> tuple[tuple[int, ...], ...]:
    """Return given groups as nodes; what stands in none runs alone.

    Parameters
    ----------
    problem
        The network.
    groups
        Names, or a JSON file with a list of lists of names, or with an object whose ``groups`` hold ``layers``.

    Raises
    ------
    InputError
        With every name that is unknown or stands twice, and every set that cannot be a group.
    """
    source = groups if isinstance(groups, str) else "groups"
    named = _named(source) if isinstance(groups, str) else [list(names) for names in groups]
    places = {node.name: index for index, node in enumerate(problem.nodes)}
    defects: list[Defect] = []
    seen: dict[str, int] = {}
    for position, names in enumerate(named):
        for name in names:
            where = f"groups[{position}]"
            if name not in places:
                defects.append(Defect(where, f"{shown(name)} is no layer or vector operator{suggestion(name, places)}"))
            elif name in seen:
                defects.append(Defect(where, f"{shown(name)} stands in groups[{seen[name]}] too"))
            seen.setdefault(name, position)
    if defects:
        raise InputError(source, defects)
    found = [tuple(sorted(places[name] for name in names)) for names in named]
    for position, members in enumerate(found):
        defects += [Defect(f"groups[{position}]", problem_text) for problem_text in _misshapen(problem, members)]
    if not defects:
        alone = [(index,) for index in range(len(problem.nodes)) if problem.nodes[index].name not in seen]
        try:
            in_running_order(problem, [*found, *alone])
        except nx.NetworkXUnfeasible:
            defects.append(Defect("groups", "read each other's results in a cycle"))
    if defects:
        raise InputError(source, defects)
    return tuple(found)


def _named(path: str) -> list[list[str]]:
    document: Any = decode_json(path, read_bytes(path, limit_bytes=_LIMIT))
    if isinstance(document, dict):
        document = document.get("groups")
    if not isinstance(document, list):
        raise InputError(path, 'must hold a list of groups, or an object with "groups"')
    named: list[Any] = [entry.get("layers") if isinstance(entry, dict) else entry for entry in document]
    wrong = [
        Defect(f"groups[{position}]", "must be a list of one or more names")
        for position, names in enumerate(named)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names)
    ]
    if wrong:
        raise InputError(path, wrong)
    return named


def _misshapen(problem: FusionProblem, members: tuple[int, ...]) -> Iterator[str]:
    """Yield why some nodes are no group."""
    names = [problem.nodes[index].name for index in members]
    inside = set(members)
    sinks = [name for name, index in zip(names, members, strict=True) if not inside.intersection(problem.consumers[index])]
    if len(sinks) > 1:
        yield f"has {len(sinks)} last members, {', '.join(sinks)}; a group has one, which reads from all others"
    for index in members:
        node = problem.nodes[index]
        if node.barrier is not None and len(members) > 1:
            yield f"{shown(node.name)} runs alone: {node.barrier}"
        for operand in node.operands:
            if operand.barrier is not None and operand.producer in inside:
                yield f"{shown(problem.nodes[operand.producer].name)} and {shown(node.name)} stay apart: {operand.barrier}"
    outside = _between(problem, inside)
    if outside:
        yield f"leaves and re-enters through {', '.join(problem.nodes[index].name for index in sorted(outside))}"


def _between(problem: FusionProblem, inside: set[int]) -> set[int]:
    """Return the nodes outside that read from inside and lead back."""
    after: set[int] = set()
    for index, node in enumerate(problem.nodes):
        if index not in inside and any(producer in inside or producer in after for producer in node.producers):
            after.add(index)
    before: set[int] = set()
    for index in range(len(problem.nodes) - 1, -1, -1):
        if index not in inside and any(reader in inside or reader in before for reader in problem.consumers[index]):
            before.add(index)
    return after & before
