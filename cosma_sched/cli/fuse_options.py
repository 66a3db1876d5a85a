"""The options of ``cosma-sched fuse``."""

from __future__ import annotations

from typing import Annotated

import typer

_SEARCH = "Searching"
_SPACE = "The declared space"

Accelerator = Annotated[str, typer.Option(metavar="ACC", help="A built-in name such as gemmini, or a YAML file.", show_default=False)]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A zoo name, an ONNX file, a graph JSON, a layer table (CSV), or - for graph JSON.", show_default=False
    ),
]
Objective = Annotated[str, typer.Option(metavar="edp|energy|latency", help="What to minimise, for the whole network.")]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="exact: the whole declared space, with a proof. Baselines: random, genetic, bayesian, gradient, gradient-optimistic.",
    ),
]
Overlap = Annotated[
    str,
    typer.Option(
        metavar="layer|group",
        help="layer: steps follow each other; group: array, accumulator, scratchpad and DRAM work side by side through a group.",
        rich_help_panel=_SEARCH,
    ),
]
Halo = Annotated[
    str, typer.Option(metavar="parity|reuse", help="Input windows: as Timeloop counts them, or true reuse.", rich_help_panel=_SEARCH)
]
VectorOps = Annotated[
    str, typer.Option(metavar="free|charged", help="Whether pooling, additions and the like cost.", rich_help_panel=_SEARCH)
]
SkipUnsupported = Annotated[
    bool, typer.Option("--skip-unsupported", help="Leave out operators that cannot be expressed, and say so.", rich_help_panel=_SEARCH)
]
Solver = Annotated[
    str | None,
    typer.Option(
        metavar="cpsat|cbc|highs",
        help="Back end that chooses among the groups. Default: cheapest paths where they are few, else cpsat.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
Evaluations = Annotated[
    str | None,
    typer.Option(metavar="N", help="Networks that a baseline may score.", show_default=False, rich_help_panel=_SEARCH),
]
Seed = Annotated[str, typer.Option(metavar="N", help="Of the back end, or of a baseline.", rich_help_panel=_SEARCH)]
NoPrune = Annotated[
    bool, typer.Option("--no-prune", help="Price every tile of every group; the answer is the same, later.", rich_help_panel=_SEARCH)
]
MaxGroup = Annotated[
    str,
    typer.Option(metavar="N", help="Most layers of a group of several tiles; of one tile: any number.", rich_help_panel=_SPACE),
]
Tiles = Annotated[
    str,
    typer.Option(
        metavar="all|strips|FILE",
        help='Divisors of rows and columns, whole rows only, or a JSON file {"rows": [...], "columns": [...]}.',
        rich_help_panel=_SPACE,
    ),
]
Modes = Annotated[
    str,
    typer.Option(
        metavar="M,M,..",
        help="What may become of overlaps: recompute, h-cached, cached; sliced: products in slices.",
        rich_help_panel=_SPACE,
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Fix the grouping and optimise the rest: a JSON list of lists of names, or a saved result.",
        show_default=False,
        rich_help_panel=_SPACE,
    ),
]
NoChain = Annotated[
    bool, typer.Option("--no-chain", help="Take the rows of a layer table as layers without neighbours.", rich_help_panel=_SPACE)
]
