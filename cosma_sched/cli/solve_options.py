"""The options that only ``solve`` has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cosma_sched.cli.arguments import PLACING, size
from cosma_sched.errors import UsageError, shown

_SOLVING = "Solving"

Scratchpad = Annotated[
    str, typer.Option(metavar="SIZE", help="Bytes, 512KiB, 2MiB, or a budget of the network: M_R, M_H, M_P.", show_default=False)
]
Order = Annotated[str, typer.Option(metavar="free|given|min-peak", help="Which operator orders are allowed.")]
Method = Annotated[
    str,
    typer.Option(
        metavar="auto|exact|divide|paper|belady|greedy",
        help="How to plan: with a proof, with the COSMA paper's integer program, or as an allocator with replacement does.",
    ),
]
Placement = Annotated[
    str | None,
    typer.Option(
        metavar="first-fit|best-fit|arena",
        help="Where belady and greedy put tensors; first-fit unless given. They read --order free as given.",
        show_default=False,
    ),
]
Gap = Annotated[str, typer.Option(metavar="RATIO", help="Stop when (traffic - bound) / traffic is this small.")]
RequireOptimal = Annotated[bool, typer.Option("--require-optimal", help="End with exit code 4 unless the plan is proven optimal.")]
Pin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENSOR=OFFSET",
        help="Where a tensor lies whenever it is resident; may be repeated.",
        rich_help_panel=PLACING,
        show_default=False,
    ),
]
AllowRelocation = Annotated[
    bool,
    typer.Option(
        "--allow-relocation",
        help="Let a tensor change its address between adjacent steps for a write and a read of it.",
        rich_help_panel=PLACING,
    ),
]
Solver = Annotated[str, typer.Option(metavar="cpsat|cbc|highs", help="Back end of the linear programs.", rich_help_panel=_SOLVING)]
Profile = Annotated[str, typer.Option(metavar="NAME", help="Parameters of the back end, from solvers/.", rich_help_panel=_SOLVING)]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Threads; the cores, at most 8, unless given. One repeats exactly.",
        rich_help_panel=_SOLVING,
        show_default=False,
    ),
]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of the solver.", rich_help_panel=_SOLVING)]
WriteModel = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write the linear program as MPS.", rich_help_panel=_SOLVING, show_default=False),
]


def offsets(pairs: Sequence[str] | None) -> dict[str, int]:
    """Return the values of ``--pin TENSOR=OFFSET``, repeated.

    Raises
    ------
    UsageError
        If one is malformed or two contradict each other.
    """
    pins: dict[str, int] = {}
    for pair in pairs or ():
        name, sign, text = pair.rpartition("=")
        if not (sign and name):
            raise UsageError(f"--pin {shown(pair)}: must be TENSOR=OFFSET, such as --pin input=0 or --pin input=64KiB")
        offset = size(f"--pin {shown(pair)}", text, may_be_zero=True)
        if pins.setdefault(name, offset) != offset:
            raise UsageError(f"--pin {shown(pair)}: {name} is pinned to {pins[name]} already")
    return pins
