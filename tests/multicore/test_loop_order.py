"""Loop orders against a plain count of fetches, and the published case that reads its weights too often."""

from __future__ import annotations

from itertools import permutations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.multicore.loop_order import LoopTensor, fetches, footprint, least_traffic


def counted(tensor: LoopTensor, order: tuple[str, ...], level: int, trips: dict[str, int]) -> int:
    """Walk the loops outside a level and count how often another set of tiles is asked for than the time before."""
    held, count = None, 0
    for point in product(*(range(trips[loop]) for loop in order[:level])):
        wanted = tuple(index for loop, index in zip(order, point, strict=False) if loop in tensor.loops)
        count += wanted != held
        held = wanted
    return count


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 3), min_size=1, max_size=3), st.data())
def test_fetches_are_those_of_a_walk_through_the_loops(extents: list[int], data: st.DataObject) -> None:
    trips = {f"l{position}": extent for position, extent in enumerate(extents)}
    loops = data.draw(st.sets(st.sampled_from(sorted(trips))))
    tensor = LoopTensor("t", 1, frozenset(loops))
    for order in permutations(trips):
        for level in range(len(order) + 1):
            assert fetches(tensor, order, level, trips) == counted(tensor, order, level, trips)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_least_traffic_is_that_of_trying_everything(data: st.DataObject) -> None:
    trips = {"a": data.draw(st.integers(1, 4)), "b": data.draw(st.integers(1, 4))}
    tensors = [
        LoopTensor(name, data.draw(st.integers(1, 5)), frozenset(data.draw(st.sets(st.sampled_from(["a", "b"])))))
        for name in ("x", "y", "z")
    ]
    capacity = data.draw(st.integers(3, 60))
    every = [
        sum(
            footprint(tensor, order, level, trips) * fetches(tensor, order, level, trips)
            for tensor, level in zip(tensors, levels, strict=True)
        )
        for order in permutations(trips)
        for levels in product(range(3), repeat=3)
        if sum(footprint(tensor, order, level, trips) for tensor, level in zip(tensors, levels, strict=True)) <= capacity
    ]
    found = least_traffic(tensors, trips, capacity)
    assert (None if found is None else found.traffic_bytes) == min(every, default=None)


def test_hidden_tiles_outermost_read_every_weight_of_swiglu_once() -> None:
    """256 x 2048 x 8192 in bf16 with 2 MiB: 822,083,584 bits off-chip (multi-accelerator.md, section 13), where the published order reads
    all weights for each of 16 token tiles."""
    trips = {"tokens": 16, "hidden": 64, "embedding": 16}
    tensors = [
        LoopTensor("x", 2 * 16 * 128, frozenset({"tokens", "embedding"})),
        LoopTensor("w1 w2", 2 * 2 * 128 * 128, frozenset({"hidden", "embedding"})),
        LoopTensor("w3", 2 * 128 * 128, frozenset({"hidden", "embedding"})),
        LoopTensor("y", 2 * 16 * 128, frozenset({"tokens", "embedding"})),
    ]
    found = least_traffic(tensors, trips, 4 * 2**20)
    assert found is not None
    assert found.order.index("hidden") < found.order.index("tokens")
    assert 8 * found.traffic_bytes == 822_083_584
