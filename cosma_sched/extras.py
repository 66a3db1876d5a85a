"""Optional packages: one way to ask for them, one message when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from cosma_sched.errors import MissingError


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional module or say which extra brings it.

    Raises
    ------
    MissingError
        If the module is not installed; the message holds the pip line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingError(f'this needs {module}, which is not installed: pip install "cosma-sched[{extra}]"') from error
