"""The kernel of `packing_kernel` compiled by Numba: the same functions, so the same nodes and the same answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from cosma_sched.extras import need
from cosma_sched.memory import packing_kernel

FUNCTIONS = (
    "restore", "rounded_up", "blame", "blame_section", "widen_blame", "take_back", "least_raised", "blame_hole", "least_allowed",
    "raise_skipped", "sections_fit", "next_buffer", "put_down", "place", "drop", "gather", "add_part", "order_parts", "cut",
    "rank_buffers", "open_part", "search",
)  # fmt: skip
"""Each calls only earlier ones."""


@cache
def search() -> Any:
    """Return the compiled search; machine code is made at its first call, and kept on disk where some folder can be written.

    Copies of the functions are compiled, and call each other's compiled form, while the plain ones stay as they are.

    Raises
    ------
    MissingError
        If Numba is not installed.
    ImportError
        If it is, but does not work with this Python or numpy.
    """
    njit = need("numba", extra="fast").njit
    try:
        return _compiled(njit, keep=True)
    except RuntimeError:  # no folder for machine code can be written
        return _compiled(njit, keep=False)


def _compiled(njit: Callable[..., Any], *, keep: bool) -> Any:
    namespace: dict[str, Any] = dict(vars(packing_kernel))
    for name in FUNCTIONS:
        plain = getattr(packing_kernel, name)
        namespace[name] = njit(FunctionType(plain.__code__, namespace, name), cache=keep)
    return namespace["search"]


def is_loaded() -> bool:
    """Whether `search` has been called in this process."""
    return search.cache_info().currsize > 0 and bool(search().signatures)


def is_compiled() -> bool:
    """Whether machine code for the present kernel lies on disk, so that the first call of `search` takes well below a second."""
    folder = Path(search().stats.cache_path or "")
    newest = max((index.stat().st_mtime for index in folder.glob("packing_kernel.search-*.nbi")), default=0.0)
    return newest > Path(packing_kernel.__file__).stat().st_mtime
