"""The public call of packing: from buffers to a checked answer; and the check of a saved one against its file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import cosma_sched
from cosma_sched.errors import InputError, UsageError, VerificationError, shown
from cosma_sched.memory import explain as explanations
from cosma_sched.memory.buffers import Buffers, BufferSet, read_buffers
from cosma_sched.memory.packing import Packing, max_load
from cosma_sched.memory.packing import pack as pack_within
from cosma_sched.memory.packing_answer import PackingResult
from cosma_sched.memory.packing_height import least_height
from cosma_sched.memory.verify_packing import PackingViolation, verify_packing
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance, Status, Termination, relative_gap
from cosma_sched.units import parse_size

MOST_WORKERS, FEW = 8, 32
"""Threads unless given: the cores, at most these; one for few buffers, which are decided before a second one is at work."""
_MODEL_OPTIONS = {"fold": "fold", "views": "views", "dtype": "dtype", "dim": "dims"}


def pack(  # noqa: PLR0913 - the options of the command, by name
    buffers: Buffers,
    *,
    capacity: int | str | None = None,
    minimize: bool = False,
    align: int | str = 1,
    order: str | None = None,
    time_limit: float | None = 60.0,
    workers: int | None = None,
    seed: int = 0,
    reading: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
) -> PackingResult:
    """Find addresses for given lifetimes, checked, or prove that there are none and say why.

    Parameters
    ----------
    buffers
        `Buffer` values; a `MemoryPlan`, whose stays are packed; a `Graph`, whose tensors live from creation, or first use, to last use in
        the given order; or the path of a file with one of these (CSV in MiniMalloc's form, plan JSON, graph JSON, ONNX) or a zoo name.
    capacity
        Bytes, or a size such as ``512KiB``: no buffer ends above it. Needed unless `minimize` is set.
    minimize
        Look for the least height, within the capacity if one is given, with a proven bound.
    align
        Offsets are multiples of this too, beside each buffer's own alignment; sizes stay what they are.
    order
        ``given`` for a network, which is what is taken anyway; no other order is looked for.
    time_limit
        Seconds, or None.
    workers
        Threads; None takes the machine's cores, at most 8, and one for few buffers. One worker and a seed give the same answer.
    seed
        Of everything random.
    reading
        Options of `load` where `buffers` names a model.
    observers
        Called with every `Event` of progress.

    Returns
    -------
    PackingResult
        With status ``infeasible``, reasons and the buffers that clash where no packing exists; Ctrl-C returns what was found.

    Raises
    ------
    InputError
        If buffers make no sense, by themselves or together: a name that stands twice, a pin above the capacity, off its alignment or onto
        another one. Carries every mistake.
    UsageError
        If there is nothing to pack into, or an option has no meaning for the source.
    VerificationError
        If the answer does not pass the checker: a bug.

    Examples
    --------
    >>> from cosma_sched.graph import Buffer
    >>> pack([Buffer("low", 0, 2, 4), Buffer("high", 1, 3, 4)], capacity=8).height_bytes
    8
    """
    if capacity is None and not minimize:
        raise UsageError("a capacity is needed, unless the least height is asked for (minimize)")
    capacity_bytes = None if capacity is None else parse_size(capacity)
    align_bytes = parse_size(align)
    found = read_buffers(buffers, capacity_bytes=capacity_bytes, align_bytes=align_bytes, order=order, reading=reading)
    threads = workers or (1 if len(found.buffers) <= FEW else min(MOST_WORKERS, os.cpu_count() or 1))
    clock = Clock(time_limit)
    progress = Progress(clock, tuple(observers))
    progress.report("packing", bound=max_load(found.buffers)[0], note=f"{len(found.buffers)} buffers")
    if minimize:
        packing = least_height(found.buffers, capacity_bytes=capacity_bytes, clock=clock, seed=seed, workers=threads)
    else:
        packing = pack_within(found.buffers, capacity_bytes or 0, clock=clock, seed=seed, workers=threads)
    options = {"capacity": capacity_bytes, "minimize": minimize, "align": align_bytes, "time-limit": time_limit}
    result = _result(found, packing, capacity_bytes, _provenance(found, seed, threads, options))
    if packing.status is Status.INFEASIBLE and capacity_bytes is not None:
        progress.report("explaining", bound=packing.bound_bytes)
        clash, enough, reason = explanations.explain(found.buffers, packing, capacity_bytes, clock, seed, threads)
        result = result.replace(clash=clash, enough=enough, reasons=(reason,))
    violations = verify_packing(result, found.buffers)
    if violations:
        raise VerificationError(violations)
    return result.replace(seconds=round(clock.seconds, 3))


def check_packing(buffers: Buffers | None, result: PackingResult) -> list[PackingViolation]:
    """Check an answer against its buffers, or by itself where they are None; the alignment asked for is that of the answer's options."""
    if buffers is None:
        return verify_packing(result)
    return verify_packing(result, read_buffers(buffers, align_bytes=_align_of(result)).buffers)


def recheck_packing(result: PackingResult, model: str | None = None, *, result_path: str = "result") -> list[PackingViolation]:
    """Check a saved answer against the file it was made from; one made from buffers in Python is checked by itself.

    Parameters
    ----------
    result
        What was loaded.
    model
        The CSV, plan or network; None takes the one of the provenance.
    result_path
        Name of the result in error messages.

    Raises
    ------
    UsageError
        If the file came from standard input or is gone, and none is given.
    InputError
        If the file's content is not the one the answer was made for.
    """
    provenance = result.provenance
    source = model or provenance.model
    if source is None:
        return verify_packing(result)
    if model is None and (source == "-" or (Path(source).suffix and not Path(source).exists())):
        gone = "came from standard input" if source == "-" else f"{shown(source)} is gone"
        raise UsageError(f"{result_path}: its buffers' file {gone}; name it with --model FILE")
    reading = {_MODEL_OPTIONS[name]: value for name, value in provenance.options.items() if name in _MODEL_OPTIONS}
    found = read_buffers(source, align_bytes=_align_of(result), reading=reading)
    if found.sha256 != provenance.sha256:
        problem = f"has sha256 {found.sha256[:12]}..., but {result_path} was made for {provenance.sha256[:12]}..."
        raise InputError(source, problem)
    return verify_packing(result, found.buffers)


def _align_of(result: PackingResult) -> int:
    align = result.provenance.options.get("align", 1)
    return align if isinstance(align, int) and align > 0 else 1


def _result(found: BufferSet, packing: Packing, capacity_bytes: int | None, provenance: Provenance) -> PackingResult:
    load_bytes, load_time = max_load(found.buffers)
    return PackingResult(
        status=packing.status,
        termination=Termination.PROVED if packing.status is Status.OPTIMAL else packing.termination,  # an interrupt came too late
        seconds=0.0,
        verified=True,
        capacity_bytes=capacity_bytes,
        bound_bytes=packing.bound_bytes,
        load_bytes=load_bytes,
        load_time=load_time,
        buffers=found.buffers,
        provenance=replace(provenance, proved_by=(packing.proved_by,) if packing.proved_by else ()),
        height_bytes=packing.height_bytes,
        gap=relative_gap(packing.height_bytes, packing.bound_bytes if packing.height_bytes is not None else None),
        offsets=packing.offsets,
        nodes=packing.nodes,
        proved_by=packing.proved_by,
    )


def _provenance(found: BufferSet, seed: int, workers: int, options: Mapping[str, Any]) -> Provenance:
    versions = {name: metadata.version(name) for name in ("numpy", "ortools")}
    return Provenance(
        version=cosma_sched.__version__,
        model=found.source,
        sha256=found.sha256,
        solver="packing",
        seed=seed,
        workers=workers,
        options={**found.options, **options},
        versions={"python": ".".join(map(str, sys.version_info[:3])), **versions},
    )
