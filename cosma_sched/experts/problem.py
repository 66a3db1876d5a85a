"""What is asked of the expert planner: loads and traffic statistics, GPUs and slots, a topology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cosma_sched.errors import Defect, InfeasibleError, InputError, Lever, Reason, UsageError, shown
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers
from cosma_sched.files import decode_json, read_bytes

INSIDE_COST, ACROSS_COST = 1 / 9, 1.0
"""Cost of a transfer inside a node and between nodes: the bandwidth ratio that MoETuner states (arXiv 2502.06643)."""


class TrafficModel(StrEnum):
    """What a token does between layers."""

    DISPATCH_COMBINE = "dispatch-combine"
    """It leaves its home for every GPU that holds one of its experts and comes back after each layer."""
    TOKEN_STAYS = "token-stays"
    """It goes from the GPU of its expert to that of its expert in the next layer."""


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """How far GPUs are from each other.

    Parameters
    ----------
    gpus, nodes
        GPU g is in node g // (gpus / nodes).
    inside, across
        Cost of a transfer inside a node and between nodes; 0 inside a GPU.
    matrix
        Any costs [gpus, gpus] instead, with a diagonal of 0, in the order of expert-parallel ranks.
    forwarding
        Whether a token crosses the network once per node and is forwarded inside; only then does grouping by nodes save copies.
    """

    gpus: int
    nodes: int = 1
    inside: float = INSIDE_COST
    across: float = ACROSS_COST
    matrix: Numbers | None = None
    forwarding: bool = True

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.nodes < 1:
            raise UsageError(f"gpus and nodes must be >= 1, got {self.gpus} and {self.nodes}")
        if self.gpus % self.nodes:
            fits = [n for n in range(1, self.gpus + 1) if self.gpus % n == 0]
            near = min(fits, key=lambda n: abs(n - self.nodes))
            raise UsageError(f"--nodes {self.nodes}: {self.gpus} GPUs cannot be shared out evenly; the nearest number that works is {near}")

    @property
    def per_node(self) -> int:
        """GPUs in a node."""
        return self.gpus // self.nodes

    @property
    def node_of(self) -> Numbers:
        """Node of each GPU."""
        nodes: Numbers = np.arange(self.gpus) // self.per_node
        return nodes

    @property
    def is_uniform(self) -> bool:
        """Whether every transfer between two GPUs costs the same."""
        if self.matrix is None:
            return self.nodes == 1 or self.inside == self.across or self.per_node == 1
        off = self.matrix[~np.eye(self.gpus, dtype=bool)]
        return bool(off.size == 0 or (off == off[0]).all())

    @property
    def has_levels(self) -> bool:
        """Whether costs have exactly the two levels of a node and the network."""
        return self.matrix is None and not self.is_uniform

    @property
    def node_premium(self) -> float:
        """Theta: how much more a transfer between nodes costs than one inside, in units of the latter; 0 without levels."""
        return (self.across - self.inside) / self.inside if self.has_levels else 0.0

    def costs(self) -> Numbers:
        """Return the cost matrix [gpus, gpus]; all ones off the diagonal where it is uniform."""
        if self.matrix is not None:
            return self.matrix
        if self.is_uniform:
            return 1.0 - np.eye(self.gpus)
        same = self.node_of[:, None] == self.node_of[None, :]
        return np.where(same, self.inside, self.across) * (1.0 - np.eye(self.gpus))


def read_topology(path: str, gpus: int, nodes: int, *, forwarding: bool) -> Topology:
    """Read a cost matrix from a JSON file: a list of rows.

    Raises
    ------
    InputError
        If it is no square matrix of finite numbers >= 0 with a zero diagonal.
    """
    document = decode_json(path, read_bytes(path))
    if not isinstance(document, list) or len(document) != gpus:
        size = f"{len(document)} entries" if isinstance(document, list) else shown(document)
        raise InputError(path, f"must be a list of {gpus} rows, one per GPU, got {size}")
    defects = []
    for g, row in enumerate(document):
        if not isinstance(row, list) or len(row) != gpus:
            defects.append(Defect(f"[{g}]", f"must be a list of {gpus} costs, got {shown(row)}"))
            continue
        for h, value in enumerate(row):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                defects.append(Defect(f"[{g}][{h}]", f"must be a number >= 0, got {shown(value)}"))
            elif g == h and value:
                defects.append(Defect(f"[{g}][{h}]", f"must be 0 on the diagonal, got {value}"))
    if defects:
        raise InputError(path, defects)
    return Topology(gpus, nodes, matrix=np.asarray(document, np.float64), forwarding=forwarding)


@dataclass(frozen=True, slots=True, eq=False)
class PlacementProblem:
    """A profile and the GPUs its experts have to live on.

    Parameters
    ----------
    profile
        What is planned with; held-out tokens are not in it.
    topology
        GPUs, nodes and costs.
    slots_per_gpu
        K: expert slots of each GPU in each layer.
    traffic
        Which traffic is minimised.
    max_load
        X: the load of each layer may be X times the best; None with `weights`.
    weights
        (alpha, beta) of load and traffic in the weighted form, or None.
    """

    profile: Profile
    topology: Topology
    slots_per_gpu: int
    traffic: TrafficModel = TrafficModel.DISPATCH_COMBINE
    max_load: float | None = 1.05
    weights: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.max_load is not None and not self.max_load >= 1:
            raise UsageError(f"--max-load must be >= 1, got {self.max_load}")
        if self.weights is not None and (min(self.weights) < 0 or not max(self.weights) > 0):
            raise UsageError(f"--weights must be two numbers >= 0 and not both 0, got {self.weights[0]:g},{self.weights[1]:g}")

    @property
    def gpus(self) -> int:
        """G."""
        return self.topology.gpus

    @property
    def num_slots(self) -> int:
        """S = G K."""
        return self.gpus * self.slots_per_gpu

    @property
    def num_layers(self) -> int:
        """L."""
        return self.profile.num_layers

    @property
    def num_experts(self) -> int:
        """E."""
        return self.profile.num_experts

    @property
    def has_replicas(self) -> bool:
        """Whether there are more slots than experts."""
        return self.num_slots > self.num_experts

    def weights_of_experts(self) -> Numbers:
        """Return [s, L, E]: the load of each expert in units of a GPU's mean load."""
        scaled: Numbers = self.profile.shares() * self.gpus
        return scaled


def slots_for(profile: Profile, gpus: int, *, slots: int | None = None, replicas: int | None = None) -> int:
    """Return K for the given number of slots per GPU or of replicas per layer; no replicas by default.

    Raises
    ------
    UsageError
        If both are given.
    InfeasibleError
        If the slots cannot be shared out evenly, do not hold every expert, or are more than one per expert and GPU.
    """
    if slots is not None and replicas is not None:
        raise UsageError("--slots and --replicas say the same thing twice; give one of them")
    experts = profile.num_experts
    if slots is None:
        total = experts + (replicas or 0)
        if total % gpus:
            low = total // gpus * gpus - experts
            levers = [value for value in (low, low + gpus) if 0 <= value <= experts * (gpus - 1)]
            statement = f"{experts} experts and {replicas or 0} replicas make {total} slots, which {gpus} GPUs cannot share evenly"
            _infeasible(
                "slots-divide", statement, total, None, [Lever("--replicas", value, f"{experts + value} slots") for value in levers]
            )
        slots = total // gpus
    if slots < 1:
        raise UsageError(f"--slots must be >= 1, got {slots}")
    if slots * gpus < experts:
        least = -(-experts // gpus)
        statement = f"{gpus} GPUs with {slots} slots hold {slots * gpus} experts of {experts}"
        _infeasible("every-expert", statement, experts, slots * gpus, [Lever("--slots", least, f"{least * gpus} slots")])
    if slots > experts:
        statement = f"{slots} slots per GPU are more than the {experts} experts, and no expert stands twice on a GPU"
        _infeasible("replicas-apart", statement, slots, experts, [Lever("--slots", experts, "every expert on every GPU")])
    return slots


def check_memory(profile: Profile, gpus: int, slots: int, expert_bytes: int, gpu_memory: int) -> None:
    """Check that K slots in every layer fit into a GPU's memory.

    Raises
    ------
    InfeasibleError
        With the largest K that fits, or the memory that is needed.
    """
    layers = profile.num_layers
    fits = gpu_memory // (layers * expert_bytes)
    if slots <= fits:
        return
    need = slots * layers * expert_bytes
    least = -(-profile.num_experts // gpus)
    if fits >= least:
        levers = [Lever("--slots", fits, "the largest number that fits")]
    else:
        levers = [Lever("--gpu-memory", least * layers * expert_bytes, f"{least} slots per GPU, one for every expert")]
    statement = f"{slots} slots in {layers} layers of {expert_bytes} bytes need {need} bytes of a GPU, {need - gpu_memory} too many"
    raise InfeasibleError([Reason("memory", "every GPU", statement, need, gpu_memory, need - gpu_memory, "bytes", (), tuple(levers))])


def _infeasible(rule: str, statement: str, demand: int, limit: int | None, levers: Sequence[Lever]) -> None:
    short = None if limit is None else demand - limit
    raise InfeasibleError([Reason(rule, "every layer", statement, demand, limit, short, "slots", (), tuple(levers))])
