"""The back ends by name: what each can do, where its code is, and whether it is there.

Nothing here imports a solver.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from cosma_sched.backends import libraries
from cosma_sched.backends.task import LinearSolver

_COMMON = frozenset({"linear", "time-limit", "gap", "seed", "start", "progress", "deterministic-limit", "bound-without-incumbent"})


@dataclass(frozen=True, slots=True)
class Backend:
    """An adapter to a solver.

    Parameters
    ----------
    name
        The name that users give.
    solver
        The solver's own name.
    package
        The distribution that brings it.
    module
        The module of this package that runs it; it defines ``solve(task: LinearTask) -> Answer``.
    capabilities
        What it can do beyond the plainest solve.
    """

    name: str
    solver: str
    package: str
    module: str
    capabilities: frozenset[str]

    def load(self) -> LinearSolver:
        """Return the function that solves a linear program."""
        solver: LinearSolver = importlib.import_module(self.module).solve
        return solver


@dataclass(frozen=True, slots=True)
class Availability:
    """One row of ``cosma-sched backends``.

    Parameters
    ----------
    name, solver, package
        As in `Backend`.
    version
        Version of the package; None where it is not installed.
    available
        Whether it can be used here.
    reason
        Why not, with the line that helps; empty where it is available.
    capabilities
        As in `Backend`.
    """

    name: str
    solver: str
    package: str
    version: str | None
    available: bool
    reason: str
    capabilities: frozenset[str]


def _backend(name: str, solver: str, package: str, *more: str) -> Backend:
    return Backend(name, solver, package, f"cosma_sched.backends.{name}", _COMMON | frozenset(more))


BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        "cpsat": _backend("cpsat", "OR-Tools CP-SAT", "ortools", "native", "workers", "interrupt-keeps-incumbent", "exact-bound"),
        "cbc": _backend("cbc", "COIN-OR CBC", "pulp", "workers", "interrupt-keeps-incumbent"),
        "highs": _backend("highs", "HiGHS through OR-Tools MathOpt", "ortools"),
    }
)


def available() -> tuple[Availability, ...]:
    """Return for each back end whether it can be used, without importing a solver."""
    return tuple(_look(backend) for backend in BACKENDS.values())


def _look(backend: Backend) -> Availability:
    reason = ""
    if not libraries.installed(backend.package):
        reason = f'not installed: pip install "{libraries.REQUIREMENTS[backend.package]}"'
    elif backend.name == "cbc" and cbc_executable() is None:
        reason = f"pulp brings no cbc for {sys.platform} on {platform.machine()} and none is on the PATH; install coin-or cbc"
    version = libraries.version(backend.package)
    return Availability(backend.name, backend.solver, backend.package, version, not reason, reason, backend.capabilities)


def cbc_executable() -> str | None:
    """Return the path of CBC: the one that PuLP bundles for this platform, else the one on the PATH, else None."""
    spec = find_spec("pulp") if libraries.installed("pulp") else None
    system = {"linux": "linux", "darwin": "osx", "win32": "win"}.get(sys.platform)
    machine = platform.machine().lower()
    arch = "arm64" if machine in {"arm64", "aarch64"} and system != "osx" else "i64"
    name = "cbc.exe" if system == "win" else "cbc"
    for root in (spec.submodule_search_locations or ()) if spec is not None and system else ():
        bundled = Path(root) / "solverdir" / "cbc" / str(system) / arch / name
        if os.access(bundled, os.X_OK):
            return str(bundled)
    return shutil.which("cbc")
