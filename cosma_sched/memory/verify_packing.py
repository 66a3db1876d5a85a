"""The checker of packings: everything an answer claims, recomputed from the buffers and the answer alone.

It shares no code with the packers and imports no solver. Rules, by name: ``buffers`` (those of the input), ``offsets`` (there where
something is said to be packed), ``capacity``, ``alignment``, ``pins``, ``gaps``, ``overlap``, ``height``, ``load``, ``bound``, ``clash``
(why nothing fits), ``enough`` (what would fit), ``reasons``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cosma_sched.graph import Buffer
from cosma_sched.memory.packing_answer import PackingResult
from cosma_sched.memory.second_search import fits_after_all
from cosma_sched.result import Reason, Status, Termination, relative_gap

_SEARCHES = {"search", "cpsat"}
_PROOFS = {*_SEARCHES, "load", "pins", "heuristic", ""}
_MOST_OVERLAPS = 100


@dataclass(frozen=True, slots=True)
class PackingViolation:
    """One broken rule.

    Parameters
    ----------
    rule
        Name of the rule.
    message
        What is wrong, with the values.
    buffer
        Id of the buffer concerned, or None.
    time
        The time concerned, or None.
    """

    rule: str
    message: str
    buffer: str | None = None
    time: int | None = None

    def __str__(self) -> str:
        place = [f'buffer "{self.buffer}"'] if self.buffer is not None else []
        place += [f"time {self.time}"] if self.time is not None else []
        return f"{self.rule}: {', '.join(place)}{': ' if place else ''}{self.message}"


def verify_packing(result: PackingResult, buffers: Sequence[Buffer] | None = None) -> list[PackingViolation]:
    """Return every rule that an answer breaks; an empty list means that it holds.

    Parameters
    ----------
    result
        The answer.
    buffers
        What was to be packed; None to believe the buffers that the answer lists.

    Notes
    -----
    That no lower packing exists is proven again by arithmetic, and by a search of the checker's own where few buffers are concerned. Where
    neither decides, the bound stands as the packer's word.
    """
    violations = list(_same_buffers(result, buffers))
    if violations:
        return violations  # nothing else means anything for other buffers
    found = [*_load(result), *_offsets(result), *_bound(result), *_clash(result), *_enough(result), *_reasons(result)]
    return [*violations, *found]


def _same_buffers(result: PackingResult, buffers: Sequence[Buffer] | None) -> Iterator[PackingViolation]:
    """Rules ``buffers``, ``alignment``, ``pins`` and ``gaps``, as far as they compare the answer with the input."""
    if buffers is None:
        return
    given, listed = {buffer.name: buffer for buffer in buffers}, {buffer.name: buffer for buffer in result.buffers}
    for name in sorted(given.keys() - listed.keys()):
        yield PackingViolation("buffers", "is missing", name)
    for name in sorted(listed.keys() - given.keys()):
        yield PackingViolation("buffers", "is none of the buffers that were given", name)
    fields = {"lower": "buffers", "upper": "buffers", "size_bytes": "buffers", "alignment": "alignment", "offset": "pins", "gaps": "gaps"}
    for name in sorted(given.keys() & listed.keys()):
        for field, rule in fields.items():
            ours, theirs = getattr(given[name], field), getattr(listed[name], field)
            if ours != theirs:
                word = "pin" if field == "offset" else field
                yield PackingViolation(rule, f"{word} says {_said(theirs)}, the input has {_said(ours)}", name)


def _said(value: object) -> str:
    return "none" if value is None or value == () else str(value)


# What is live, and where


def _pieces(buffer: Buffer) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, end, low, high): the times at which a buffer holds its bytes low to high."""
    start = buffer.lower
    for gap in sorted(buffer.gaps, key=lambda gap: gap.lower):
        yield start, gap.lower, 0, buffer.size_bytes
        yield gap.lower, gap.upper, *(gap.window or (0, 0))
        start = gap.upper
    yield start, buffer.upper, 0, buffer.size_bytes


def load_of(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """Return the most bytes that live at one time, and the first such time."""
    events: dict[int, int] = {}
    for buffer in buffers:
        for start, end, low, high in _pieces(buffer):
            if start < end:
                events[start] = events.get(start, 0) + high - low
                events[end] = events.get(end, 0) - (high - low)
    best, when, total = 0, min(events, default=0), 0
    for time, change in sorted(events.items()):
        total += change
        if total > best:
            best, when = total, time
    return best, when


def _live_at(buffers: Sequence[Buffer], time: int) -> dict[str, int]:
    """Return the bytes that each buffer holds at a time, where it holds any."""
    return {b.name: high - low for b in buffers for start, end, low, high in _pieces(b) if start <= time < end and low < high}


def _misplaced(buffers: Sequence[Buffer], offsets: Sequence[int], capacity: int | None) -> Iterator[PackingViolation]:
    """Rules ``capacity``, ``alignment``, ``pins`` and ``overlap`` for one set of offsets."""
    for buffer, offset in zip(buffers, offsets, strict=True):
        end = offset + buffer.size_bytes
        if offset < 0 or (capacity is not None and end > capacity):
            yield PackingViolation("capacity", f"bytes {offset} to {end} are outside 0 to {_said(capacity)}", buffer.name)
        if offset % buffer.alignment:
            yield PackingViolation("alignment", f"offset {offset} is no multiple of {buffer.alignment}", buffer.name)
        if buffer.offset not in {None, offset}:
            yield PackingViolation("pins", f"offset {offset} is not {buffer.offset}, where the buffer is pinned", buffer.name)
    yield from _overlaps(buffers, offsets)


def _overlaps(buffers: Sequence[Buffer], offsets: Sequence[int]) -> Iterator[PackingViolation]:
    """Walk through time: when a piece begins, it must not share an address with the pieces that are there."""
    pieces = [
        (start, end, offset + low, offset + high, index)
        for index, (buffer, offset) in enumerate(zip(buffers, offsets, strict=True))
        for start, end, low, high in _pieces(buffer)
        if start < end and low < high
    ]
    there: list[tuple[int, int, int, int, int]] = []
    found = 0
    for piece in sorted(pieces):
        there = [other for other in there if other[1] > piece[0]]
        for other in there:
            low, high = max(piece[2], other[2]), min(piece[3], other[3])
            if low < high and piece[4] != other[4] and found < _MOST_OVERLAPS:
                found += 1
                message = f'overlaps "{buffers[other[4]].name}" at bytes {low} to {high}'
                yield PackingViolation("overlap", message, buffers[piece[4]].name, piece[0])
        there.append(piece)


# The rules


def _offsets(result: PackingResult) -> Iterator[PackingViolation]:
    """Rules ``offsets`` and ``height``, and those of `_misplaced`."""
    asked = result.provenance.options.get("capacity", result.capacity_bytes)
    if asked != result.capacity_bytes:
        yield PackingViolation("capacity", f"capacity_bytes says {_said(result.capacity_bytes)}, {_said(asked)} was asked for")
    is_packed = result.status in {Status.OPTIMAL, Status.FEASIBLE}
    if result.offsets is None:
        if is_packed:
            yield PackingViolation("offsets", f"status {result.status} without offsets")
        if result.height_bytes is not None:
            yield PackingViolation("height", f"height_bytes says {result.height_bytes}, but nothing is packed")
        return
    if not is_packed:
        yield PackingViolation("offsets", f"status {result.status} with offsets")
    yield from _misplaced(result.buffers, result.offsets, result.capacity_bytes)
    height = max((offset + buffer.size_bytes for buffer, offset in zip(result.buffers, result.offsets, strict=True)), default=0)
    if result.height_bytes != height:
        yield PackingViolation("height", f"height_bytes says {_said(result.height_bytes)}, the offsets give {height}")


def _load(result: PackingResult) -> Iterator[PackingViolation]:
    """Rule ``load``: the most bytes that live at one time."""
    load, time = load_of(result.buffers)
    if result.load_bytes != load:
        yield PackingViolation("load", f"load_bytes says {result.load_bytes}, the buffers have {load}", time=time)
    if result.load_time != time:
        yield PackingViolation("load", f"load_time says {result.load_time}, the load is first reached at {time}")


def _floor(buffers: Sequence[Buffer]) -> int:
    """Return what arithmetic alone proves of every packing's height: the load, and what pins and sizes reach."""
    return max([load_of(buffers)[0], *(buffer.size_bytes + (buffer.offset or 0) for buffer in buffers)])


def _bound(result: PackingResult) -> Iterator[PackingViolation]:
    """Rule ``bound``: proven as far as is said, not above the height; "optimal" if and only if they are equal; the gap is theirs."""
    height, bound, floor = result.height_bytes, result.bound_bytes, _floor(result.buffers)
    if bound < floor:
        yield PackingViolation("bound", f"bound_bytes says {bound}, sizes and load alone give {floor}")
    if height is not None and bound > height:
        yield PackingViolation("bound", f"bound_bytes {bound} exceeds height_bytes {height}")
    if result.status == Status.INFEASIBLE and (result.capacity_bytes is None or bound <= result.capacity_bytes):
        yield PackingViolation("bound", f"status infeasible needs a bound above the capacity {_said(result.capacity_bytes)}, got {bound}")
    is_decided = result.status in {Status.OPTIMAL, Status.INFEASIBLE}
    if is_decided != (result.termination == Termination.PROVED) or result.proved_by not in _PROOFS:
        how = f'termination {result.termination}, proved by "{result.proved_by}"'
        yield PackingViolation("bound", f"status {result.status} does not go with {how}")
    if (result.status == Status.OPTIMAL) != (height is not None and height == bound):
        yield PackingViolation("bound", f"status {result.status} does not go with height_bytes {_said(height)} and bound_bytes {bound}")
    gap, expected = result.gap, relative_gap(height, None if height is None else bound)
    if (gap is None) != (expected is None) or (gap is not None and expected is not None and abs(gap - expected) > 1e-9):
        yield PackingViolation("bound", f"gap says {_said(gap)}, height and bound give {_said(expected)}")
    if bound > floor:
        yield from _searched_bound(result, floor)


def _searched_bound(result: PackingResult, floor: int) -> Iterator[PackingViolation]:
    """A bound above what arithmetic proves has to come from a search, and no packing below it may be found."""
    if result.proved_by not in _SEARCHES and (result.proved_by or not result.provenance.options.get("minimize")):
        yield PackingViolation("bound", f'bound_bytes says {result.bound_bytes}, but "{result.proved_by}" proves no more than {floor}')
    elif fits_after_all(result.buffers, result.bound_bytes - 1):
        yield PackingViolation("bound", f"bound_bytes says {result.bound_bytes}, but there is a packing below it")


def _clash(result: PackingResult) -> Iterator[PackingViolation]:
    """Rule ``clash``: buffers of the input that do not fit together; each is needed where that is said."""
    clash, capacity = result.clash, result.capacity_bytes
    if clash is None:
        return
    if result.status != Status.INFEASIBLE or capacity is None:
        yield PackingViolation("clash", f"does not go with status {result.status}")
        return
    known = {buffer.name: buffer for buffer in result.buffers}
    unknown = [name for name in clash.buffers if name not in known]
    if unknown or len(set(clash.buffers)) < len(clash.buffers) or not clash.buffers:
        yield PackingViolation("clash", f"must name buffers of the answer, each once, got {list(clash.buffers)}")
        return
    members = [known[name] for name in clash.buffers]
    if _floor(members) <= capacity and fits_after_all(members, capacity):
        yield PackingViolation("clash", f"its {len(members)} buffers can be packed together")
    left_out = [rest.buffer for rest in clash.without]
    if clash.irreducible and sorted(left_out) != sorted(clash.buffers):
        yield PackingViolation("clash", "is said to be irreducible, but not every buffer has a packing of the others")
    for rest in clash.without:
        yield from _one_less(rest.buffer, dict(rest.offsets), {b.name: b for b in members}, capacity)


def _one_less(left_out: str, offsets: Mapping[str, int], members: Mapping[str, Buffer], capacity: int) -> Iterator[PackingViolation]:
    if left_out not in members or offsets.keys() != members.keys() - {left_out}:
        yield PackingViolation("clash", "the packing without it must place every other buffer of the clash, and no more", left_out)
        return
    for wrong in _misplaced([members[name] for name in offsets], list(offsets.values()), capacity):
        yield PackingViolation("clash", f"the packing without it breaks {wrong}", left_out, wrong.time)


def _enough(result: PackingResult) -> Iterator[PackingViolation]:
    """Rule ``enough``: the capacity that is said to work does, and is no lower than the bound."""
    if result.enough is None:
        return
    capacity = result.enough.capacity_bytes
    asked = result.capacity_bytes
    if asked is None or capacity <= asked or result.status != Status.INFEASIBLE:
        yield PackingViolation("enough", f"capacity_bytes {capacity} does not go with status {result.status} at {_said(asked)}")
    bound = result.enough.bound_bytes
    if not result.bound_bytes <= bound <= capacity:
        yield PackingViolation("enough", f"bound_bytes {bound} does not lie between the answer's {result.bound_bytes} and {capacity}")
    elif bound > result.bound_bytes and fits_after_all(result.buffers, bound - 1):
        yield PackingViolation("enough", f"bound_bytes says {bound}, but there is a packing below it")
    height = max((o + b.size_bytes for b, o in zip(result.buffers, result.enough.offsets, strict=True)), default=0)
    if height != capacity:
        yield PackingViolation("enough", f"capacity_bytes says {capacity}, its offsets need {height}")
    for wrong in _misplaced(result.buffers, result.enough.offsets, capacity):
        yield PackingViolation("enough", f"its packing breaks {wrong}", wrong.buffer, wrong.time)


def _reasons(result: PackingResult) -> Iterator[PackingViolation]:
    """Rule ``reasons``: every number in them is one that the buffers, or the checked parts of the answer, give."""
    if (result.status == Status.INFEASIBLE) != bool(result.reasons):
        yield PackingViolation("reasons", f"{len(result.reasons)} of them do not go with status {result.status}")
        return
    capacity, sizes = result.capacity_bytes, {buffer.name: buffer.size_bytes for buffer in result.buffers}
    for reason in result.reasons:
        demand, time = _demand(reason, result)
        expected = {"demand": demand, "limit": capacity, "short": demand - (capacity or 0)}
        for name, value in expected.items():
            if getattr(reason, name) != value:
                yield PackingViolation("reasons", f"{name} of {reason.rule} says {_said(getattr(reason, name))}, the buffers have {value}")
        held = _live_at(result.buffers, time) if reason.rule == "load" else sizes
        for name, value in reason.terms:
            if held.get(name) != value:
                yield PackingViolation("reasons", f"term of {reason.rule} says {value}, the buffer holds {_said(held.get(name))}", name)
        where = f"time {time}" if reason.rule == "load" else ""
        if (reason.rule, reason.where, reason.unit) not in {("load", where, "bytes"), ("addresses", where, "bytes")}:
            yield PackingViolation(
                "reasons", f"{reason.rule} at {reason.where or 'no time'} in {reason.unit} is none of the reasons there are"
            )
        yield from _words(reason, result)


def _words(reason: Reason, result: PackingResult) -> Iterator[PackingViolation]:
    """Rule ``reasons``: the terms are complete, the sentence says no other numbers, the levers are what is shown to be enough."""
    names, clash = [name for name, _ in reason.terms], result.clash.buffers if result.clash else ()
    total = sum(size for _, size in reason.terms)
    if (total != reason.demand) if reason.rule == "load" else sorted(names) != sorted(clash):
        yield PackingViolation("reasons", f"terms of {reason.rule} are not all that make its demand")
    load = load_of([buffer for buffer in result.buffers if buffer.name in names])[0]
    known = {reason.demand, reason.limit, reason.short, len(names), len(names) - 1, load, result.load_bytes}
    for word in re.findall(r"-?[0-9]+", reason.statement):
        if int(word) not in known:
            yield PackingViolation("reasons", f"{reason.rule} says {word} in its statement, which nothing gives")
    enough = result.enough
    for lever in reason.levers:
        if enough is None or (lever.option, lever.value) != ("--capacity", enough.capacity_bytes):
            yield PackingViolation("reasons", f"{lever.option} {lever.value} is said to work, and no packing shows it")
        elif (lever.text == "the least") != (enough.capacity_bytes == enough.bound_bytes):
            yield PackingViolation("reasons", f'{lever.option} {lever.value} is said to be "{lever.text}", which is not what is proven')


def _demand(reason: Reason, result: PackingResult) -> tuple[int, int]:
    """Return the bytes that a reason speaks of, and a time: of all buffers for the load, else the least height that is proven."""
    load, time = load_of(result.buffers)
    return (load if reason.rule == "load" else result.bound_bytes), time
