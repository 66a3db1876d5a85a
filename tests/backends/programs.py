"""Programs to solve: the test problems of the solver facts, random ones, and the answer by enumeration."""

from __future__ import annotations

import itertools
import random

from cosma_sched.backends.linear import Program


def knapsack(items: int, rows: int, seed: int = 1) -> Program:
    """Multi-dimensional 0/1 knapsack: weights 1..999, half of everything fits, minimise minus the value."""
    rng = random.Random(seed)
    program = Program("knapsack")
    chosen = [program.binary(("take", item)) for item in range(items)]
    for _ in range(rows):
        weights = [rng.randint(1, 999) for _ in chosen]
        program.at_most(zip(chosen, weights, strict=True), sum(weights) // 2, "capacity")
    program.minimise([(item, -rng.randint(1, 999)) for item in chosen])
    return program


def split(items: int, rows: int, seed: int = 1) -> Program:
    """Market split: equalities whose feasible points are hard to find."""
    rng = random.Random(seed)
    program = Program("split")
    chosen = [program.binary(("take", item)) for item in range(items)]
    for _ in range(rows):
        weights = [rng.randint(1, 99) for _ in chosen]
        program.equal(zip(chosen, weights, strict=True), sum(weights) // 2, "split")
    program.minimise([(item, rng.randint(1, 99)) for item in chosen])
    return program


def cover(size: int, seed: int = 1) -> Program:
    """Set covering: as many rows as columns, six entries in a row."""
    rng = random.Random(seed)
    program = Program("cover")
    chosen = [program.binary(("take", item)) for item in range(size)]
    for _ in range(size):
        program.at_least([(chosen[item], 1) for item in rng.sample(range(size), 6)], 1, "cover")
    program.minimise([(item, rng.randint(1, 99)) for item in chosen])
    return program


def random_program(seed: int) -> Program:
    """A small program with every kind of row, bounds below zero, gaps in its columns, an offset, and a common divisor now and then."""
    rng = random.Random(seed)
    program = Program(f"random {seed}")
    variables = []
    for number in range(rng.randint(1, 5)):
        low = rng.randint(-3, 1)
        variables.append(program.integer(("v", number), low, low + rng.randint(0, 4)))
    factor = rng.choice([1, 1, 6])
    hidden = [rng.randint(low, high) for low, high in program.bounds] if rng.random() < 0.6 else None  # most are feasible
    for number in range(rng.randint(0, 5)):
        picks = [(rng.randrange(len(variables)), factor * rng.randint(-4, 4)) for _ in range(rng.randint(1, 4))]
        terms = [(variables[column], coefficient) for column, coefficient in picks]
        slack, side = rng.randint(0, 2), rng.randint(-9, 9)
        if hidden is not None:
            side = sum(coefficient * hidden[column] for column, coefficient in picks)
        kind = rng.randrange(3)
        if kind == 0:
            program.at_least(terms, side - slack, f"row {number}")
        elif kind == 1:
            program.at_most(terms, side + slack, f"row {number}")
        else:
            program.equal(terms, side, f"row {number}")
    if rng.random() < 0.9:
        program.minimise([(variable, factor * rng.randint(-5, 5)) for variable in variables], rng.randint(-50, 50))
    return program


def enumerate_optimum(program: Program) -> int | None:
    """Return the optimum by trying every combination of values, None where none is feasible."""
    ranges = [range(low, high + 1) for low, high in program.bounds]
    return min((program.value(point) for point in itertools.product(*ranges) if program.broken(point) is None), default=None)
