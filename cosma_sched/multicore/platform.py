"""A platform as the scheduler sees it: cores, memories with a capacity, resources that one transfer occupies at a time, routes.

`Platform` is what remains of an accelerator once capacity rule, timing rule and capacity overrides are applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OFFCHIP = "offchip"
"""Name of the far end of every fetch and write-back, whatever the off-chip core is called in the file."""


@dataclass(frozen=True, slots=True)
class PlatformCore:
    """One core.

    Parameters
    ----------
    id
        Its id in the accelerator file, as a string.
    name
        For people.
    memory
        The memory that its tiles lie in; cores with a shared memory name the same one.
    is_compute
        Whether computation nodes may run on it; others only hold copies.
    weight_memory
        The memory that parameters lie in where the capacity rule is ``split`` and it is another one.
    """

    id: str
    name: str
    memory: str
    is_compute: bool = True
    weight_memory: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """An on-chip memory and its capacity in bytes; None where it does not bind."""

    name: str
    capacity_bytes: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """One way from a core to another, or from or to `OFFCHIP`.

    Parameters
    ----------
    source, target
        Core ids, or `OFFCHIP`.
    resources
        Names of the directed links, buses and ports that the transfer occupies, each for its whole duration; one transfer at a time.
    bits_per_cycle
        The smallest rate on the way; None if nothing limits it, which makes a transfer take no time.
    pj_per_bit
        Energy of one bit over the whole way, off-chip access included.
    bus
        Name of the bus, where the route is a bus alone (or a bus and an off-chip port): one such transfer may reach several targets.
    """

    source: str
    target: str
    resources: tuple[str, ...]
    bits_per_cycle: int | None
    pj_per_bit: float = 0.0
    bus: str | None = None

    def cycles(self, size_bytes: int) -> int:
        """Return how long a transfer of that many bytes occupies the route."""
        return 0 if self.bits_per_cycle is None else -(-8 * size_bytes // self.bits_per_cycle)


@dataclass(frozen=True, slots=True)
class Platform:
    """Cores, memories and routes.

    Parameters
    ----------
    name
        Name of the accelerator.
    cores
        By id, in the file's order; the off-chip core is not among them.
    memories
        By name.
    resources
        Names of all links, buses and ports that can be busy.
    routes
        For each pair (source, target) with a way between them: at most four candidates, the preferred one first. Cores that share a memory
        need none.
    forwarding
        Whether a core may get a weight or an input from another core that has it; if not, only from off-chip.
    """

    name: str
    cores: Mapping[str, PlatformCore]
    memories: Mapping[str, Memory]
    resources: tuple[str, ...] = ()
    routes: Mapping[tuple[str, str], tuple[Route, ...]] = field(default_factory=dict)
    forwarding: bool = True

    def shares_memory(self, one: str, other: str) -> bool:
        """Return whether what is resident on one core is resident on the other too."""
        return one == other or self.cores[one].memory == self.cores[other].memory

    def capacity(self, core: str) -> int | None:
        """Return the bytes that a core can hold, or None."""
        return self.memories[self.cores[core].memory].capacity_bytes
