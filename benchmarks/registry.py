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


@dataclass(frozen=True, slots=True)
class HardCase:
    """An irregular network: budgets, and for each the best proven bound and the best known plan in bytes, free order."""

    name: str
    budgets: Mapping[str, int]
    known: Mapping[str, tuple[int, int]]

    def matches(self, pattern: str) -> bool:
        """Return whether the name matches a pattern."""
        return fnmatch(self.name, pattern)


# Source: memory-planning design, section 15; nasnet_a and pnasnet5 at M_H were open there and are proven by this project.
HARD_CASES = (
    HardCase("darts", {"M_R": 451_584, "M_H": 451_584, "M_P": 451_584}, {"M_R": (0, 0), "M_H": (0, 0), "M_P": (0, 0)}),
    HardCase(
        "amoebanet_d",
        {"M_R": 3_211_264, "M_H": 3_738_112, "M_P": 4_264_960},
        {"M_R": (2_107_392, 2_107_392), "M_H": (1_204_224, 1_204_224), "M_P": (0, 0)},
    ),
    HardCase(
        "nasnet_a",
        {"M_R": 5_420_736, "M_H": 6_984_234, "M_P": 8_547_732},
        {"M_R": (15_961_380, 15_961_380), "M_H": (10_454_400, 10_454_400), "M_P": (0, 0)},
    ),
    HardCase(
        "pnasnet5",
        {"M_R": 5_355_456, "M_H": 6_816_003, "M_P": 8_276_550},
        {"M_R": (16_425_072, 19_038_132), "M_H": (8_584_812, 8_584_812), "M_P": (0, 0)},
    ),
)
