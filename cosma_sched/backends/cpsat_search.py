"""One run of CP-SAT: parameters, messages on their way to the caller, Ctrl-C.

CP-SAT runs in a thread of its own while the caller's thread waits for its messages: Python handles Ctrl-C only in the main thread and
only between its own instructions, so a call into the solver from there could not be interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any

from cosma_sched.backends import libraries
from cosma_sched.backends.options import SolverOptions
from cosma_sched.backends.profiles import load_profile
from cosma_sched.backends.status import CPSAT_STOPS, Stop
from cosma_sched.errors import BackendError, Defect, InputError
from cosma_sched.progress import Clock

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, CpSolver

_RESERVED = {
    "max_time_in_seconds": "time limit",
    "max_deterministic_time": "deterministic limit",
    "relative_gap_limit": "gap",
    "num_workers": "workers",
    "num_search_workers": "workers",
    "random_seed": "seed",
    "catch_sigint_signal": "that keeps Ctrl-C with the caller",
    "log_to_stdout": "that keeps standard output with the caller",
}
_POLL_SECONDS = 0.5

Report = Callable[[float | None, float | None], None]
"""Takes (objective, bound) as CP-SAT counts them, None where it said nothing."""


def run(
    model: CpModel, options: SolverOptions, profile: str, clock: Clock, report: Report | None, stop_event: Event | None = None
) -> tuple[Stop, Any, str]:
    """Solve a model; return what stopped the search, CP-SAT's response, and its summary.

    Parameters
    ----------
    model
        The model, hints included.
    options, profile
        Settings; the profile by name.
    clock
        The time that is left.
    report
        Called in this thread while it runs; None where nobody listens.
    stop_event
        Ends the search, as a limit would, within half a second after another thread has set it.

    Raises
    ------
    BackendError
        If the model is invalid.
    InputError
        If the profile names a parameter that CP-SAT does not have.
    """
    solver = libraries.cp_model().CpSolver()
    _set_parameters(solver, options, profile, clock)
    messages: SimpleQueue[tuple[float | None, float | None] | None] = SimpleQueue()
    watcher = None
    if report is not None:
        watcher = _watcher(messages)
        solver.best_bound_callback = lambda bound: messages.put((None, bound))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="cpsat") as pool:
        future = pool.submit(solver.solve, model, watcher)
        future.add_done_callback(lambda _: messages.put(None))
        interrupted = _attend(solver, future, messages, report, stop_event)
    future.result()
    response = solver.response_proto
    word = response.status.name
    if word not in CPSAT_STOPS:
        raise BackendError("cpsat", f"{word}: {model.validate() or response.solution_info}", solver.response_stats())
    stop = CPSAT_STOPS[word]
    if interrupted and stop is Stop.LIMIT:
        stop = Stop.INTERRUPT
    return stop, response, solver.response_stats()


def _attend(solver: CpSolver, future: Future[Any], messages: SimpleQueue[Any], report: Report | None, stop_event: Event | None) -> bool:
    """Pass messages on until the solver is done; return whether Ctrl-C ended it. A second Ctrl-C goes through."""
    interrupted = False
    try:
        while not future.done() or not messages.empty():
            try:
                message = messages.get(timeout=_POLL_SECONDS)
                if message is not None and report is not None:
                    report(*message)
            except Empty:
                # the first request may have come before the search began
                if interrupted or (stop_event is not None and stop_event.is_set()):
                    solver.stop_search()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                solver.stop_search()
    finally:
        while not future.done():  # an observer's error or a second Ctrl-C
            solver.stop_search()
            _wait_briefly(future)
    return interrupted


def _wait_briefly(future: Future[Any]) -> None:
    try:
        future.exception(timeout=0.05)
    except TimeoutError:
        return


def _watcher(messages: SimpleQueue[Any]) -> Any:
    class Watcher(libraries.cp_model().CpSolverSolutionCallback):  # type: ignore[misc]
        def on_solution_callback(self) -> None:
            messages.put((self.objective_value, self.best_objective_bound))

    return Watcher()


def _set_parameters(solver: CpSolver, options: SolverOptions, name: str, clock: Clock) -> None:
    profile = load_profile("cpsat", name, reserved=_RESERVED)
    for key, value in profile.parameters.items():
        try:
            setattr(solver.parameters, key, value)
        except AttributeError as error:
            raise InputError(profile.path, [Defect(f"parameters.{key}", "is no parameter of CP-SAT")]) from error
        except TypeError as error:
            raise InputError(profile.path, [Defect(f"parameters.{key}", f"has the wrong type for CP-SAT, got {value!r}")]) from error
    solver.parameters.catch_sigint_signal = False
    solver.parameters.num_workers = options.workers
    solver.parameters.random_seed = options.seed
    solver.parameters.relative_gap_limit = options.gap
    if clock.remaining is not None:
        solver.parameters.max_time_in_seconds = clock.remaining
    if options.deterministic_limit is not None:
        solver.parameters.max_deterministic_time = options.deterministic_limit


def holds(response: Any) -> bool:
    """Return whether a response comes with a solution; otherwise its values are whatever was in memory."""
    return response.status.name in {"OPTIMAL", "FEASIBLE"}
