"""Solvers behind one call: CBC, HiGHS and CP-SAT for linear programs, CP-SAT for native models.

Importing this package loads no solver.
"""

from cosma_sched.backends.cpsat import CpOutcome, solve_cpsat
from cosma_sched.backends.options import SolverOptions
from cosma_sched.backends.registry import BACKENDS, Availability, Backend, available
from cosma_sched.backends.solve import solve_linear
from cosma_sched.backends.task import Outcome

__all__ = ["BACKENDS", "Availability", "Backend", "CpOutcome", "Outcome", "SolverOptions", "available", "solve_cpsat", "solve_linear"]
