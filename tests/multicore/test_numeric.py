"""Schedules run with numbers give the dense network's numbers, and wrong reads, orders and boxes do not."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from cosma_sched.accelerator import load_accelerator
from cosma_sched.errors import InputError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph, Operator, Tensor, TensorKind
from cosma_sched.multicore.costs import provider
from cosma_sched.multicore.nodes import Expansion, expand, layer_extents
from cosma_sched.multicore.numeric import dense_values, run_with_numbers
from cosma_sched.multicore.platforms import platform_of
from cosma_sched.multicore.problem import ScheduleProblem, Semantics
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Cut, Split
from cosma_sched.multicore.verify import Violation, verify
from tests.multicore.answers import answer

CASES = (
    ("attention-head:9x6", "duo", "inplace"),
    ("attention-head:8x6", "duo", "node"),
    ("attention-head:8x5", "duo", "expanded"),
    ("attention-head:6x4", "bigquad-b-k", "expanded"),
    ("attention-head:6x4", "gap8-like", "node"),
    ("attention-heads:6x4,heads=2", "duo", "inplace"),
    ("swiglu:6x4x8", "duo", "inplace"),
)
Case = tuple[Expansion, ScheduleProblem, Schedule]


def random_cuts(rng: random.Random, extents: dict[str, int]) -> tuple[Cut, ...]:
    chosen = [dim for dim, extent in extents.items() if extent > 1 and rng.random() < 0.5]
    return tuple(Cut(dim, min(extents[dim], rng.randint(2, 3)), spread=dim == "contraction" and rng.random() < 0.4) for dim in chosen)


def scheduled(network: str, accelerator: str, softmax: str, seed: int) -> Case:
    """Return a network, cut at random under random terms, with a list schedule."""
    rng = random.Random(f"{network} {seed}")
    graph, device = load(network), load_accelerator(accelerator)
    semantics = Semantics(
        rng.choice(["fetched", "streamed", "resident"]),
        rng.choice(["fetched", "free"]),
        rng.choice(["written", "kept", "streamed"]),
        rng.choice([1, 2]),
        softmax,
    )
    cuts = {layer: random_cuts(rng, extents) for layer, extents in layer_extents(graph, softmax).items()}
    expansion = expand(graph, Split(layers=cuts), semantics, provider("analytic", device))
    problem = expansion.problem(platform_of(device), semantics)
    found = answer(problem, rng.choice(["list-latency", "list-memory"]))
    assert found is not None
    return expansion, problem, found


def numbers(case: Case) -> list[Violation]:
    expansion, problem, schedule = case
    return run_with_numbers(expansion.graph, expansion.works, expansion.boxes, problem, schedule)


@pytest.mark.parametrize(("network", "accelerator", "softmax"), CASES)
def test_a_schedule_computes_what_the_dense_network_computes(network: str, accelerator: str, softmax: str) -> None:
    for seed in range(6):
        case = scheduled(network, accelerator, softmax, seed)
        assert verify(case[1], case[2]) == []
        assert numbers(case) == []


def test_the_head_is_what_its_formula_says() -> None:
    values = dense_values(load("attention-head:7x3"), seed=4)
    q, k, v = (values["I"] @ values[f"W_{name}"] for name in "QKV")
    scores = np.exp(q @ k.T)
    assert np.allclose(values["A"], scores / scores.sum(axis=1, keepdims=True) @ v)


def test_a_read_that_is_forgotten_is_a_number_that_is_not_there() -> None:
    expansion, problem, schedule = scheduled("attention-head:9x6", "duo", "inplace", 0)
    forgotten = 0
    for position, node in enumerate(problem.nodes):
        for tile in node.reads:
            nodes = list(problem.nodes)
            nodes[position] = replace(node, reads=tuple(other for other in node.reads if other != tile))
            found = numbers((expansion, replace(problem, nodes=tuple(nodes)), schedule))
            assert node.name in {violation.node for violation in found}
            forgotten += 1
    assert forgotten > 20


def test_a_forgotten_row_barrier_is_found() -> None:
    """A node that reads scores in place needs the whole row to be complete; nothing that it reads tells so."""
    expansion, problem, schedule = cut_in_columns()
    last = max(schedule.nodes, key=lambda run: run.start if run.layer == "S" else -1)
    early = [replace(run, start=0, end=run.end - run.start) if run.layer == "A" else run for run in schedule.nodes]
    found = numbers((expansion, problem, schedule.replace(nodes=tuple(early))))
    assert last.layer == "S"
    assert {violation.node for violation in found} >= {run.name for run in early if run.layer == "A"}


def cut_in_columns() -> Case:
    graph, device = load("attention-head:6x4"), load_accelerator("duo")
    semantics = Semantics("streamed", "free", "kept")
    split = Split(layers={"S": (Cut("columns", 3),), "A": (Cut("contraction", 3),)})
    expansion = expand(graph, split, semantics, provider("analytic", device))
    problem = expansion.problem(platform_of(device), semantics)
    found = answer(problem)
    assert found is not None
    return expansion, problem, found


def test_a_wrong_box_makes_other_numbers() -> None:
    expansion, problem, schedule = cut_in_columns()
    works = list(expansion.works)
    at = next(index for index, work in enumerate(works) if work.operator == "A")
    works[at] = replace(works[at], summed=works[at + 1].summed)
    found = numbers((replace(expansion, works=tuple(works)), problem, schedule))
    assert any("numbers" in violation.message for violation in found)


def test_a_tile_that_left_too_early_is_missing() -> None:
    expansion, problem, schedule = scheduled("swiglu:6x4x8", "duo", "inplace", 1)
    entries = [replace(entry, end=entry.start + 1) if entry.tile.startswith("gate") else entry for entry in schedule.residency]
    assert numbers((expansion, problem, schedule.replace(residency=tuple(entries))))


def test_an_operator_that_cannot_be_run_is_said_to_be() -> None:
    tensors = [Tensor("x", 4, TensorKind.INPUT, (4,), "int8"), Tensor("y", 4, TensorKind.OUTPUT, (4,), "int8")]
    graph = Graph(tensors, [Operator("f", "Mystery", ("x",), ("y",))], "odd")
    with pytest.raises(InputError, match="odd: operator f of type Mystery cannot be run with numbers"):
        dense_values(graph)
