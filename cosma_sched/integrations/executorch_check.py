"""Check a memory plan for ExecuTorch from the specs and the plan alone, whoever made it; shares no code with the planner.

The rules are those that the runtime relies on and those of ExecuTorch's own ``Verifier``, which the tool runs for few plans only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    Cost: O(n log n + p) for n specs of which p pairs share bytes, at whatever time.
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
    return found + list(_collisions(own, answer))


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


def _collisions(specs: Sequence[Spec], answer: Answer) -> Iterator[str]:
    """Yield pairs of one pool that share bytes at one time, or share bytes without sharing the object."""
    places = [(answer.spec_dict[spec], spec.allocated_memory, spec) for spec in specs if spec.allocated_memory]
    places.sort(key=lambda entry: (entry[0].mem_id, entry[0].mem_offset))
    below: list[tuple[Allocation, int, Spec]] = []
    for entry in places:
        place, _, spec = entry
        below = [other for other in below if other[0].mem_id == place.mem_id and other[0].mem_offset + other[1] > place.mem_offset]
        for other, size, other_spec in below:
            where = f"{other.mem_offset}..{other.mem_offset + size} and {place.mem_offset}.. of pool {place.mem_id}"
            if _live_together(spec, other_spec) and not (_backs(spec, other_spec) or _backs(other_spec, spec)):
                yield f"two tensors collide: {where}, nodes {list(other_spec.lifetime)} and {list(spec.lifetime)}"
            if place.mem_obj_id != other.mem_obj_id:
                yield f"two objects share bytes: {where}"
        below.append(entry)


def _live_together(one: Spec, other: Spec) -> bool:
    """Return whether a node exists at which both live; an unknown end may be any node."""
    known = [node for node in (*one.lifetime, *other.lifetime) if node is not None]
    return len(known) < 4 or max(known[0], known[2]) <= min(known[1], known[3])


def _backs(base: Spec, spec: Spec) -> bool:
    """Return whether a spec lies inside another by intention, through any number of steps."""
    above: Spec | None = spec
    while above is not None:
        if above is base:
            return True
        above = above.storage_base
    return False
