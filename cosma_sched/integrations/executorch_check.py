"""Check a memory plan for ExecuTorch from the specs and the plan alone, whoever made it; shares no code with the planner.

The rules are those that the runtime relies on and those of ExecuTorch's own ``Verifier``, which the tool runs for few plans only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cosma_sched.integrations.executorch_specs import Spec


class Allocation(Protocol):
    """Where a spec lies: an ExecuTorch ``SpecAllocResult``."""

    mem_id: int
    mem_obj_id: int
    mem_offset: int


class Answer(Protocol):
    """A plan: an ExecuTorch ``MemoryAlgoResult``."""

    spec_dict: Mapping[Any, Allocation]
    bufsizes: Sequence[int]


def violations(alignment: int, specs: Iterable[Spec], graph_module: Any, extra_padding: int, answer: Answer) -> list[str]:
    """Return every rule that a plan breaks; an empty list means that it holds.

    Parameters
    ----------
    alignment, specs, graph_module, extra_padding
        As the planner got them; lifetimes as they are now.
    answer
        The plan.

    Notes
    -----
    Cost: O(n log n + n w) for n specs of which at most w live at one node.
    """
    own = list({id(spec): spec for spec in specs}.values())
    missing = [spec for spec in own if spec not in answer.spec_dict]
    if missing:
        return [f"{len(missing)} of {len(own)} tensors have no place"]
    found = [
        f"tensor {index}: {problem}" for index, spec in enumerate(own) for problem in _misplaced(spec, alignment, extra_padding, answer)
    ]
    reserved = list(getattr(graph_module, "input_mem_buffer_sizes", None) or [])
    for number, size in enumerate(reserved):
        arena = answer.bufsizes[number] if number < len(answer.bufsizes) else 0
        if arena < size:
            found.append(f"pool {number}: {arena} bytes do not hold the {size} bytes of the submodules")
        low = [spec for spec in own if answer.spec_dict[spec].mem_id == number and answer.spec_dict[spec].mem_offset < size]
        found += [f"pool {number}: a tensor at {answer.spec_dict[spec].mem_offset} lies in the submodules' {size} bytes" for spec in low]
    held = list(_held(own, answer))
    return [*found, *_collisions(held), *_torn_objects(held)]


def _misplaced(spec: Spec, alignment: int, extra_padding: int, answer: Answer) -> Iterator[str]:
    """Yield what is wrong with one place, looked at alone."""
    place, size = answer.spec_dict[spec], spec.allocated_memory
    offset = place.mem_offset
    if size % alignment or offset % alignment:
        yield f"{size} bytes at {offset} are off the alignment {alignment}"
    if offset < 0 or not 0 < place.mem_id < len(answer.bufsizes):
        yield f"offset {offset} in pool {place.mem_id} does not exist"
    elif offset + size + extra_padding > answer.bufsizes[place.mem_id]:
        yield f"ends at {offset + size} with {extra_padding} of padding, the pool at {answer.bufsizes[place.mem_id]}"
    base = spec.storage_base
    if base is None:
        if place.mem_id != (1 if spec.mem_id is None else spec.mem_id):
            yield f"asked for pool {spec.mem_id}, lies in {place.mem_id}"
    elif base not in answer.spec_dict:
        yield "what backs it has no place"
    else:
        below = answer.spec_dict[base]
        if (place.mem_id, offset) != (below.mem_id, below.mem_offset + spec.storage_base_offset):
            yield f"lies at {offset} of pool {place.mem_id}, not at {spec.storage_base_offset} in what backs it"
        if spec.storage_base_offset + size > base.allocated_memory:
            yield "leaves what backs it"


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Bytes [start, end) of a pool during the nodes from first to last, both included."""

    spec: Spec
    pool: int
    number: int
    start: int
    end: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"[{self.start}, {self.end}) at nodes {self.first} to {self.last}"


def _held(specs: Sequence[Spec], answer: Answer) -> Iterator[_Held]:
    """Yield what holds bytes; a tensor whose lifetime is unknown holds them always."""
    for spec in specs:
        place, size = answer.spec_dict[spec], spec.allocated_memory
        first, last = spec.lifetime
        if size:
            held = (place.mem_offset, place.mem_offset + size, -1 if first is None else first, sys.maxsize if last is None else last)
            yield _Held(spec, place.mem_id, place.mem_obj_id, *held)


def _collisions(held: Sequence[_Held]) -> Iterator[str]:
    """Yield pairs of one pool that hold the same bytes at one node, unless one lies inside the other by intention."""
    alive: list[_Held] = []
    for new in sorted(held, key=lambda one: one.first):
        alive = [one for one in alive if one.last >= new.first]
        for old in alive:
            share = old.start < new.end and new.start < old.end and old.pool == new.pool
            if share and not (_backs(new.spec, old.spec) or _backs(old.spec, new.spec)):
                yield f"two tensors collide in pool {new.pool}: {old}, {new}"
        alive.append(new)


def _torn_objects(held: Sequence[_Held]) -> Iterator[str]:
    """Yield pairs of one pool that hold the same bytes, at whatever nodes, but are not said to share an object."""
    highest: _Held | None = None
    for new in sorted(held, key=lambda one: (one.pool, one.start)):
        if highest is not None and highest.pool == new.pool and new.start < highest.end:
            if new.number != highest.number:
                yield f"two objects share bytes in pool {new.pool}: {highest}, {new}"
            if new.end <= highest.end:
                continue
        highest = new


def _backs(base: Spec, spec: Spec) -> bool:
    """Return whether a spec lies inside another by intention, through any number of steps."""
    above: Spec | None = spec
    while above is not None:
        if above is base:
            return True
        above = above.storage_base
    return False
