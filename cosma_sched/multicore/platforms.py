"""From an accelerator to what the scheduler sees: memories with their capacity, resources, candidate routes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cosma_sched.accelerator import Accelerator, Core, MemoryLevel, OffChip, Port
from cosma_sched.errors import Defect, InputError, shown, suggestion
from cosma_sched.multicore.platform import OFFCHIP, Memory, Platform, PlatformCore, Route

MOST_ROUTES = 4
"""Candidates for each pair of ends."""

_MOST_PATHS = 64
"""Shortest paths that are looked at; a mesh of 6 by 6 has 252 from corner to corner."""

EVERY_CORE = "*"
"""Key of a capacity that holds for each core without one of its own."""


def platform_of(
    accelerator: Accelerator,
    *,
    capacity_rule: str | None = None,
    timing: str = "strict",
    capacities: Mapping[str, int] | None = None,
) -> Platform:
    """Return the platform that an accelerator is under given rules.

    Parameters
    ----------
    accelerator
        Any number of cores. Where none of them is the way off-chip, a core's outermost level without a size is.
    capacity_rule
        ``unified``: all that lies on a core counts against the outermost memory that holds inputs. ``split``: parameters count against the
        outermost memory that holds weights. None: `default_capacity_rule`.
    timing
        ``strict``, or ``stream`` for off-chip ports without a limit.
    capacities
        Bytes by core id or name of a memory, and under ``*`` for all others, in place of the file's sizes.

    Raises
    ------
    InputError
        If a capacity names no core, or is not positive.
    """
    cores = [core for core in accelerator.cores if core.offchip is None]
    rule = capacity_rule or default_capacity_rule(accelerator)
    placed, memories = _memories(accelerator, cores, rule)
    memories = _with_capacities(accelerator.name, placed, memories, capacities or {})
    routes = _Routing(accelerator, cores, strict=timing == "strict").routes()
    resources = dict.fromkeys(name for found in routes.values() for route in found for name in route.resources)
    return Platform(accelerator.name, placed, memories, tuple(resources), routes, accelerator.forwarding)


def default_capacity_rule(accelerator: Accelerator) -> str:
    """Return ``unified`` where weights and inputs have the same outermost memory on every core, else ``split``."""
    tops = [(_outermost(core, "W"), _outermost(core, "I")) for core in accelerator.cores if core.is_compute]
    return "unified" if all(weights is None or weights == inputs for weights, inputs in tops) else "split"


def onchip_levels(core: Core) -> tuple[MemoryLevel, ...]:
    """Return the levels of a core without the DRAM that a file of one core may end with."""
    dram = _own_dram(core)
    return core.levels if dram is None else core.levels[:-1]


def top_level(core: Core, tensor: str = "I") -> MemoryLevel | None:
    """Return the outermost on-chip level that holds a tensor, or the outermost one where none does."""
    levels = onchip_levels(core)
    return _outermost(core, tensor) or (levels[-1] if levels else None)


def _outermost(core: Core, tensor: str) -> MemoryLevel | None:
    return next((level for level in reversed(onchip_levels(core)) if tensor in level.holds), None)


def _own_dram(core: Core) -> MemoryLevel | None:
    last = core.levels[-1] if core.levels else None
    return last if last is not None and len(core.levels) > 1 and last.size_bytes is None and len(last.holds) == 3 else None


# Memories


def _memories(accelerator: Accelerator, cores: Sequence[Core], rule: str) -> tuple[dict[str, PlatformCore], dict[str, Memory]]:
    """Return the cores and the memories; those that share one name it after the first of them that has levels."""
    owner = _owners(accelerator)
    placed: dict[str, PlatformCore] = {}
    memories: dict[str, Memory] = {}
    by_id = {core.id: core for core in cores}
    for core in cores:
        holder = by_id[owner.get(core.id, core.id)]
        top, weights = top_level(holder), _outermost(core, "W")
        memory = f"{holder.id}.{top.name}" if top is not None else f"{holder.id}.memory"
        memories.setdefault(memory, Memory(memory, None if top is None else top.size_bytes))
        apart = None
        if rule == "split" and weights is not None and weights != _outermost(core, "I"):
            apart = f"{core.id}.{weights.name}"
            memories.setdefault(apart, Memory(apart, weights.size_bytes))
        placed[core.id] = PlatformCore(core.id, core.name, memory, core.is_compute, apart)
    return placed, memories


def _owners(accelerator: Accelerator) -> dict[str, str]:
    levels = {core.id: core.levels for core in accelerator.cores}
    owner: dict[str, str] = {}
    for group in accelerator.shared_memory:
        first = next((core for core in group if levels[core]), group[0])
        owner.update(dict.fromkeys(group, first))
    return owner


def _with_capacities(
    name: str, placed: Mapping[str, PlatformCore], memories: Mapping[str, Memory], capacities: Mapping[str, int]
) -> dict[str, Memory]:
    known = [*placed, *memories, EVERY_CORE]
    defects = [
        Defect(f"capacity of {core}", f"no core has this id; ids are {', '.join(placed)}{suggestion(core, known)}")
        for core in capacities
        if core not in known
    ]
    defects += [Defect(f"capacity of {core}", f"must be > 0, got {shown(size)}") for core, size in capacities.items() if size <= 0]
    if defects:
        raise InputError(name, defects)
    found = {memory: facts.capacity_bytes for memory, facts in memories.items()}
    if EVERY_CORE in capacities:
        found.update({facts.memory: capacities[EVERY_CORE] for facts in placed.values()})
    found.update({placed[core].memory: size for core, size in capacities.items() if core in placed})
    found.update({memory: size for memory, size in capacities.items() if memory in memories})
    return {memory: Memory(memory, size) for memory, size in found.items()}


# Routes


@dataclass(frozen=True, slots=True)
class _Hop:
    """One link in one direction, or one bus."""

    target: int
    resource: str | None
    bits_per_cycle: int | None
    pj_per_bit: float
    bus: str | None


class _Routing:
    """Candidate routes: all shortest paths in hops, with cores that share a memory as one place, and off-chip only as an end.

    A bus that joins both ends is a path of one hop, hence always among the shortest.
    """

    def __init__(self, accelerator: Accelerator, cores: Sequence[Core], *, strict: bool) -> None:
        self._strict = strict
        self._accelerator = accelerator
        self._ids = [core.id for core in cores]
        owner = _owners(accelerator)
        places: dict[str, int] = {}
        for core in accelerator.cores:
            places[core.id] = places.setdefault(owner.get(core.id, core.id), len(places))
        self._place = places
        self._hops: dict[int, list[_Hop]] = defaultdict(list)
        for link in accelerator.links:
            self._join(link.kind, link.name, link.cores, link.bits_per_cycle, link.pj_per_bit)
        self._offchip = {core.id: core.offchip for core in accelerator.cores if core.offchip is not None}
        self._far = {places[core] for core in self._offchip}

    def _join(self, kind: str, name: str, cores: Sequence[str], rate: int | None, energy: float) -> None:
        for source in cores:
            for target in cores:
                here, there = self._place[source], self._place[target]
                if here == there:
                    continue
                resource = name if kind == "bus" else f"{name}:{source}>{target}"
                hop = _Hop(there, None if rate is None else resource, rate, energy, name if kind == "bus" else None)
                if hop not in self._hops[here]:
                    self._hops[here].append(hop)

    def routes(self) -> dict[tuple[str, str], tuple[Route, ...]]:
        """Return the candidates of every pair of ends that some way joins."""
        found: dict[tuple[str, str], tuple[Route, ...]] = {}
        paths: dict[tuple[int, int], list[list[_Hop]]] = {}
        ends: list[tuple[str, int, OffChip | None]] = [(core, self._place[core], None) for core in self._ids]
        ends += [(OFFCHIP, self._place[core], offchip) for core, offchip in self._offchip.items()]
        for source, here, from_port in ends:
            for target, there, to_port in ends:
                if here == there:
                    continue
                if (here, there) not in paths:
                    paths[here, there] = self._shortest(here, there)
                candidates = [
                    self._route(source, target, path, port) for path in paths[here, there] for port in self._ports(from_port, to_port)
                ]
                if candidates:
                    found[source, target] = _chosen(candidates)
        for core in self._accelerator.cores:
            if not self._offchip and (dram := _own_dram(core)) is not None:
                found.update(self._own_routes(core, dram))
        return found

    @staticmethod
    def _ports(from_port: OffChip | None, to_port: OffChip | None) -> Iterator[tuple[str, Port, float] | None]:
        offchip, way = (from_port, "read") if from_port is not None else (to_port, "write")
        if offchip is None:
            yield None
            return
        for index, port in enumerate(offchip.ports):
            if port.direction in (way, "readwrite"):
                yield f"port{index}", port, offchip.pj_per_word / 8

    def _route(self, source: str, target: str, path: Sequence[_Hop], port: tuple[str, Port, float] | None) -> Route:
        resources = [hop.resource for hop in path if hop.resource is not None]
        rates = [hop.bits_per_cycle for hop in path if hop.bits_per_cycle is not None]
        energy = sum(hop.pj_per_bit for hop in path)
        if port is not None:
            name, facts, per_bit = port
            energy += per_bit
            if self._strict:
                resources.append(name)
                rates.append(facts.bits_per_cycle)
        bus = path[0].bus if len(path) == 1 else None
        return Route(source, target, tuple(resources), min(rates, default=None), energy, bus)

    def _own_routes(self, core: Core, dram: MemoryLevel) -> dict[tuple[str, str], tuple[Route, ...]]:
        """Routes of a core whose own outermost level is DRAM: one port that reads or writes."""
        rate = None if dram.words_per_cycle is None else max(1, int(8 * dram.words_per_cycle))
        resources = (f"port:{core.id}",) if self._strict and rate is not None else ()
        limit = rate if self._strict else None
        return {
            (source, target): (Route(source, target, resources, limit, dram.pj_per_word / 8),)
            for source, target in ((OFFCHIP, core.id), (core.id, OFFCHIP))
        }

    def _shortest(self, source: int, target: int) -> list[list[_Hop]]:
        """Return shortest paths, at most `_MOST_PATHS`, in the order of the file's links."""
        steps = self._distances(target, source)
        if source not in steps:
            return []
        found: list[list[_Hop]] = []

        def walk(place: int, path: list[_Hop]) -> None:
            if len(found) >= _MOST_PATHS:
                return
            if place == target:
                found.append(path)
                return
            for hop in self._hops[place]:
                if steps.get(hop.target) == steps[place] - 1:
                    walk(hop.target, [*path, hop])

        walk(source, [])
        return found

    def _distances(self, target: int, source: int) -> dict[int, int]:
        """Return hops to `target` from everywhere; links go both ways, and off-chip is no place to pass."""
        steps, waiting = {target: 0}, deque([target])
        while waiting:
            place = waiting.popleft()
            if place in self._far and place not in (source, target):
                continue
            for hop in self._hops[place]:
                if hop.target not in steps:
                    steps[hop.target] = steps[place] + 1
                    waiting.append(hop.target)
        return {place: step for place, step in steps.items() if place not in self._far or place in (source, target)}


def _chosen(candidates: Sequence[Route]) -> tuple[Route, ...]:
    """Return at most four routes: the fastest first, buses before links, then those that share least with the ones before."""
    left = {route.resources: route for route in reversed(candidates)}
    pool = sorted(left.values(), key=lambda route: (-(route.bits_per_cycle or 2**62), route.bus is None, route.pj_per_bit, route.resources))
    buses = [route for route in pool if route.bus is not None]
    chosen = pool[:1]
    while len(chosen) < MOST_ROUTES and len(chosen) < len(pool):
        rest = [route for route in buses if route not in chosen] or [route for route in pool if route not in chosen]
        taken = [name for route in chosen for name in route.resources]
        chosen.append(min(rest, key=lambda route: (-(route.bits_per_cycle or 2**62), sum(taken.count(name) for name in route.resources))))
    return tuple(chosen)
