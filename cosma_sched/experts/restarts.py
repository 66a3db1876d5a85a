"""Annealing restarts, in this process and in others.

Restarts of one process share every step of a `Sweeper`; further processes start from other seeds. Ctrl-C ends the search of this process,
whose state is kept, and stops the others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from cosma_sched.experts.problem import PlacementProblem, TrafficModel
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.sweeps import Counter, Sweeper, anneal, quench, tables_for

Fraction = Callable[[], float]

_BATCH = 16_384
"""Exchanges per step below which restarts share a step: array calls then cost more than the arithmetic."""
_MOST_RESTARTS = 8
_COOLING = 300.0
"""Hot over cold."""
_STAYS_HEAT = 5.0
"""How much hotter token-stays starts: an exchange also changes what the neighbouring layers can gain."""
_LEVEL_HEAT = 3.0
"""How much hotter a start two levels of cost need."""
_QUENCH_STEPS = 200
_LEAST_SECONDS = 4.0
"""Search time from which starting a process pays."""
_SEED_STEP = 1_000_003


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One annealing run.

    Parameters
    ----------
    problem, matrix
        The problem, and C or R.
    start
        [L, S] where every restart begins.
    caps
        [L]: load caps.
    seed
        Of this run.
    """

    problem: PlacementProblem
    matrix: Numbers
    start: Numbers
    caps: Numbers
    seed: int

    @property
    def restarts(self) -> int:
        """How many restarts share a step."""
        problem = self.problem
        step = problem.num_layers * (problem.gpus // 2) * problem.slots_per_gpu**2
        return max(1, min(_MOST_RESTARTS, _BATCH // max(1, step)))

    def sweeper(self) -> Sweeper:
        """Return the restarts before the first step."""
        slots = np.tile(self.start, (self.restarts, 1))
        return Sweeper(self.problem, slots, tables_for(self.problem, slots, self.restarts, self.matrix), self.caps, self.seed)


def run(task: Task, sweeper: Sweeper, fraction: Fraction) -> None:
    """Anneal and quench."""
    levels = _LEVEL_HEAT if task.problem.topology.node_premium else 1.0
    stays = _STAYS_HEAT if task.problem.traffic == TrafficModel.TOKEN_STAYS else 1.0
    hot = sweeper.typical_gain() * max(levels, stays)
    if hot > 0:
        anneal(sweeper, hot, hot / _COOLING, fraction)
    quench(sweeper, _QUENCH_STEPS)


def pays(workers: int, seconds: float | None) -> bool:
    """Return whether further processes are worth starting for a search of so many seconds (None: counted in steps)."""
    return workers > 1 and (seconds is None or seconds >= _LEAST_SECONDS)


@contextlib.contextmanager
def elsewhere(task: Task, workers: int, seconds: float | None, steps: int | None) -> Iterator[list[Future[tuple[Numbers, Counter]]]]:
    """Run the task with other seeds in ``workers - 1`` processes while the block runs; they are stopped if it ends with an exception."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_follow_parent)
    deadline = None if seconds is None else time.time() + seconds
    done = False
    try:
        seeds = [task.seed + _SEED_STEP * worker for worker in range(1, workers)]
        yield [pool.submit(_worker, task, seed, deadline, steps) for seed in seeds]
        done = True
    finally:
        if not done:
            for process in list((pool._processes or {}).values()):  # there is no public way to stop a running task
                process.terminate()
        pool.shutdown(wait=done, cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _worker(task: Task, seed: int, deadline: float | None, steps: int | None) -> tuple[Numbers, Counter]:
    task = Task(task.problem, task.matrix, task.start, task.caps, seed)
    sweeper = task.sweeper()
    begun, count = time.time(), -1

    def fraction() -> float:
        nonlocal count
        count += 1
        if deadline is None:
            return min(1.0, count / (steps or 1))
        return min(1.0, (time.time() - begun) / max(1e-9, deadline - begun))

    run(task, sweeper, fraction)
    return sweeper.slots.reshape(-1, task.start.shape[1]), sweeper.counter
