"""The options of ``cosma-sched map``, and the layer that ``--dims`` stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from cosma_sched.errors import UsageError, shown

if TYPE_CHECKING:
    from cosma_sched.mapping import layer as mapping_layer

_SEARCH = "Searching"
_ONE = "One mapping"

Accelerator = Annotated[str, typer.Option(metavar="ACC", help="A built-in name such as gemmini, or a YAML file.", show_default=False)]
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]", help="A zoo name, an ONNX file, a graph JSON, a layer table (CSV), or - for graph JSON.", show_default=False
    ),
]
Objective = Annotated[str, typer.Option(metavar="edp|energy|latency", help="What to minimise, for the whole network.")]
Method = Annotated[
    str, typer.Option(metavar="NAME", help="exact: the whole space of every layer. Baselines: random, genetic, bayesian, gradient.")
]
Tradeoffs = Annotated[
    str | None,
    typer.Option(metavar="FILE.csv", help="Write the trade-off points of the layers and of the network.", show_default=False),
]
Evaluations = Annotated[
    str | None,
    typer.Option(metavar="N", help="Mappings of each layer that a baseline scores.", show_default=False, rich_help_panel=_SEARCH),
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
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Processes; the answer is the same. Default: as many as help, at most the cores and 8.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
Seed = Annotated[str, typer.Option(metavar="N", help="Of a baseline.", rich_help_panel=_SEARCH)]
LayerName = Annotated[str | None, typer.Option("--layer", metavar="NAME", help="Print one layer in full.", rich_help_panel=_ONE)]
Evaluate = Annotated[
    str | None,
    typer.Option(metavar="MAPPING", help="Cost this mapping instead, valid or not.", show_default=False, rich_help_panel=_ONE),
]
Dims = Annotated[
    str | None,
    typer.Option(
        metavar="K=..,C=..", help="The layer of --evaluate; also stride, repeat, dilation.", show_default=False, rich_help_panel=_ONE
    ),
]

_EXTRAS = ("stride", "stride_p", "stride_q", "dilation", "dilation_p", "dilation_q", "repeat")


def layer_of(dims: str | None) -> mapping_layer.Layer:
    """Return the layer that ``--dims K=64,C=64,P=16,stride=2`` stands for; what is not given is 1.

    Raises
    ------
    UsageError
        If it is not given or malformed.
    """
    from cosma_sched.mapping.layer import DIMS, Layer

    if dims is None:
        raise UsageError("--evaluate needs the layer: --dims K=64,C=64,P=16 (dims that are left out are 1)")
    values: dict[str, int] = {}
    for part in dims.split(","):
        name, sign, digits = part.strip().partition("=")
        if name not in (*DIMS, *_EXTRAS) or not sign or not re.fullmatch("[0-9]{1,12}", digits, flags=re.ASCII) or int(digits) < 1:
            raise UsageError(f"--dims {shown(part)}: must be one of {', '.join((*DIMS, *_EXTRAS))} and a whole number >= 1, such as K=64")
        if name in values:
            raise UsageError(f"--dims {shown(part)}: {name} stands twice")
        values[name] = int(digits)
    stride, dilation = values.get("stride", 1), values.get("dilation", 1)
    return Layer(
        "given",
        tuple(values.get(name, 1) for name in DIMS),
        stride_p=values.get("stride_p", stride),
        stride_q=values.get("stride_q", stride),
        dilation_p=values.get("dilation_p", dilation),
        dilation_q=values.get("dilation_q", dilation),
        repeat=values.get("repeat", 1),
    )
