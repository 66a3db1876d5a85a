"""``cosma-sched pack``: addresses for given lifetimes, or the buffers that make them impossible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cosma_sched.cli.arguments import (
    Debug,
    Dim,
    Dtype,
    Fold,
    Json,
    Quiet,
    TimeLimit,
    Verbose,
    Views,
    dimensions,
    seconds,
    size,
    whole,
)
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.watch import watching
from cosma_sched.errors import UsageError

if TYPE_CHECKING:
    from cosma_sched.memory.buffers import BufferSet
    from cosma_sched.memory.packing_answer import PackingResult

NAME = "pack"


def command(
    buffers: Annotated[
        str,
        typer.Argument(
            metavar="BUFFERS",
            help="A CSV of lifetimes (MiniMalloc's form), a plan JSON, or a MODEL; - for standard input.",
            show_default=False,
        ),
    ],
    capacity: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes, 512KiB, 2MiB: no buffer ends above it.", show_default=False)
    ] = None,
    minimize: Annotated[bool, typer.Option("--minimize", help="Look for the least height and prove a bound on it.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the tight times and what fills them, of a packing too.")] = False,
    align: Annotated[
        str, typer.Option(metavar="BYTES", help="Offsets are multiples of this, beside the column alignment of each buffer.")
    ] = "1",
    order: Annotated[
        str | None,
        typer.Option(metavar="given", help="Of a MODEL: lifetimes in the order of the file, as without it.", show_default=False),
    ] = None,
    time_limit: TimeLimit = "60s",
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Threads; the cores, at most 8, unless given. One repeats exactly.", show_default=False)
    ] = None,
    seed: Annotated[str, typer.Option(metavar="N", help="Seed of the search.")] = "0",
    fold: Fold = "elementwise",
    views: Views = "free",
    dtype: Dtype = None,
    dim: Dim = None,
    json: Json = False,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also write the result: FILE.csv as CSV with offsets, else JSON; - for standard output.",
            rich_help_panel="Output",
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> Action:
    """Find addresses for buffers whose lifetimes are given, within a capacity or as low as possible, or show which of them clash.

    Example: cosma-sched pack buffers.csv --capacity 1MiB -o packed.csv
    """
    del debug
    if capacity is None and not minimize:
        raise UsageError("missing option --capacity SIZE; or --minimize for the least height (see cosma-sched pack --help)")
    room = None if capacity is None else size("--capacity", capacity)
    unit, limit = size("--align", align), seconds("--time-limit", time_limit)
    threads, number = None if workers is None else whole("--workers", workers, least=1), whole("--seed", seed, least=0)
    reading = {
        name: value
        for name, value, usual in (
            ("fold", fold, "elementwise"),
            ("views", views, "free"),
            ("dtype", dtype, None),
            ("dims", dimensions(dim), {}),
        )
        if value != usual
    }
    target = Output(json, output)

    def run() -> int:
        from cosma_sched.memory.buffers import read_buffers
        from cosma_sched.memory.pack_calls import pack
        from cosma_sched.report.packing import packing_lines

        target.check()
        found = read_buffers(buffers, capacity_bytes=room, align_bytes=unit, order=order, reading=reading)
        with watching(found.name, quiet=quiet, verbose=verbose) as observers:
            result = pack(
                found,
                capacity=room,
                minimize=minimize,
                align=unit,
                time_limit=limit,
                workers=threads,
                seed=number,
                observers=observers,
            )
        lines = packing_lines(result, found.name, width=table_width(), all_rows=verbose > 0, explain=explain)
        _deliver(result, found, lines, target)
        return _ending(result)

    return run


def _deliver(result: PackingResult, found: BufferSet, lines: list[str], target: Output) -> None:
    """Print the result, then write the file; a CSV only where there are offsets to write."""
    from cosma_sched.files import write_whole
    from cosma_sched.memory.buffer_csv import encode_buffer_csv

    if target.path is None or not target.path.lower().endswith(".csv"):
        target.deliver(result.to_json(), lines)
        return
    Output(target.json).deliver(result.to_json(), lines)
    if result.offsets is None:
        complain(f"{target.path}: not written, there are no offsets")
        return
    if found.table is None:
        write_whole(target.path, encode_buffer_csv(result.buffers, result.offsets))
        return
    is_aligned = result.provenance.options["align"] != 1
    alignments = [buffer.alignment for buffer in result.buffers] if is_aligned else []
    write_whole(target.path, found.table.with_offsets(result.offsets, alignments))


def _ending(result: PackingResult) -> int:
    """Return the exit code of an answer and say on standard error what is not said by the result."""
    from cosma_sched.report.packing import reason_lines
    from cosma_sched.result import Status, Termination

    if result.status == Status.INFEASIBLE:
        for reason in result.reasons:
            complain("\n".join(reason_lines(reason, result.buffers)))
        return 3
    if result.termination == Termination.INTERRUPTED:
        complain("interrupted: this is the best that was found" if result.offsets is not None else "interrupted: nothing was found")
        return 130
    if result.status == Status.UNKNOWN:
        complain(f"nothing found: no packing within {result.seconds:.1f} s and none shown to be impossible; try a longer --time-limit")
        return 4
    return 0
