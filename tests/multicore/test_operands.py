"""Networks that nobody can compute are refused, not scheduled."""

from __future__ import annotations

from typing import Any

import pytest

from cosma_sched.errors import InputError, UsageError
from cosma_sched.graph import Graph
from cosma_sched.multicore.calls import schedule
from tests.multicore.networks import Sketch

Shape = tuple[int, ...]
PLAIN = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}


def network(kind: str, a: Shape, b: Shape, output: Shape, **attributes: Any) -> Graph:
    sketch = Sketch()
    sketch.tensor("a", a, "input")
    sketch.tensor("b", b, "parameter")
    sketch.add(kind, ["a", "b"], output, **attributes)
    return sketch.graph()


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (network("MatMul", (8, 4), (5, 6), (8, 6)), "reduced extents 4 and 5"),
        (network("MatMul", (4,), (5, 6), (6,)), "reduced extents 4 and 5"),
        (network("Gemm", (8, 4), (6, 5), (8, 6), transB=1), "reduced extents 4 and 5"),
        (network("Conv", (1, 4, 8, 8), (4, 3, 3, 3), (1, 4, 8, 8), **PLAIN), "input channels 4 and 3"),
        (network("Conv", (1, 4, 8, 8), (4, 4, 3, 3), (1, 4, 8, 8), group=2, **PLAIN), "input channels 4 and 8"),
        (network("Conv", (1, 4, 8, 8), (4, 4, 5, 5), (1, 4, 8, 8), **PLAIN), "kernel extents 3 and 5"),
        (network("Conv", (1, 4, 8, 8), (4, 4, 3, 3), (1, 4, 8, 8), **{**PLAIN, "strides": [0, 0]}), "strides must be 2 whole numbers >= 1"),
        (network("Conv", (1, 4, 8, 8), (4, 4, 3, 3), (1, 4, 8, 8), **{**PLAIN, "pads": [1]}), "pads must be 4 whole numbers >= 0"),
        (network("Conv", (1, 4, 8, 8), (4, 4, 3, 3), (1, 4, 8, 8), **PLAIN, group=0), "group must be a whole number >= 1"),
        (network("ConvTranspose", (1, 4, 8, 8), (3, 4, 3, 3), (1, 4, 8, 8), **PLAIN), "input channels 4 and 3"),
    ],
)
def test_an_operator_that_nobody_can_compute_is_named(graph: Graph, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        schedule(graph, "duo", method="list-latency", split="rows=1")
    assert "operators[0]" in str(caught.value)


def test_a_convolution_in_groups_is_scheduled() -> None:
    graph = network("Conv", (1, 4, 8, 8), (4, 2, 3, 3), (1, 4, 8, 8), group=2, **PLAIN)
    assert schedule(graph, "duo", method="list-latency", split="rows=1").verified


@pytest.mark.parametrize("wrong", [{"partial_sum_factor": 1.5}, {"capacity": 5}, {"capacity": {"0": "5KiB"}}])
def test_options_of_another_kind_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        schedule(network("MatMul", (8, 4), (4, 6), (8, 6)), "duo", **wrong)
