"""What a reader returns before it is checked, and how several files become one profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cosma_sched.errors import Defect, InputError
from cosma_sched.experts.profile import Scenario
from cosma_sched.experts.statistics import Numbers, check_tokens, count_loads


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read.

    Parameters
    ----------
    num_experts
        Experts per layer; None takes what the file says, else the largest id plus one.
    skip_bad_lines
        Skip and count malformed lines instead of refusing the file.
    """

    num_experts: int | None = None
    skip_bad_lines: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """The content of one file.

    Parameters
    ----------
    scenarios
        One or several workloads, not checked yet.
    layers
        Absolute number of each row; None for 0, 1, ...
    top_k
        Experts per token where the file says so.
    coactivation
        C over all scenarios together.
    rank
        The home rank that the file is about.
    notes
        What was dropped.
    """

    scenarios: tuple[Scenario, ...]
    layers: tuple[int, ...] | None = None
    top_k: int | None = None
    coactivation: Numbers | None = None
    rank: int | None = None
    notes: tuple[str, ...] = field(default=())


Reader = Callable[[str, bytes, ReadOptions], Raw]


def tokens_raw(name: str, path: str, tokens: Numbers, options: ReadOptions, **more: object) -> Raw:
    """Return the content of a file of token ids [n, L, k]."""
    check_tokens(tokens, path, options.num_experts)
    experts = options.num_experts or int(tokens.max()) + 1
    smallest = np.uint8 if experts <= 256 else np.int32
    tokens = tokens.astype(smallest)
    requests = more.pop("requests", None)
    scenario = Scenario(name, count_loads(tokens, experts), tokens=tokens, requests=requests)  # type: ignore[arg-type]
    return Raw((scenario,), **more)  # type: ignore[arg-type]


def joined(parts: Sequence[Raw], path: str, name: str) -> Raw:
    """Return several files about one workload as one: counts add up, tokens follow each other, ranks become homes.

    Raises
    ------
    InputError
        If a file has several scenarios, or the shapes differ.
    """
    if len(parts) == 1:
        return parts[0]
    if any(len(part.scenarios) != 1 for part in parts):
        raise InputError(path, "a file with several scenarios cannot be part of a profile of several files; give it with --scenario")
    layers = {part.layers for part in parts}
    if len(layers) > 1:
        raise InputError(path, "the files are about different layers")
    scenarios = [part.scenarios[0] for part in parts]
    experts = max(scenario.num_experts for scenario in scenarios)
    loads = [_widened(scenario.loads, experts) for scenario in scenarios]
    if len({len(one) for one in loads}) > 1:
        raise InputError(path, [Defect("files", f"have different numbers of layers: {sorted({len(one) for one in loads})}")])
    homes = None
    ranks = [part.rank for part in parts]
    if all(rank is not None for rank in ranks) and len(set(ranks)) == len(ranks):
        homes = np.stack([loads[i] for i in np.argsort([rank or 0 for rank in ranks])])
    known = [scenario.tokens for scenario in scenarios if scenario.tokens is not None]
    requests = [scenario.requests for scenario in scenarios if scenario.requests is not None]
    tokens = np.concatenate(known) if len(known) == len(parts) else None
    if len(known) not in {0, len(parts)}:
        raise InputError(path, "some files have token ids and some only counts; give the counts with --scenario")
    offsets = np.cumsum([0, *(int(part.max()) + 1 for part in requests)])
    merged = np.concatenate([part + offsets[i] for i, part in enumerate(requests)]) if len(requests) == len(parts) else None
    total: Numbers = sum(loads[1:], loads[0])
    scenario = Scenario(name, total, tokens=tokens, requests=merged, homes=homes)
    notes = tuple(note for part in parts for note in part.notes)
    return Raw((scenario,), parts[0].layers, next((part.top_k for part in parts if part.top_k), None), notes=notes)


def _widened(loads: Numbers, experts: int) -> Numbers:
    return np.pad(loads, ((0, 0), (0, experts - loads.shape[1])))
