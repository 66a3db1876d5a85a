"""A schedule as a Chrome trace: opens in Perfetto or chrome://tracing, one microsecond for each cycle.

One track for each core and one for each link, bus and port; counter tracks for the bytes on each core; arrows from a transfer to the first
node that reads what it brings.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cosma_sched.multicore.periods import listed_in_full
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.schedule import Residency, Schedule

_CORES, _RESOURCES = 1, 2


def trace_json(schedule: Schedule) -> str:
    """Return the trace as a JSON document.

    Parameters
    ----------
    schedule
        With or without periods; these are written out.
    """
    full = listed_in_full(schedule)
    events = [*_tracks(full), *_runs(full), *_transfers(full), *_counters(full.residency)]
    about = {"schema": "cosma-sched/schedule/1", "latency_cycles": full.latency_cycles, "unit": "1 us is 1 cycle"}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}, separators=(",", ":")) + "\n"


def _cores(schedule: Schedule) -> list[str]:
    named = [*schedule.peak_bytes, *(run.core for run in schedule.nodes)]
    return list(dict.fromkeys(named))


def _resources(schedule: Schedule) -> list[str]:
    return sorted({resource for transfer in schedule.transfers for resource in transfer.route})


def _tracks(schedule: Schedule) -> Iterator[dict[str, Any]]:
    for process, title, names in ((_CORES, "cores", _cores(schedule)), (_RESOURCES, "links, buses and ports", _resources(schedule))):
        yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": title}}
        for number, name in enumerate(names):
            shown = f"core {name}" if process == _CORES else name
            yield {"ph": "M", "pid": process, "tid": number, "name": "thread_name", "args": {"name": shown}}
            yield {"ph": "M", "pid": process, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number}}


def _runs(schedule: Schedule) -> Iterator[dict[str, Any]]:
    track = {core: number for number, core in enumerate(_cores(schedule))}
    for run in schedule.nodes:
        span = {"ts": run.start, "dur": run.end - run.start}
        yield {"ph": "X", "pid": _CORES, "tid": track[run.core], "name": run.name, "cat": run.layer, **span, "args": {"layer": run.layer}}


def _transfers(schedule: Schedule) -> Iterator[dict[str, Any]]:
    track = {resource: number for number, resource in enumerate(_resources(schedule))}
    core_track = {core: number for number, core in enumerate(_cores(schedule))}
    runs_of: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for run in schedule.nodes:
        runs_of[run.core].append((run.start, run.name))
    for number, transfer in enumerate(schedule.transfers):
        where = {"from": transfer.source, "to": ",".join(transfer.targets), "bytes": transfer.size_bytes}
        span = {"ts": transfer.start, "dur": transfer.end - transfer.start}
        for resource in transfer.route:
            yield {"ph": "X", "pid": _RESOURCES, "tid": track[resource], "name": transfer.tile, "cat": "transfer", **span, "args": where}
        if not transfer.route or transfer.targets == (OFFCHIP,):
            continue
        arrow = {"cat": "flow", "name": transfer.tile, "id": number}
        yield {"ph": "s", "pid": _RESOURCES, "tid": track[transfer.route[-1]], "ts": transfer.start, **arrow}
        target = transfer.targets[0]
        yield {"ph": "f", "bp": "e", "pid": _CORES, "tid": core_track[target], "ts": transfer.end, **arrow}


def _counters(residency: Sequence[Residency]) -> Iterator[dict[str, Any]]:
    for cycle, core, size in bytes_over_time(residency):
        yield {"ph": "C", "pid": _CORES, "name": f"bytes on core {core}", "ts": cycle, "args": {"bytes": size}}


def bytes_over_time(residency: Iterable[Residency]) -> Iterator[tuple[int, str, int]]:
    """Yield (cycle, core, bytes from that cycle on) wherever the bytes that were brought to or made on a core change."""
    changes: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for entry in residency:
        changes[entry.core][entry.start] += entry.size_bytes
        changes[entry.core][entry.end] -= entry.size_bytes
    for core, steps in sorted(changes.items()):
        live = 0
        for cycle, size in sorted(steps.items()):
            if size:
                live += size
                yield cycle, core, live


def memory_csv(schedule: Schedule) -> str:
    """Return the bytes on each core over time as CSV: cycle, core, bytes from that cycle on."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["cycle", "core", "bytes"])
    writer.writerows(sorted(bytes_over_time(listed_in_full(schedule).residency)))
    return stream.getvalue()
