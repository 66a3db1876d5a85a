"""The options that only ``schedule`` has."""

from __future__ import annotations

from typing import Annotated

import typer

from cosma_sched.cli.arguments import size
from cosma_sched.errors import UsageError, shown

_TERMS = "What counts as memory and time"
_SOLVING = "Solving"
_OUTPUT = "Output"

Accelerator = Annotated[
    str, typer.Option(metavar="ACC", help="A built-in name such as duo, or a YAML file, ours or Stream's.", show_default=False)
]
Objective = Annotated[str, typer.Option(metavar="latency|energy|memory", help="What to minimise.")]
Method = Annotated[
    str,
    typer.Option(
        metavar="exact|list-latency|list-memory|genetic",
        help="exact: with a bound; the others are baselines, as are critical-path and bytes-freed.",
    ),
]
Split = Annotated[
    str, typer.Option(metavar="AUTO|DIM=PARTS|FILE", help="How layers are cut: rows=8, rows=4,columns=2, a split file, or AUTO.")
]
Block = Annotated[str | None, typer.Option(metavar="N", help="AUTO cuts in pieces of so many indices.", show_default=False)]
Costs = Annotated[str, typer.Option(metavar="analytic|mapping|FILE", help="What a computation node costs on each core.")]
Inputs = Annotated[
    str, typer.Option(metavar="fetched|streamed|resident", help="Whether inputs take memory and transfers.", rich_help_panel=_TERMS)
]
Weights = Annotated[str, typer.Option(metavar="fetched|free", help="Whether weights do.", rich_help_panel=_TERMS)]
Outputs = Annotated[
    str,
    typer.Option(
        metavar="written|kept|streamed", help="How long outputs stay: until written back, to the end, not at all.", rich_help_panel=_TERMS
    ),
]
PartialSums = Annotated[
    str, typer.Option("--partial-sum-factor", metavar="P", help="What an unfinished sum weighs, times its size.", rich_help_panel=_TERMS)
]
Softmax = Annotated[str, typer.Option(metavar="inplace|node|expanded", help="What a softmax is.", rich_help_panel=_TERMS)]
Timing = Annotated[
    str,
    typer.Option(metavar="strict|stream", help="Whether off-chip ports limit transfers, beside links and buses.", rich_help_panel=_TERMS),
]
Capacity = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE|ID=SIZE,...",
        help="Capacity of all cores, or of some, in place of the file's.",
        show_default=False,
        rich_help_panel=_TERMS,
    ),
]
CapacityRule = Annotated[
    str | None,
    typer.Option(
        metavar="unified|split",
        help="Whether weights and features share one memory; what the file says unless given.",
        show_default=False,
        rich_help_panel=_TERMS,
    ),
]
MemoryScope = Annotated[str, typer.Option(metavar="total|worst-core", help="What the objective memory minimises.", rich_help_panel=_TERMS)]
Parameters = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Inputs of an ONNX file that are weights, separated by commas; by default those that only ever multiply from the right.",
        show_default=False,
    ),
]
Pareto = Annotated[
    str | None,
    typer.Option(metavar="N", help="Up to N schedules between the fastest and the one with the least peak.", show_default=False),
]
Addresses = Annotated[bool, typer.Option("--addresses", help="Give every tile an address in its memory, by packing afterwards.")]
Gap = Annotated[str, typer.Option(metavar="RATIO", help="Stop when (value - bound) / value is this small.", rich_help_panel=_SOLVING)]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Threads; the cores, at most 8, unless given. One repeats exactly.", rich_help_panel=_SOLVING, show_default=False
    ),
]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of the solver.", rich_help_panel=_SOLVING)]
Trace = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write a Chrome trace: opens in Perfetto.", show_default=False, rich_help_panel=_OUTPUT)
]
MemoryCsv = Annotated[
    str | None,
    typer.Option(
        "--memory-csv", metavar="FILE", help="Write the bytes on each core over time.", show_default=False, rich_help_panel=_OUTPUT
    ),
]
MappingYaml = Annotated[
    str | None,
    typer.Option(
        "--mapping-yaml",
        metavar="FILE",
        help="Write allocation, tiling and groups as Stream reads them.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]


def capacities(text: str | None) -> dict[str, int] | None:
    """Return the values of ``--capacity 0=320KiB,1=192KiB``; a size alone stands for every core.

    Raises
    ------
    UsageError
        If it is malformed.
    """
    if text is None:
        return None
    found: dict[str, int] = {}
    for part in text.split(","):
        core, sign, given = part.rpartition("=")
        if (sign and not core) or (core or "*") in found:
            raise UsageError(f"--capacity {shown(text)}: must be SIZE, or ID=SIZE with every core once, such as 0=320KiB,1=192KiB")
        found[core or "*"] = size("--capacity", given)
    return found
