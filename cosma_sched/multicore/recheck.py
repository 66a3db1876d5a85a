"""Checking a saved schedule: what was asked is built again from the result's own facts and its network, and no planner takes part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.graph import Graph
from cosma_sched.multicore.request import TILE_LOOP, Request, asked_again
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Split
from cosma_sched.multicore.tile_loop import TileLoop
from cosma_sched.multicore.verify import Violation, verify, without_answer
from cosma_sched.multicore.verify_periods import verify_loop


def check(graph: Graph, answer: Schedule) -> list[Violation]:
    """Return every rule that a saved schedule breaks.

    Parameters
    ----------
    graph
        The network it was made for.
    answer
        What was read from its file.

    Raises
    ------
    InputError
        If accelerator, costs or split of the result cannot be read, or are of another network.
    """
    if (claims := without_answer(answer)) is not None:
        return claims
    if defects := [*_table_defects(answer), *_capacity_defects(answer)]:
        raise InputError("schedule", defects)
    request = asked_again(graph, answer)
    if TILE_LOOP in answer.split:
        return verify_loop(_loop(request, answer), answer)
    return verify(request.problem(Split.from_json(answer.split)), answer)


def _table_defects(answer: Schedule) -> Iterator[Defect]:
    """Yield what is wrong with the costs that came with a result: cycles > 0 and picojoules >= 0 by node or layer, and core."""
    table = answer.costs.get("table")
    if table is None:
        return
    rows = table.items() if isinstance(table, Mapping) else [("", table)]
    for key, row in rows:
        if not isinstance(row, Mapping):
            yield Defect(f"costs.table.{key}", f"must be costs by core, got {shown(row)}")
            continue
        for core, cost in row.items():
            pair = cost if isinstance(cost, list) and len(cost) == 2 else [None, None]
            if any(type(value) is not int or value < least for value, least in zip(pair, (1, 0), strict=True)):
                yield Defect(f"costs.table.{key}.{core}", f"must be cycles > 0 and picojoules >= 0, got {shown(cost)}")


def _capacity_defects(answer: Schedule) -> Iterator[Defect]:
    sizes = answer.provenance.options.get("capacity")
    if sizes is None:
        return
    if not isinstance(sizes, Mapping):
        yield Defect("provenance.options.capacity", f"must be bytes by core, got {shown(sizes)}")
        return
    for core, size in sizes.items():
        if type(size) is not int or size < 1:
            yield Defect(f"provenance.options.capacity.{core}", f"must be bytes > 0, got {shown(size)}")


def _loop(request: Request, answer: Schedule) -> TileLoop:
    from cosma_sched.multicore.gated_search import rebuilt

    place = f"split.{TILE_LOOP}"
    try:
        loop = rebuilt(answer.split[TILE_LOOP], request.graph, request.costs, request.platform(), answer.semantics)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("schedule", [Defect(place, f"is no description of a tile loop: {error}")]) from error
    if loop is None:
        raise InputError("schedule", [Defect(place, "the network is no gated layer")])
    return loop
