"""The arguments and options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from cosma_sched.errors import UsageError, shown
from cosma_sched.units import parse_duration, parse_size

_READING = "Reading the model"
PLACING = "What counts and where it may lie"
_OUTPUT = "Output"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A zoo name, a description (attention-head:1024x128), an ONNX file, a graph JSON, or - for graph JSON on standard input.",
        show_default=False,
    ),
]
Fold = Annotated[
    str,
    typer.Option(
        metavar="LEVEL",
        help="Operators that join a neighbour and take no step of their own: none, batchnorm, elementwise, prologue.",
        rich_help_panel=_READING,
    ),
]
Views = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="free: transposes and constant slices only look at a tensor; strict: they write one.",
        rich_help_panel=_READING,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Element type instead of every floating-point one: int8, float16, ... Zoo names load as int8, files keep theirs.",
        rich_help_panel=_READING,
        show_default=False,
    ),
]
Dim = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="Value of a symbolic dimension; may be repeated.", rich_help_panel=_READING, show_default=False),
]
Tensors = Annotated[
    str,
    typer.Option(metavar="activations|all", help="all counts parameters too: they start in DRAM.", rich_help_panel=PLACING),
]
Align = Annotated[
    str,
    typer.Option(
        metavar="BYTES",
        help="Offsets are multiples of this, and a tensor occupies its size rounded up to it.",
        rich_help_panel=PLACING,
    ),
]
Reserve = Annotated[
    str,
    typer.Option(metavar="BYTES", help="Bytes at the bottom of the scratchpad that no tensor may use.", rich_help_panel=PLACING),
]
TimeLimit = Annotated[str, typer.Option(metavar="DURATION", help="When to stop: 500ms, 10s, 5m, or none.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.", rich_help_panel=_OUTPUT)]
OutputFile = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Also write the result as JSON; - for standard output.", rich_help_panel=_OUTPUT),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on standard error.", rich_help_panel=_OUTPUT)]
Verbose = Annotated[
    int,
    typer.Option("-v", "--verbose", count=True, help="Progress as lines, all rows of tables; twice for the log.", rich_help_panel=_OUTPUT),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_OUTPUT)]


def dimensions(pairs: Sequence[str] | None) -> dict[str, int]:
    """Return the values of ``--dim NAME=N``, repeated.

    Raises
    ------
    UsageError
        If one is malformed or two contradict each other.
    """
    sizes: dict[str, int] = {}
    for pair in pairs or ():
        name, sign, digits = pair.rpartition("=")
        if not (sign and name and digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise UsageError(f"--dim {shown(pair)}: must be NAME=N with a whole number N, such as --dim batch=1")
        if sizes.setdefault(name, int(digits)) != int(digits):
            raise UsageError(f"--dim {shown(pair)}: {name} is {sizes[name]} already")
    return sizes


def size(option: str, text: str, *, may_be_zero: bool = False) -> int:
    """Return the bytes of an option that is a size.

    Raises
    ------
    UsageError
        If it is none.
    """
    if may_be_zero and text == "0":
        return 0
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def seconds(option: str, text: str) -> float | None:
    """Return the seconds of a duration option, None for ``none``.

    Raises
    ------
    UsageError
        If the text is no duration.
    """
    if text == "none":
        return None
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def whole(option: str, text: str, *, least: int) -> int:
    """Return the value of an option that is a whole number.

    Raises
    ------
    UsageError
        If it is none, or less than `least`.
    """
    if not re.fullmatch(r"[0-9]{1,18}", text, flags=re.ASCII) or int(text) < least:
        raise UsageError(f"{option} {shown(text)}: must be a whole number >= {least}")
    return int(text)


def ratio(option: str, text: str) -> float:
    """Return the value of an option that is a number from 0 to below 1.

    Raises
    ------
    UsageError
        If it is none.
    """
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise UsageError(f"{option} {shown(text)}: must be a number from 0 to below 1, such as 0.05")
