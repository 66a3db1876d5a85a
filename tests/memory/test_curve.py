"""The traffic curve: every break point, against the optimum at every size."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

import cosma_sched as cs
from cosma_sched.cli import main
from cosma_sched.graph import Graph
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


def steps(curve: cs.MemoryCurve) -> list[tuple[int, int]]:
    return [(point.scratchpad_bytes, point.traffic_bytes) for point in curve.points]


@given(graphs(max_operators=6))
@settings(max_examples=40)
def test_the_curve_of_every_order_is_the_optimum_at_every_size(graph: Graph) -> None:
    bounds = cs.memory_bounds(graph)
    curve = cs.memory_curve(graph, workers=1)
    assert curve.status == "optimal"
    assert (curve.from_bytes, curve.to_bytes) == (bounds.m_r_bytes, bounds.m_p_bytes)
    for size in range(bounds.m_r_bytes, bounds.m_p_bytes + 1):
        traffic = next(value for at, value in reversed(steps(curve)) if at <= size)
        assert traffic == oracle.least_traffic_by_capacity(graph, size)
    assert cs.verify(graph, curve) == []


def test_the_curve_of_crossroads() -> None:
    """Golden: memory-planning design, section 15."""
    graph = read_toy("crossroads")
    assert steps(cs.memory_curve(graph, workers=1)) == [(14, 12), (15, 10), (16, 3), (17, 0)]
    assert steps(cs.memory_curve(graph, order="given", workers=1)) == [(14, 22), (16, 12), (17, 0)]


def test_a_point_that_addresses_spoil_is_not_placed() -> None:
    (point,) = cs.memory_curve(read_toy("pinch"), workers=1).points
    assert (point.scratchpad_bytes, point.traffic_bytes, point.packed) == (12, 0, False)


def test_a_range_is_cut_at_the_budgets() -> None:
    graph = read_toy("crossroads")
    assert steps(cs.memory_curve(graph, smallest=1, largest=99, workers=1)) == steps(cs.memory_curve(graph, workers=1))
    assert steps(cs.memory_curve(graph, smallest=15, largest=16, workers=1)) == [(15, 10), (16, 3)]


def test_a_stopped_curve_goes_on_where_it_ended(tmp_path) -> None:
    graph = read_toy("crossroads")
    whole = cs.memory_curve(graph, workers=1)
    half = cs.MemoryCurve(
        **{**{name: getattr(whole, name) for name in whole.__slots__}, "points": whole.points[2:], "termination": "time_limit"}
    )
    assert steps(cs.memory_curve(graph, known=half, workers=1)) == steps(whole)
    half.save(tmp_path / "curve.json")
    assert steps(cs.load_result(tmp_path / "curve.json")) == steps(half)
    with pytest.raises(cs.UsageError, match="another network"):
        cs.memory_curve(read_toy("pinch"), known=half)


def test_the_command_prints_points_and_a_plot(capsys, checkout, tmp_path) -> None:
    path = tmp_path / "curve.json"
    assert main(["curve", str(checkout / "examples" / "crossroads.json"), "-o", str(path), "--from", "1"]) == 0
    captured = capsys.readouterr()
    assert "4 break points, optimal" in captured.out
    assert "--from 1 is below M_R; the curve starts at 14" in captured.err
    assert main(["verify", str(path)]) == 0
    document = path.read_text()
    path.write_text(document.replace('"traffic_bytes": 10', '"traffic_bytes": 13'))
    assert main(["verify", str(path)]) == 7
