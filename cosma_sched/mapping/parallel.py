"""Layers spread over processes. A worker that dies costs nothing but time: what it had is searched again in turn."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.search import LayerSearch, search_layer
from cosma_sched.mapping.space import tilings
from cosma_sched.progress import Clock, Progress


def search_in_processes(
    problems: Sequence[Layer], machine: Machine, halo: str, workers: int, with_bytes: bool, progress: Progress
) -> tuple[dict[Layer, LayerSearch], bool]:
    """Search layers in several processes, the largest first; the answers are those of one process.

    Returns
    -------
    tuple
        What was found for each layer that was reached, and whether the user stopped the search.
    """
    largest_first = sorted(problems, key=lambda layer: -tilings(layer.dims, int(machine.rows), int(machine.cols)))
    deadline = None if progress.clock.remaining is None else time.time() + progress.clock.remaining
    found: dict[Layer, LayerSearch] = {}
    # Spawned, because forking a process that has threads may deadlock.
    pool = ProcessPoolExecutor(min(workers, len(problems)), multiprocessing.get_context("spawn"), initializer=_prepare)
    try:
        jobs = {pool.submit(_search, layer, machine, halo, with_bytes, deadline): layer for layer in largest_first}
        _collect(jobs, found, progress)
    except KeyboardInterrupt:
        return found, True
    except BrokenProcessPool:
        for layer in problems:
            if layer not in found:
                found[layer] = search_layer(layer, machine, halo, clock=progress.clock, with_bytes=with_bytes)
    finally:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            if len(found) < len(problems):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
    return found, False


def _collect(jobs: dict[Future[LayerSearch], Layer], found: dict[Layer, LayerSearch], progress: Progress) -> None:
    for future in as_completed(jobs):
        found[jobs[future]] = future.result()
        progress.report("layers", note=f"{len(found)} of {len(jobs)} layers")


def _search(layer: Layer, machine: Machine, halo: str, with_bytes: bool, deadline: float | None) -> LayerSearch:
    clock = Clock(None if deadline is None else max(0.0, deadline - time.time()))
    return search_layer(layer, machine, halo, clock=clock, with_bytes=with_bytes)


def _prepare() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
