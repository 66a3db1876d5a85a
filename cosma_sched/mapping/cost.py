"""The cost model: what a mapping moves, what that costs, and how long it takes (Timeloop semantics; docs/mapping.md derives it).

Written once over an array namespace `xp`: numpy scores mappings, jax differentiates the same functions. So nothing is written in place,
`xp.where` stands for branches, and every argument is a scalar or an array with one entry for each mapping. All counts are whole numbers
that double precision holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cosma_sched.accelerator import Accelerator, Core, MemoryLevel, PEArray
from cosma_sched.errors import Defect, InputError
from cosma_sched.mapping.layer import RELEVANT, C, K, Layer, N, P, Q, R, S

Array = Any
"""A scalar, a numpy array or a jax array."""

HALOS = ("parity", "reuse")
ROOFS = ("compute", "accumulator", "scratchpad", "dram")


class Machine(NamedTuple):
    """What the model needs to know of an accelerator; each fact may be an array with one entry for each mapping."""

    rows: Array
    cols: Array
    mac_pj: Array
    register_pj: Array
    accumulator_pj: Array
    scratchpad_pj: Array
    dram_pj: Array
    scratchpad_bytes: Array
    accumulator_bytes: Array
    accumulator_element_bytes: Array
    accumulator_bandwidth: Array
    scratchpad_bandwidth: Array
    dram_bandwidth: Array
    block_words: Array
    psum_words: Array


class Shape(NamedTuple):
    """What the model needs to know of a layer; each fact may be an array with one entry for each mapping."""

    dims: Sequence[Array]
    stride_p: Array = 1
    stride_q: Array = 1
    dilation_p: Array = 1
    dilation_q: Array = 1
    repeat: Array = 1
    w_bytes: Array = 1
    i_bytes: Array = 1
    o_bytes: Array = 1
    drain_words: tuple[Array, ...] = ()


class Tiling(NamedTuple):
    """Mappings: temporal factors ``temporal[level][dim]``, loop orders ``orders[level][position]`` from the inside, spatial factors.

    A position of an order holds a dim, or an array of dims with one entry for each mapping; `factor` of such a position is then given in
    ``ordered[level][position]``.
    """

    temporal: Array
    spatial_c: Array
    spatial_k: Array
    orders: Array
    ordered: Array


class Counts(NamedTuple):
    """Accesses of one repetition, in elements, and the bytes that the tiles take."""

    macs: Array
    w: Array
    i: Array
    o: Array
    psum: Array
    register_fills: Array
    updates: Array
    w_tile: Array
    i_tile: Array
    o_tile: Array
    register_tile: Array


class Cost(NamedTuple):
    """What a mapping costs: words at each level, energy in pJ before rounding, cycles before rounding up, and the four roofs."""

    counts: Counts
    register: Array
    accumulator: Array
    scratchpad: Array
    dram: Array
    dram_words: Array
    energy_pj: Array
    cycles: Array
    roofs: tuple[Array, Array, Array, Array]
    scratchpad_bytes: Array
    accumulator_bytes: Array


def machine_of(accelerator: Accelerator) -> Machine:
    """Return the facts of an accelerator with one core of the Gemmini kind.

    Raises
    ------
    InputError
        If its levels are not registers for W, an accumulator for O, a scratchpad for W and I, and DRAM for all, or a fact is missing.
    """
    return machine_of_core(accelerator.core, accelerator.name)


def machine_of_core(core: Core, name: str) -> Machine:
    """Return the facts of one core of the Gemmini kind, `name` standing for it in messages.

    Raises
    ------
    InputError
        As `machine_of`.
    """
    array = core.array or PEArray()
    defects = list(_structure_defects(core.levels, array))
    if defects:
        raise InputError(name, defects)
    register, accumulator, scratchpad, dram = core.levels
    return Machine(
        rows=array.rows,
        cols=array.cols,
        mac_pj=array.mac_pj,
        register_pj=register.pj_per_word,
        accumulator_pj=accumulator.pj_per_word,
        scratchpad_pj=scratchpad.pj_per_word,
        dram_pj=dram.pj_per_word,
        scratchpad_bytes=scratchpad.size_bytes,
        accumulator_bytes=accumulator.size_bytes,
        accumulator_element_bytes=accumulator.element_bytes,
        accumulator_bandwidth=accumulator.words_per_cycle_per_column,
        scratchpad_bandwidth=scratchpad.words_per_cycle,
        dram_bandwidth=dram.words_per_cycle,
        block_words=dram.block_words,
        psum_words=dram.psum_words,
    )


def _structure_defects(levels: Sequence[MemoryLevel], array: PEArray) -> list[Defect]:
    held = [sorted(level.holds) for level in levels]
    if held != [["W"], ["O"], ["I", "W"], ["I", "O", "W"]]:
        listed = ", ".join(f"{level.name} [{''.join(level.holds)}]" for level in levels)
        needed = "a register for W, an accumulator for O, a scratchpad for W and I, DRAM for all"
        return [Defect("levels", f"mapping needs {needed}; got {listed}")]
    defects = []
    if [dim for dim, _ in array.unroll] != ["C", "K"]:
        got = " and ".join(dim for dim, _ in array.unroll) or "no dims"
        defects.append(Defect("array", f"mapping spreads C over rows and K over columns; got {got}"))
    facts = [(1, "size_bytes"), (1, "words_per_cycle_per_column"), (2, "size_bytes"), (2, "words_per_cycle"), (3, "words_per_cycle")]
    defects += [Defect(f"levels[{i}].{fact}", "is missing; mapping needs it") for i, fact in facts if getattr(levels[i], fact) is None]
    return defects


def shape_of(layer: Layer) -> Shape:
    """Return the facts of a layer."""
    return Shape(
        layer.dims,
        layer.stride_p,
        layer.stride_q,
        layer.dilation_p,
        layer.dilation_q,
        layer.repeat,
        *layer.element_bytes,
        layer.drain_words,
    )


def evaluate(xp: Any, machine: Machine, shape: Shape, tiling: Tiling, *, halo: str = "parity", rounded: bool = True) -> Cost:
    """Return what mappings cost; whether they are valid is another question (`violations` of `space`, or the bytes against capacity).

    Parameters
    ----------
    xp
        Array namespace: ``numpy`` or ``jax.numpy``.
    machine, shape, tiling
        Accelerator, layer and mappings.
    halo
        Window rule: ``parity`` with Timeloop, or ``reuse``.
    rounded
        Charge DRAM energy in whole blocks. Without it the cost is piecewise smooth, which gradients need.
    """
    counts = access_counts(xp, shape, tiling, halo)
    return cost_of(xp, machine, shape, counts, tiling.spatial_c, tiling.spatial_k, rounded=rounded)


def access_counts(xp: Any, shape: Shape, tiling: Tiling, halo: str) -> Counts:
    """Return the accesses of one repetition: footprints, refetch rule and window rule."""
    inside = tile_extents(tiling)
    w_tile = inside[R] * inside[S] * inside[C] * inside[K]
    o_bank = 1.0
    for dim in (N, K, P, Q):
        o_bank = o_bank * tiling.temporal[0][dim] * tiling.temporal[1][dim]
    register_tile = tiling.temporal[0][K] * tiling.temporal[0][C] * tiling.temporal[0][R] * tiling.temporal[0][S]
    nests = [list(zip(tiling.orders[level], tiling.ordered[level], strict=True)) for level in range(4)]
    macs = 1.0
    for extent in shape.dims:
        macs = macs * extent
    size_o = shape.dims[N] * shape.dims[K] * shape.dims[P] * shape.dims[Q]
    refetch_w = refetch(xp, nests[3], "W")
    fills = tiling.spatial_c * tiling.spatial_k * register_tile * refetch(xp, nests[1] + nests[2] + nests[3], "W")
    o = o_bank * tiling.spatial_k * refetch(xp, nests[2] + nests[3], "O")
    i, i_tile = input_words(xp, shape, inside, nests[3], halo)
    updates = macs / tiling.spatial_c
    return Counts(macs, w_tile * refetch_w, i, o, o - size_o, fills, updates, w_tile, i_tile, o_bank, register_tile)


def tile_extents(tiling: Tiling) -> list[Array]:
    """Return the extent of the scratchpad tile in each dim."""
    inside = [tiling.temporal[0][dim] * tiling.temporal[1][dim] * tiling.temporal[2][dim] * 1.0 for dim in range(7)]
    inside[C] = inside[C] * tiling.spatial_c
    inside[K] = inside[K] * tiling.spatial_k
    return inside


def refetch(xp: Any, loops: Sequence[tuple[Array, Array]], tensor: str) -> Array:
    """Return how often a tile is fetched: every loop from the first one that moves the tile on, which is relevant and longer than 1.

    Parameters
    ----------
    loops
        (dim, factor) from the inside to the outside.
    tensor
        ``W``, ``I`` or ``O``.
    """
    product: Array = 1.0
    moves: Array = False
    for dim, factor in loops:
        relevant = _is_relevant(dim, tensor)
        if relevant is not False:
            moves = moves | (relevant & (factor > 1))
        product = product * xp.where(moves, factor, 1.0)
    return product


_MASKS = {tensor: sum(1 << dim for dim in dims) for tensor, dims in RELEVANT.items()}


def _is_relevant(dim: Array, tensor: str) -> Array:
    if isinstance(dim, int):
        return dim in RELEVANT[tensor]
    return ((_MASKS[tensor] >> dim) & 1).astype(bool)


def window(extent: Array, stride: Array, kernel: Array, dilation: Array) -> Array:
    """Return how many input rows the windows of `extent` output rows cover."""
    return (extent - 1) * stride + (kernel - 1) * dilation + 1


class _Axis(NamedTuple):
    """One spatial axis of the input: output extent and kernel extent of the tile, stride, dilation, rows of the tile."""

    extent: Array
    kernel: Array
    stride: Array
    dilation: Array
    rows: Array


def input_words(xp: Any, shape: Shape, inside: Sequence[Array], loops: Sequence[tuple[Array, Array]], halo: str) -> tuple[Array, Array]:
    """Return the input elements fetched from DRAM, and those of one tile.

    The two innermost L3 loops decide how much of the window of the previous tile is still there.
    """
    p_axis = _axis(inside[P], inside[R], shape.stride_p, shape.dilation_p)
    q_axis = _axis(inside[Q], inside[S], shape.stride_q, shape.dilation_q)
    first, factor, second, next_factor = _innermost(xp, loops, skip_k=halo == "reuse")
    base = inside[C] * inside[N]
    fetches = refetch(xp, loops, "I")
    tile = base * p_axis.rows * q_axis.rows
    words = tile * fetches
    for along, kernel, axis, across in ((P, R, p_axis, q_axis), (Q, S, q_axis, p_axis)):
        rest = base * across.rows * fetches / factor
        words = xp.where(first == along, rest * _rows_along(xp, axis, factor), words)
        words = xp.where(first == kernel, rest * _union(axis, factor), words)
        both = rest * _kernel_then_along(xp, axis, factor, next_factor, halo) / next_factor
        words = xp.where((first == kernel) & (second == along), both, words)
    return words, tile


def _axis(extent: Array, kernel: Array, stride: Array, dilation: Array) -> _Axis:
    return _Axis(extent, kernel, stride, dilation, window(extent, stride, kernel, dilation))


def _innermost(xp: Any, loops: Sequence[tuple[Array, Array]], *, skip_k: bool) -> tuple[Array, Array, Array, Array]:
    """Return dim and factor of the innermost loop longer than 1 and of the next; -1 and 1 where there is none."""
    first, factor, second, next_factor = -1, 1.0, -1, 1.0
    for dim, length in loops:
        counts = length > 1
        if skip_k:
            counts = counts & ((dim != K) | (first != -1))
        is_first = counts & (first == -1)
        is_second = counts & (first != -1) & (second == -1)
        second = xp.where(is_second, dim, second)
        next_factor = xp.where(is_second, length, next_factor)
        first = xp.where(is_first, dim, first)
        factor = xp.where(is_first, length, factor)
    return first, factor, second, next_factor


def _rows_along(xp: Any, axis: _Axis, factor: Array) -> Array:
    """Rows fetched while the window slides: all of the first tile, of each later one what it does not share with the one before."""
    fresh = (axis.extent - 1) * axis.stride + xp.minimum(axis.stride, (axis.kernel - 1) * axis.dilation + 1)
    return axis.rows + (factor - 1) * fresh


def _union(axis: _Axis, factor: Array) -> Array:
    """Rows that the windows of all kernel positions cover together."""
    return window(axis.extent, axis.stride, axis.kernel * factor, axis.dilation)


def _kernel_then_along(xp: Any, axis: _Axis, factor: Array, next_factor: Array, halo: str) -> Array:
    """Rows fetched by a kernel loop inside a loop along the axis."""
    if halo == "parity":
        # What Timeloop counts, fitted to its published rows: one row is kept from tile to tile in this one case.
        kept = (axis.extent == 2) & (axis.stride == 1) & (axis.kernel == 1)
        return _union(axis, factor) * next_factor - xp.where(kept, next_factor - 1, 0.0)
    rows = axis.rows
    fresh = xp.minimum(axis.kernel * axis.dilation, rows)
    last = (factor - 1) * axis.kernel * axis.dilation  # where the window of the last kernel position begins
    shift = axis.extent * axis.stride  # where the window of the next output tile begins
    overlap = xp.maximum(0.0, xp.minimum(last + rows, shift + rows) - xp.maximum(shift, last))
    return rows + (factor - 1) * fresh + (next_factor - 1) * (rows - overlap + (factor - 1) * fresh)


def cost_of(xp: Any, machine: Machine, shape: Shape, counts: Counts, spatial_c: Array, spatial_k: Array, *, rounded: bool = True) -> Cost:
    """Return energy and cycles from counts; elements become words, repetitions multiply before anything is rounded."""
    repeat = shape.repeat
    macs = counts.macs * repeat
    w, i = counts.w * (repeat * shape.w_bytes), counts.i * (repeat * shape.i_bytes)
    psum = counts.psum * (repeat * xp.maximum(machine.psum_words, shape.o_bytes))
    o = (counts.o - counts.psum) * (repeat * shape.o_bytes) + psum
    fills = counts.register_fills * repeat
    register = macs + fills
    accumulator = (2 * counts.updates + counts.psum) * repeat  # updates, reads but the first, fills
    scratchpad = w + i + fills * shape.w_bytes + macs / spatial_k * shape.i_bytes
    blocks = _in_blocks(xp, machine.block_words) if rounded else _as_they_are
    drained = sum(shape.drain_words)
    dram = blocks(w) + blocks(i) + blocks(o) + blocks(psum) + sum(blocks(words * 1.0) for words in shape.drain_words)
    words = w + i + o + psum + drained
    energy = (
        machine.mac_pj * macs
        + machine.register_pj * register
        + machine.accumulator_pj * accumulator
        + machine.scratchpad_pj * scratchpad
        + machine.dram_pj * dram
    )
    roofs = (
        macs / (spatial_c * spatial_k),
        accumulator / (machine.accumulator_bandwidth * spatial_k),
        scratchpad / machine.scratchpad_bandwidth,
        words / machine.dram_bandwidth,
    )
    cycles = xp.maximum(xp.maximum(roofs[0], roofs[1]), xp.maximum(roofs[2], roofs[3]))
    scratchpad_bytes = counts.w_tile * shape.w_bytes + counts.i_tile * shape.i_bytes
    accumulator_bytes = counts.o_tile * (machine.accumulator_element_bytes * machine.cols)
    return Cost(counts, register, accumulator, scratchpad, dram, words, energy, cycles, roofs, scratchpad_bytes, accumulator_bytes)


def _in_blocks(xp: Any, block: Array) -> Any:
    return lambda words: block * xp.ceil(words / block)


def _as_they_are(words: Array) -> Array:
    return words
