"""A memory planner for ExecuTorch programs: arenas of the least size, proven where they are (memory-planning design, section 13).

``MemoryPlanningPass(memory_planning_algo=MemoryPlanningAlgorithmSuite([cosma_planner(time_limit=10)]))`` goes into
``ExecutorchBackendConfig(memory_planning_pass=...)``; docs/executorch.md shows the whole way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cosma_sched.errors import UsageError, VerificationError, shown
from cosma_sched.extras import need
from cosma_sched.graph import Buffer
from cosma_sched.integrations.executorch_check import Answer, violations
from cosma_sched.integrations.executorch_specs import Block, Pool, Spec, distinct, read_pools, start_offsets
from cosma_sched.memory.packing import max_load
from cosma_sched.memory.packing_height import least_height
from cosma_sched.progress import Clock

logger = logging.getLogger(__name__)

Algorithm = Callable[[int, Iterable[Any], Any, Any, int], Any]
"""What a ``MemoryPlanningAlgorithmSuite`` takes: (alignment, specs, graph module, graph signature, extra padding) -> MemoryAlgoResult."""


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What was planned for one pool.

    Parameters
    ----------
    number
        Its ``mem_id``.
    arena_bytes
        Size of the arena, the submodules' bytes and the padding included.
    fallback_bytes
        What the fallback needs; None without one, and where its plan does not hold.
    load_bytes
        The load bound: the most bytes that live at one node, with the submodules' bytes and the padding.
    bound_bytes
        The best lower bound proven for any plan of these lifetimes, at least the load bound.
    """

    number: int
    arena_bytes: int
    fallback_bytes: int | None
    load_bytes: int
    bound_bytes: int


@dataclass(frozen=True, slots=True)
class ArenaReport:
    """What was planned for one program, or for one submodule of its control flow.

    Parameters
    ----------
    tensors
        How many tensors were placed.
    pools
        The pools that hold them.
    fallback
        Name of the algorithm that the plan is compared with, empty without one.
    seconds
        Elapsed time, the fallback's included.
    """

    tensors: int
    pools: tuple[PoolReport, ...]
    fallback: str
    seconds: float

    @property
    def arena_bytes(self) -> int:
        """Bytes of all pools."""
        return sum(pool.arena_bytes for pool in self.pools)

    @property
    def fallback_bytes(self) -> int | None:
        """Bytes that the fallback needs; None without one, and where its plan does not hold."""
        sizes = [pool.fallback_bytes for pool in self.pools if pool.fallback_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.pools) else None

    @property
    def load_bytes(self) -> int:
        """The load bound of all pools."""
        return sum(pool.load_bytes for pool in self.pools)

    @property
    def bound_bytes(self) -> int:
        """Proven lower bound on the bytes of all pools."""
        return sum(pool.bound_bytes for pool in self.pools)

    @property
    def is_optimal(self) -> bool:
        """True where no plan of these lifetimes needs less."""
        return self.arena_bytes == self.bound_bytes

    def __str__(self) -> str:
        fallback = "" if self.fallback_bytes is None else f" ({self.fallback} {self.fallback_bytes:,})"
        proof = "proven optimal" if self.is_optimal else f"not proven, no plan needs less than {self.bound_bytes:,}"
        sizes = f"arena {self.arena_bytes:,} bytes{fallback}, load bound {self.load_bytes:,}"
        return f"executorch: {self.tensors} tensors, {sizes}, {proof}, {self.seconds:.2f} s"


def cosma_planner(
    *,
    time_limit: float | None = 10.0,
    fallback: str | Algorithm | None = "greedy",
    seed: int = 0,
    workers: int = 1,
    observers: Sequence[Callable[[ArenaReport], None]] = (),
) -> Planner:
    """Return a memory planning algorithm for ExecuTorch's ``MemoryPlanningAlgorithmSuite``.

    Parameters
    ----------
    time_limit
        Seconds for each graph, None to search until the least arena is proven; 0 takes the fallback's plan.
    fallback
        The algorithm whose plan is the start, and the answer where nothing better is found in time: ``greedy`` (ExecuTorch's default), any
        algorithm of the same form, or None.
    seed
        Of everything random; one worker and the same seed give the same plan where the search is not stopped by the time limit.
    workers
        Threads of the CP-SAT search.
    observers
        Called with an `ArenaReport` after each graph; the same line goes to the logger ``cosma_sched`` at level INFO.

    Returns
    -------
    Planner
        Its plans honour pools, storage chains, the submodules' bytes, padding and alignment, are checked before they are returned, and are
        never larger than the fallback's.

    Raises
    ------
    MissingError
        If ExecuTorch is not installed.
    """
    need("executorch", extra="executorch")
    planning = need("executorch.exir.memory_planning", extra="executorch")
    if time_limit is not None and not time_limit >= 0:
        raise UsageError(f"time_limit must be >= 0 seconds or None, got {shown(time_limit)}")
    if isinstance(fallback, str) and fallback != "greedy":
        raise UsageError(f'fallback must be "greedy", an algorithm or None, got {shown(fallback)}')
    return Planner(time_limit, planning.greedy if isinstance(fallback, str) else fallback, seed, workers, tuple(observers))


@dataclass(frozen=True, slots=True)
class Planner:
    """The algorithm that `cosma_planner` returns; its parameters are described there."""

    time_limit: float | None
    fallback: Algorithm | None
    seed: int
    workers: int
    observers: tuple[Callable[[ArenaReport], None], ...]

    @property
    def __name__(self) -> str:
        """What the suite tells algorithms apart by."""
        return "cosma_planner"

    def __call__(self, alignment: int, specs: Iterable[Spec], graph_module: Any, graph_signature: Any, extra_padding: int = 0) -> Any:
        """Place every spec; return a ``MemoryAlgoResult``.

        Raises
        ------
        InputError
            If a spec cannot be placed at all: the message names every such tensor.
        """
        clock = Clock(self.time_limit)
        asked = _Request(alignment, tuple(distinct(specs)), graph_module, graph_signature, extra_padding)
        pools = read_pools(alignment, asked.specs, graph_module, extra_padding)
        start = self._start(asked, pools)
        placed = []
        for index, pool in enumerate(pools):
            placed.append(self._place(pool, None if start is None else start[index], clock.within(1 / (len(pools) - index))))
        answer = _answer(placed, graph_module)
        if wrong := [*asked.violations(answer), *_false_bounds(placed)]:
            logger.error("the plan breaks a rule, which is a bug in cosma-sched: %s", wrong[0])
            if start is None:
                raise VerificationError(wrong)
            placed = [replace(own, offsets=offsets, bound_bytes=own.load_bytes) for own, offsets in zip(placed, start, strict=True)]
            answer = _answer(placed, graph_module)
            if wrong := asked.violations(answer):
                raise VerificationError(wrong)
        self._report(placed, start, len(asked.specs), clock)
        return answer

    def _start(self, asked: _Request, pools: Sequence[Pool]) -> list[tuple[int, ...]] | None:
        """Return the fallback's offset for each block of each pool; None without a fallback, and where its plan breaks a rule."""
        if self.fallback is None:
            return None
        answer = self.fallback(asked.alignment, asked.specs, asked.graph_module, asked.graph_signature, asked.extra_padding)
        if wrong := asked.violations(answer):
            logger.warning("the fallback's plan is not used, it breaks a rule: %s", wrong[0])
            return None
        return [tuple(answer.spec_dict[block.members[0].spec].mem_offset for block in pool.blocks) for pool in pools]

    def _place(self, pool: Pool, start: tuple[int, ...] | None, clock: Clock) -> _Placement:
        """Return the lowest placement of a pool that is found, the start if nothing is lower."""
        buffers = _buffers(pool, start)
        load = max_load(buffers)[0]
        held = None if start is None else _Placement(pool, start, load, load)
        if held is not None and (held.height_bytes == load or clock.expired):
            return held
        try:
            packing = least_height(buffers, clock=clock, seed=self.seed, workers=self.workers)
        except VerificationError as error:
            if held is None:
                raise
            logger.error("the packing breaks a rule, which is a bug in cosma-sched: %s", error)
            return held
        offsets = _stacked(pool) if packing.offsets is None else tuple(pool.start_bytes + offset for offset in packing.offsets)
        found = _Placement(pool, offsets, load, packing.bound_bytes)
        if held is not None and held.height_bytes <= found.height_bytes:
            return replace(found, offsets=held.offsets)
        return found

    def _report(self, placed: Sequence[_Placement], start: list[tuple[int, ...]] | None, tensors: int, clock: Clock) -> None:
        pools = []
        for index, own in enumerate(placed):
            fallback = None if start is None else replace(own, offsets=start[index]).arena_bytes
            fixed = own.pool.start_bytes + own.pool.padding_bytes
            pools.append(PoolReport(own.pool.number, own.arena_bytes, fallback, fixed + own.load_bytes, fixed + own.bound_bytes))
        name = "" if start is None else getattr(self.fallback, "__name__", "fallback")
        report = ArenaReport(tensors, tuple(pools), name, clock.seconds)
        logger.info("%s", report)
        for observer in self.observers:
            observer(report)


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """What the suite asks for."""

    alignment: int
    specs: tuple[Spec, ...]
    graph_module: Any
    graph_signature: Any
    extra_padding: int

    def violations(self, answer: Answer) -> list[str]:
        """Return every rule that an answer breaks."""
        return violations(self.alignment, self.specs, self.graph_module, self.extra_padding, answer)


@dataclass(frozen=True, slots=True, eq=False)
class _Placement:
    """Offsets in the arena for the blocks of a pool; the load, and a proven bound on the height of any placement."""

    pool: Pool
    offsets: tuple[int, ...]
    load_bytes: int
    bound_bytes: int

    @property
    def height_bytes(self) -> int:
        """Bytes between the start and the highest end of a block."""
        ends = (offset + block.size_bytes for offset, block in zip(self.offsets, self.pool.blocks, strict=True))
        return max(ends) - self.pool.start_bytes

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena, start and padding included."""
        return self.pool.start_bytes + self.height_bytes + self.pool.padding_bytes


def _false_bounds(placed: Sequence[_Placement]) -> list[str]:
    """Return what is wrong with the bounds: none lies above what was reached, or below the load."""
    return [
        f"pool {own.pool.number}: load {own.load_bytes}, bound {own.bound_bytes}, height {own.height_bytes}"
        for own in placed
        if not own.load_bytes <= own.bound_bytes <= own.height_bytes
    ]


def _buffers(pool: Pool, start: tuple[int, ...] | None) -> list[Buffer]:
    """Return the blocks as buffers above the pool's start; a placement that is known is hinted."""
    hints = [None] * len(pool.blocks) if start is None else [offset - pool.start_bytes for offset in start]
    return [
        Buffer(str(index), block.first, block.last + 1, block.size_bytes, pool.alignment, hint=hint)
        for index, (block, hint) in enumerate(zip(pool.blocks, hints, strict=True))
    ]


def _stacked(pool: Pool) -> tuple[int, ...]:
    """Return the placement that needs no search: every block above the one before."""
    offsets, top = [], pool.start_bytes
    for block in pool.blocks:
        offsets.append(top)
        top += block.size_bytes
    return tuple(offsets)


def _answer(placed: Sequence[_Placement], graph_module: Any) -> Any:
    """Return the placements in ExecuTorch's form."""
    planning = need("executorch.exir.memory_planning", extra="executorch")
    starts = start_offsets(graph_module)
    sizes = [0] * (1 + max([1, *starts, *(own.pool.number for own in placed)]))
    for number, size in starts.items():
        sizes[number] = size
    places = {}
    for own in placed:
        sizes[own.pool.number] = own.arena_bytes
        for block, offset, number in zip(own.pool.blocks, own.offsets, _objects(own.pool.blocks, own.offsets), strict=True):
            for member in block.members:
                places[member.spec] = planning.SpecAllocResult(own.pool.number, number, offset + member.distance)
    return planning.MemoryAlgoResult(places, sizes)


def _objects(blocks: Sequence[Block], offsets: Sequence[int]) -> list[int]:
    """Return for each block the number of its stretch of the arena: blocks that share bytes, at whatever time, share the number.

    ExecuTorch calls a stretch a memory object and wants the numbers of overlapping tensors to agree.
    """
    numbers = [0] * len(blocks)
    number, end = -1, -1
    for index in sorted(range(len(blocks)), key=lambda index: (offsets[index], blocks[index].size_bytes)):
        if offsets[index] >= end:
            number += 1
        numbers[index] = number
        end = max(end, offsets[index] + blocks[index].size_bytes)
    return numbers
