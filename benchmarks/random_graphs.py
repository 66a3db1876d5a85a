"""Random networks that benchmarks and their readers can make again: the same seed, the same network."""

from __future__ import annotations

import random

from cosma_sched.graph import Graph, Operator, Tensor

MOST_BYTES = 9


def small_graph(seed: int, most_operators: int = 7) -> Graph:
    """Return a network of two to `most_operators` operators with every shape that has caused mistakes.

    Up to two inputs; operators without inputs, without outputs, with two outputs; an operand that stands twice; outputs read again.
    """
    draw = random.Random(seed)
    kinds = {f"x{i}": "input" for i in range(draw.randint(0, 2))}
    operators: list[Operator] = []
    for index in range(draw.randint(2, most_operators)):
        known = list(kinds)
        count = draw.choice((0, 1, 1, 2, 2, 3)) if known else 0
        reads = [draw.choice(known[-4:] if draw.random() < 0.6 else known) for _ in range(count)]
        reads = list(dict.fromkeys(reads)) + (reads[:1] if draw.random() < 0.1 else [])
        outputs = [f"t{index}_{j}" for j in range(draw.choice((1, 1, 1, 1, 2)))]
        if reads and draw.random() < 0.06:
            outputs = []
        kinds |= dict.fromkeys(outputs, "activation")
        operators.append(Operator(f"op{index}", "F", tuple(reads), tuple(outputs)))
    read = {name for operator in operators for name in operator.inputs}
    tensors = []
    for name, kind in kinds.items():
        is_output = kind == "activation" and (name not in read or draw.random() < 0.1)
        if kind == "activation" or name in read:
            tensors.append(Tensor(name, draw.randint(1, MOST_BYTES), "output" if is_output else kind))
    return Graph(tensors, operators, f"random {seed}")


def ladder(steps: int, seed: int = 5) -> Graph:
    """Return a chain with random skips: every operator reads the last tensor and an earlier one."""
    draw = random.Random(seed)
    names = [f"t{index}" for index in range(steps)]
    tensors = [Tensor(name, draw.randint(1, MOST_BYTES), "output" if name == names[-1] else "activation") for name in names]
    reads = [sorted({names[i - 1], names[draw.randrange(i)]}) if i else [] for i in range(steps)]
    return Graph(tensors, [Operator(f"op{i}", "Add", tuple(reads[i]), (name,)) for i, name in enumerate(names)], f"ladder {steps}")
