"""Modulo schedules: checked by the definition, against every placement of tiny systems, and by unrolling."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.multicore.modulo import Edge, PeriodicSystem, Stay, Task, peaks, place, search
from cosma_sched.multicore.modulo_exact import place_exactly


@st.composite
def systems(draw: st.DrawFn, most: int = 4) -> PeriodicSystem:
    """Up to `most` tasks on two resources, with precedences, back edges and stays in one memory."""
    count = draw(st.integers(1, most))
    tasks = tuple(
        Task(f"t{position}", draw(st.integers(1, 3)), tuple(draw(st.sets(st.sampled_from(["a", "b"]), min_size=1))))
        for position in range(count)
    )
    pairs = [(before, after) for before in range(count) for after in range(before + 1, count)]
    edges = [Edge(before, after, tasks[before].duration) for before, after in pairs if draw(st.booleans())]
    if count > 1 and draw(st.booleans()):
        edges.append(Edge(count - 1, 0, tasks[-1].duration, 1))
    stays = tuple(
        Stay("m", draw(st.integers(1, 3)), position, (draw(st.integers(position, count - 1)),))
        for position in range(count)
        if draw(st.booleans())
    )
    return PeriodicSystem(tasks, tuple(edges), stays, {"m": draw(st.one_of(st.none(), st.integers(2, 6)))})


def exists(system: PeriodicSystem, ii: int, stages: int = 2) -> bool:
    """Return whether any starts within a few stages break nothing."""
    return any(system.broken(starts, ii) is None for starts in product(range(ii * stages), repeat=len(system.tasks)))


def collides(system: PeriodicSystem, starts: list[int], ii: int, iterations: int = 8) -> bool:
    """Return whether iterations written out one by one get in each other's way or overfill a memory in their middle."""
    busy: set[tuple[str, int]] = set()
    held: dict[int, int] = {}
    for number in range(iterations):
        for task, start in zip(system.tasks, starts, strict=True):
            for resource, cycle in product(task.resources, range(start + number * ii, start + number * ii + task.duration)):
                if (resource, cycle) in busy:
                    return True
                busy.add((resource, cycle))
        for stay in system.stays:
            last = max(starts[task] + system.tasks[task].duration for task in stay.ends)
            for cycle in range(starts[stay.begin] + number * ii, last + number * ii):
                held[cycle] = held.get(cycle, 0) + stay.size_bytes
    room = system.room["m"]
    return room is not None and max(held.values(), default=0) > room


@settings(max_examples=150, deadline=None)
@given(systems())
def test_a_found_schedule_holds_when_it_is_written_out(system: PeriodicSystem) -> None:
    found = search(system, most=30)
    if found is not None:
        ii, starts = found
        assert ii >= system.least_ii()
        assert not collides(system, starts, ii)


@settings(max_examples=40, deadline=None)
@given(systems(most=3))
def test_no_shorter_period_than_the_bound_exists(system: PeriodicSystem) -> None:
    ii = system.least_ii() - 1
    assert ii < 1 or not exists(system, ii)


@settings(max_examples=25, deadline=None)
@given(systems(most=3), st.integers(3, 5))
def test_the_solver_finds_a_schedule_wherever_one_exists(system: PeriodicSystem, ii: int) -> None:
    found = place_exactly(system, ii, time_limit=20)
    if found is not None:
        assert not collides(system, found, ii)
    else:
        assert not exists(system, ii, stages=1)


def test_a_fetch_comes_as_late_as_its_reader_allows() -> None:
    fetch, node = Task("fetch", 3, ("bus",), is_fetch=True), Task("node", 10, ("core",))
    system = PeriodicSystem((fetch, node), (Edge(0, 1, 3),), (Stay("m", 8, 0, (1,)),), {"m": 16})
    assert place(system, 10) == [-3, 0]
    assert peaks(system, [-3, 0], 10) == {"m": 16}


def test_a_recurrence_over_two_iterations_bounds_the_period() -> None:
    one, other = Task("one", 4, ("a",)), Task("other", 5, ("b",))
    system = PeriodicSystem((one, other), (Edge(0, 1, 4), Edge(1, 0, 5, 2)), (), {})
    assert (system.res_mii(), system.rec_mii()) == (5, 5)
    tighter = PeriodicSystem((one, other), (Edge(0, 1, 4), Edge(1, 0, 5, 1)), (), {})
    assert tighter.least_ii() == 9
