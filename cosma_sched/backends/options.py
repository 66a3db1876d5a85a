"""What a caller may ask of a solve, in one vocabulary for every back end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosma_sched.backends.registry import BACKENDS
from cosma_sched.errors import UsageError, shown, suggestion

_MAX_SEED = 2**31 - 2  # CBC gets one more, the others read a signed 32-bit number


@dataclass(frozen=True, slots=True)
class SolverOptions:
    """How a program is solved.

    Parameters
    ----------
    solver
        Name of a back end, a key of `cosma_sched.backends.BACKENDS`.
    profile
        Name of a parameter file ``solvers/<solver>/<profile>.toml``.
    time_limit
        Seconds, building and decoding included; None for no limit, 0 for no search at all.
    gap
        Relative difference of value and bound at which the search may stop; 0 asks for the optimum.
    workers
        Threads. One worker and a seed repeat exactly.
    seed
        Seed of the solver's own choices.
    deterministic_limit
        Limit that does not depend on the machine's speed: deterministic seconds on cpsat, nodes on cbc and highs.
    write_model
        Path to which the program is written before it is solved: MPS for a linear program, text for a native CP-SAT model.

    Raises
    ------
    UsageError
        If a value is out of range, or the back end cannot do what is asked.
    """

    solver: str = "cpsat"
    profile: str = "default"
    time_limit: float | None = None
    gap: float = 0.0
    workers: int = 1
    seed: int = 0
    deterministic_limit: float | None = None
    write_model: str | None = None

    def __post_init__(self) -> None:
        if self.solver not in BACKENDS:
            known = f"known ones are {', '.join(BACKENDS)}{suggestion(self.solver, BACKENDS)}"
            raise UsageError(f"{shown(self.solver)} is no solver; {known}")
        for name in ("time_limit", "gap", "deterministic_limit"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name} must be a number >= 0, got {value}")
        if not 0 <= self.seed <= _MAX_SEED:
            raise UsageError(f"seed must lie between 0 and {_MAX_SEED}, got {self.seed}")
        if self.workers < 1:
            raise UsageError(f"workers must be >= 1, got {self.workers}")
        if self.workers > 1 and "workers" not in BACKENDS[self.solver].capabilities:
            able = [name for name, backend in BACKENDS.items() if "workers" in backend.capabilities]
            raise UsageError(f"{self.solver} runs on one worker only, got workers {self.workers}; use {' or '.join(able)} for more")
        if self.workers > 1 and self.deterministic_limit is not None:
            raise UsageError(f"a deterministic limit needs one worker, got workers {self.workers}")
