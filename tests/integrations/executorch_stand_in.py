"""What the planner needs of ExecuTorch, small enough to break at will; and a checker that paints bytes, node by node."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass(eq=False)
class StandInSpec:
    """As a ``TensorSpec``: bytes, and the fields of memory planning."""

    nbytes: int
    first: int | None
    last: int | None
    mem_id: int | None = None
    storage_base: StandInSpec | None = None
    storage_base_offset: int = 0
    alignment: int = 16
    lifetime: list[int | None] = field(init=False)

    def __post_init__(self) -> None:
        self.lifetime = [self.first, self.last]

    @property
    def allocated_memory(self) -> int:
        return -(-self.nbytes // self.alignment) * self.alignment

    def realign(self, new_alignment: int) -> int:
        self.alignment = new_alignment
        return self.allocated_memory


@dataclass
class SpecAllocResult:
    mem_id: int
    mem_obj_id: int
    mem_offset: int


@dataclass
class MemoryAlgoResult:
    spec_dict: dict[Any, SpecAllocResult]
    bufsizes: list[int]


def graph(*names_and_specs: tuple[str, Any], starts: list[int] | None = None) -> Any:
    """As a graph module: nodes that carry specs, and the bytes of submodules where there are any."""
    nodes = [SimpleNamespace(name=name, meta={"spec": spec}) for name, spec in names_and_specs]
    module = SimpleNamespace(graph=SimpleNamespace(nodes=nodes))
    if starts is not None:
        module.input_mem_buffer_sizes = starts
    return module


def greedy(alignment: int, specs: Iterable[StandInSpec], graph_module: Any, graph_signature: Any, extra_padding: int = 0) -> Any:
    """Put every tensor above the one before, as the least clever planner does; aliases into what backs them."""
    starts = getattr(graph_module, "input_mem_buffer_sizes", None) or []
    tops: dict[int, int] = {}
    places: dict[StandInSpec, SpecAllocResult] = {}
    waiting = []
    for spec in specs:
        spec.realign(alignment)
        if spec.storage_base is not None:
            waiting.append(spec)
            continue
        pool = spec.mem_id or 1
        top = tops.setdefault(pool, starts[pool] if pool < len(starts) else 0)
        places[spec] = SpecAllocResult(pool, len(places), top)
        tops[pool] = top + spec.allocated_memory
    while waiting:
        spec = waiting.pop(0)
        base = places.get(spec.storage_base)
        if base is None:
            waiting.append(spec)
        else:
            places[spec] = SpecAllocResult(base.mem_id, base.mem_obj_id, base.mem_offset + spec.storage_base_offset)
    sizes = [tops[pool] + extra_padding if pool in tops else 0 for pool in range(1 + max([1, *tops]))]
    return MemoryAlgoResult(places, sizes)


def stand_in_modules() -> dict[str, ModuleType]:
    """Return the modules to be found in the place of ExecuTorch's."""
    planning = ModuleType("executorch.exir.memory_planning")
    vars(planning).update(greedy=greedy, SpecAllocResult=SpecAllocResult, MemoryAlgoResult=MemoryAlgoResult)
    return {"executorch": ModuleType("executorch"), "executorch.exir": ModuleType("executorch.exir"), planning.__name__: planning}


def faults(specs: Iterable[StandInSpec], alignment: int, starts: list[int], padding: int, answer: Any) -> list[str]:
    """Paint every byte of every pool at every node; return what is painted twice or lies outside."""
    specs = list(specs)
    found = []
    painted: dict[tuple[int, int, int], StandInSpec] = {}
    for spec in specs:
        place = answer.spec_dict[spec]
        low = starts[place.mem_id] if place.mem_id < len(starts) else 0
        if place.mem_offset < low or place.mem_offset % alignment:
            found.append(f"offset {place.mem_offset}")
        if place.mem_offset + spec.allocated_memory + padding > answer.bufsizes[place.mem_id]:
            found.append(f"end of {place.mem_offset}")
        if spec.storage_base is not None:
            base = answer.spec_dict[spec.storage_base]
            if (base.mem_id, base.mem_offset + spec.storage_base_offset) != (place.mem_id, place.mem_offset):
                found.append("alias elsewhere")
            continue  # its bytes are painted by what backs it
        lives = range(min(s.lifetime[0] for s in specs if root(s) is spec), 1 + max(s.lifetime[1] for s in specs if root(s) is spec))
        for node in lives:
            own = [(place.mem_id, node, byte) for byte in range(place.mem_offset, place.mem_offset + spec.allocated_memory)]
            found += [f"collision at {where}" for where in own if painted.setdefault(where, spec) is not spec]
    return found


def root(spec: StandInSpec) -> StandInSpec:
    """Return what backs a spec in the end."""
    while spec.storage_base is not None:
        spec = spec.storage_base
    return spec


def random_program(seed: int) -> tuple[list[StandInSpec], int, list[int], int]:
    """Return specs in some pools, some backed by others; alignment, bytes of submodules and padding."""
    draw = random.Random(seed)
    alignment = draw.choice([1, 2, 4])
    specs: list[StandInSpec] = []
    for _ in range(draw.randint(1, 9)):
        first = draw.randint(0, 8)
        specs.append(StandInSpec(draw.randint(0, 9), first, first + draw.randint(0, 4), draw.choice([None, 1, 1, 3])))
    for base in list(specs):
        inside = base
        while draw.random() < 0.3:
            inside.realign(alignment)
            space = inside.allocated_memory // alignment
            offset = draw.randint(0, space) * alignment
            first = draw.randint(inside.lifetime[0] or 0, inside.lifetime[1] or 0)
            alias = StandInSpec(draw.randint(0, inside.allocated_memory - offset), first, inside.lifetime[1], None, inside, offset)
            specs.append(alias)
            inside = alias
    draw.shuffle(specs)
    return specs, alignment, draw.choice([[], [0, 8], [0, 3, 0, 5]]), draw.choice([0, 4])
