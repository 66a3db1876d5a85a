"""Importing the solver libraries in the one order that works, with errors that say what to do.

A recent ``highspy`` and ``ortools`` define clashing symbols: whichever is loaded second fails, and ``import pulp`` loads highspy wherever
it is installed. So ortools goes first where highspy could interfere, and the failure is explained where the caller was faster.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from types import ModuleType

from cosma_sched.errors import MissingError

REQUIREMENTS = {"pulp": "pulp>=3.3.1,<4", "ortools": "ortools>=9.15"}


def installed(package: str) -> bool:
    """Return whether a top-level package can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a stand-in module without a spec
        return True


def version(package: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def pulp() -> ModuleType:
    """Return the module ``pulp``, loaded after ortools where highspy is installed."""
    if "pulp" not in sys.modules and installed("highspy"):
        with contextlib.suppress(MissingError):  # who needs ortools will hear of it
            cp_model()
    return _load("pulp", "pulp")


@functools.cache
def cp_model() -> ModuleType:
    """Return the module ``ortools.sat.python.cp_model``."""
    return _load("ortools.sat.python.cp_model", "ortools")


def _load(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingError(f'this needs {package}, which is not installed: pip install "{REQUIREMENTS[package]}"') from error
    except ImportError as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        if "undefined symbol" in str(error) and installed("highspy"):
            raise MissingError(clash()) from error
        raise MissingError(f"{package} is installed but cannot be loaded: {error}") from error


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error: compiled modules turn it into "initialization failed" while they are loaded."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def clash() -> str:
    """Return the line that explains the clash of highspy with ortools."""
    ours = ".".join((version("ortools") or "").split(".")[:2])
    return f'highspy {version("highspy")} clashes with ortools {ours} (google/or-tools#5246): pip install "highspy<1.15"'
