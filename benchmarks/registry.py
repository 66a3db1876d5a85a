"""The instances that benchmarks run on, with what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch


@dataclass(frozen=True, slots=True)
class Case:
    """A network at its budgets.

    Parameters
    ----------
    name
        Zoo name.
    budgets
        M_R, M_H and M_P in bytes, int8, elementwise folding.
    free, given
        Least traffic in bytes at each budget, with addresses, over all orders and in the given order.
    tags
        What a script picks by.
    """

    name: str
    budgets: Mapping[str, int]
    free: Mapping[str, int]
    given: Mapping[str, int]
    tags: frozenset[str] = field(default_factory=frozenset)


def _case(name: str, budgets: tuple[int, int, int], traffic: tuple[int, int, int], *tags: str) -> Case:
    keys = ("M_R", "M_H", "M_P")
    optimum = dict(zip(keys, traffic, strict=True))
    return Case(name, dict(zip(keys, budgets, strict=True)), optimum, optimum, frozenset(tags))


# Source: memory-planning design, section 15; each value was proven with CP-SAT and each plan packed.
CASES = (
    _case("resnet50", (2_408_448, 2_408_448, 2_408_448), (0, 0, 0), "human"),
    _case("resnext50_32x4d", (2_408_448, 2_408_448, 2_408_448), (0, 0, 0), "human"),
    _case("densenet121", (1_605_632, 1_705_984, 1_806_336), (401_408, 200_704, 0), "human"),
    _case("r2plus1d_18", (41_746_432, 48_168_960, 54_591_488), (51_380_224, 51_380_224, 0), "human"),
    _case("s3d", (19_267_584, 19_267_584, 19_267_584), (0, 0, 0), "human"),
    _case("fcn_resnet50", (4_816_896, 4_816_896, 4_816_896), (0, 0, 0), "human"),
    _case("deeplabv3_resnet50", (4_816_896, 4_816_896, 4_816_896), (0, 0, 0), "human"),
    _case("lraspp_mobilenet_v3_large", (1_070_160, 1_070_160, 1_070_160), (0, 0, 0), "human"),
    _case("vit_b_16", (756_480, 832_128, 907_776), (3_631_104, 3_631_104, 0), "human"),
    _case("transformer", (327_680, 393_216, 458_752), (2_031_616, 393_216, 0), "human"),
    _case("bert_base", (491_520, 540_672, 589_824), (2_359_296, 2_359_296, 0), "extra"),
)


def cases(pattern: str = "*", *tags: str) -> Iterator[Case]:
    """Yield the cases whose name matches a pattern and which carry one of the tags, if any are given."""
    for case in CASES:
        if fnmatch(case.name, pattern) and (not tags or case.tags & set(tags)):
            yield case
