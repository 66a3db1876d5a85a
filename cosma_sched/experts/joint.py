"""The joint method: load and traffic together, for all scenarios, proven where the search space is small.

In the order of work: replica counts, seeds, load phase (which gives the best load T* of every layer), then the proven search where its
states fit, else annealed exchange sweeps under the caps X T*, flow steps and relabelling; the best of the restarts by the stated objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cosma_sched.experts import restarts, viterbi
from cosma_sched.experts.balance import balance
from cosma_sched.experts.bounds import off_diagonal, scenario_load_bound
from cosma_sched.experts.chain import label_clusters
from cosma_sched.experts.eplb import contiguous, rebalance
from cosma_sched.experts.flow import flow_step
from cosma_sched.experts.load import copies_on_gpus, layer_peaks, replica_counts, served_shares
from cosma_sched.experts.migration import limited_migration, relabel
from cosma_sched.experts.problem import PlacementProblem, TrafficModel
from cosma_sched.experts.replicas import pack_pairs, pair_load, place_replicas, search_counts, water_fill
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.sweeps import Counter, Sweeper, Transitions, quench
from cosma_sched.experts.traffic import flows, usage
from cosma_sched.progress import Clock, Progress

DEFAULT_ITERATIONS = 20_000
"""Steps of a phase where neither a time limit nor a number of iterations is given."""
_CAPS = (1.0, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, np.inf)
"""Load caps that the weighted form tries."""

Fraction = Callable[[], float]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How long and how to search.

    Parameters
    ----------
    seed
        Of every random choice.
    iterations
        Steps of each phase instead of time; with one worker the same answer every time.
    workers
        Processes that anneal with different seeds.
    """

    seed: int = 0
    iterations: int | None = None
    workers: int = 1

    def spending(self, clock: Clock, share: float) -> Fraction:
        """Return a function that says how much of a phase is spent: steps where they are given, else a share of the time left."""
        if self.iterations is None and clock.limit is not None:
            part = clock.within(share)
            return lambda: 1.0 if not part.limit else min(1.0, part.seconds / part.limit)
        steps, done = self.iterations or DEFAULT_ITERATIONS, -1

        def fraction() -> float:
            nonlocal done
            done += 1
            return min(1.0, done / steps) if self.iterations != 0 else 1.0

        return fraction


@dataclass(slots=True)
class Found:
    """What the joint method found.

    Parameters
    ----------
    slots
        [L, S].
    best_loads
        [L]: the best load of each layer, which caps refer to.
    proven
        Name of the argument that proves the answer, or None.
    objective
        The proven least value, as `viterbi.Optimum` counts it.
    interrupted
        Whether Ctrl-C ended the search early.
    counter
        Steps and evaluated exchanges of the sweeps.
    """

    slots: Numbers
    best_loads: Numbers
    proven: str | None = None
    objective: float | None = None
    interrupted: bool = False
    counter: Counter = field(default_factory=Counter)


def solve(
    problem: PlacementProblem,
    *,
    options: SearchOptions,
    progress: Progress,
    current: Numbers | None = None,
    most_moved: int | None = None,
) -> Found:
    """Return the best placement found; Ctrl-C returns what is held.

    Parameters
    ----------
    current
        The placement that runs now [L, S]; GPUs are renamed so that the fewest experts move.
    most_moved
        How many experts may move from `current`.
    """
    found = None
    if most_moved is None and viterbi.fits(problem):
        progress.report("proven search")
        try:
            optimum = viterbi.joint_optimum(problem)
            found = Found(optimum.slots, optimum.best_loads, "viterbi", optimum.objective)
        except KeyboardInterrupt:
            options = replace(options, iterations=0)
            found = _Search(problem, options, progress).run(None, None)
            found.interrupted = True
    if found is None:
        found = _Search(problem, options, progress).run(current, most_moved)
    if current is not None and most_moved is None:
        found.slots = relabel(found.slots, current, problem.num_experts, problem.topology, problem.traffic)
    return found


class _Search:
    def __init__(self, problem: PlacementProblem, options: SearchOptions, progress: Progress) -> None:
        self.problem = problem
        self.options = options
        self.progress = progress
        self.matrix = None if problem.weights is not None and problem.weights[1] == 0 else _matrix(problem)
        self.interrupted = False
        self.counter = Counter()

    def run(self, current: Numbers | None, most_moved: int | None) -> Found:
        start, floor = self._seed()
        self.progress.report("load phase")
        start, peaks = self._balanced(start, current, 0.3 if most_moved is not None or self.matrix is not None else 0.95)
        slots = start
        proven = "enumeration" if floor is not None and (peaks <= floor * (1 + 1e-9)).all() else None
        if most_moved is not None and current is not None:
            self.progress.report("migration")
            caps = self._caps(peaks, self.problem.max_load)
            slots = limited_migration(self.problem, current, most_moved, caps, self.matrix, self.options.seed)
            proven = None
        elif self.matrix is not None and not self.interrupted:
            self.progress.report("traffic")
            slots, proven = self._traffic(start, peaks), None
        return Found(slots, peaks, proven, None, self.interrupted, self.counter)

    def _caps(self, peaks: Numbers, most: float | None) -> Numbers:
        return np.full_like(peaks, np.inf) if most is None else peaks * most

    # load

    def _seed(self) -> tuple[Numbers, Numbers | None]:
        """Return the seed with the lowest load in every layer, and a proven floor [L] where all replica counts were tried."""
        problem = self.problem
        loads, gpus = problem.profile.mean_shares(), problem.gpus
        seeds = [rebalance(loads, problem.num_slots, 1, 1, gpus)[0], contiguous(problem.num_layers, problem.num_experts, problem.num_slots)]
        floor = None
        if problem.has_replicas:
            counts = water_fill(loads, problem.num_slots, gpus)
            seeds.append(place_replicas(loads / counts, counts, gpus))
        if problem.has_replicas and problem.slots_per_gpu == 2:
            self.progress.report("replica counts")
            share = 0.5 if self.matrix is None else 0.1
            counts, enumerated = self._searched_counts(loads, counts, share)
            seeds.append(pack_pairs(loads, counts, gpus))
            if enumerated and len(problem.profile.scenarios) == 1:
                floor = pair_load(problem.weights_of_experts()[0], counts)
        work = problem.weights_of_experts()
        peaks = np.stack([self._seed_peaks(work, slots) for slots in seeds])
        chosen = np.stack(seeds)[peaks.argmin(axis=0), np.arange(problem.num_layers)]
        return chosen, floor

    def _searched_counts(self, loads: Numbers, counts: Numbers, share: float) -> tuple[Numbers, bool]:
        try:
            return search_counts(loads, self.problem.gpus, self.options.seed, self.options.spending(self.progress.clock, share))
        except KeyboardInterrupt:
            self.interrupted = True
            return counts, False

    def _seed_peaks(self, work: Numbers, slots: Numbers) -> Numbers:
        peaks = layer_peaks(work, slots, self.problem.gpus)
        twice = (copies_on_gpus(slots, self.problem.num_experts, self.problem.gpus) > 1).any(axis=(1, 2))
        peaks[twice] = np.inf
        return peaks

    def _balanced(self, start: Numbers, current: Numbers | None, share: float) -> tuple[Numbers, Numbers]:
        problem = self.problem
        floor = scenario_load_bound(problem.profile, problem.num_slots, problem.gpus)
        spending = self.options.spending(self.progress.clock, share)
        try:
            if self.interrupted:
                raise KeyboardInterrupt
            slots, peaks = balance(problem, start, self.options.seed, spending, targets=floor)
        except KeyboardInterrupt:
            self.interrupted = True
            slots, peaks = start, layer_peaks(problem.weights_of_experts(), start, problem.gpus)
        if current is not None and current.shape == slots.shape:
            before = self._seed_peaks(problem.weights_of_experts(), current)
            slots[before < peaks], peaks[before < peaks] = current[before < peaks], before[before < peaks]
        return slots, peaks

    # traffic

    def _traffic(self, start: Numbers, peaks: Numbers) -> Numbers:
        """Return the best placement of the capped form, or of the weighted form by trying caps."""
        problem = self.problem
        if problem.weights is None:
            return self._capped(start, self._caps(peaks, problem.max_load), 0.8, self.options.seed)
        best, best_value = start, self._weighted_value(start)
        ladder = (np.inf,) if problem.weights[0] == 0 else _CAPS
        for k, cap in enumerate(ladder):
            slots = self._capped(start, self._caps(peaks, cap), 0.8 / (len(ladder) - k), self.options.seed + k)
            value = self._weighted_value(slots)
            if problem.traffic == TrafficModel.DISPATCH_COMBINE:
                better = value < best_value
                best = np.where(better[:, None], slots, best)
                best_value = np.minimum(value, best_value)
            elif value.sum() < best_value.sum():
                best, best_value = slots, value
            if self.interrupted:
                break
        return best

    def _weighted_value(self, slots: Numbers) -> Numbers:
        """Return [L]: alpha T_l + beta D_l; the traffic of a boundary counts with the layer before it."""
        alpha, beta = self.problem.weights or (0.0, 1.0)
        value: Numbers = alpha * layer_peaks(self.problem.weights_of_experts(), slots, self.problem.gpus)
        traffic = layer_traffic(self.problem, slots)
        if self.problem.traffic == TrafficModel.TOKEN_STAYS and self.matrix is not None:
            traffic = traffic / self.matrix.sum(axis=(1, 2))
        value[: len(traffic)] += beta * traffic
        return value

    def _capped(self, start: Numbers, caps: Numbers, share: float, seed: int) -> Numbers:
        if self.matrix is None:
            return start
        task = restarts.Task(self.problem, self.matrix, start, caps, seed)
        sweeper = task.sweeper()
        others: list[Numbers] = []
        try:
            others = self._anneal(task, sweeper, share)
        except KeyboardInterrupt:
            self.interrupted = True
        self._count(sweeper.counter)
        found = np.concatenate([self._repaired(sweeper), *others])
        candidates = np.split(self._within_caps(found, np.tile(start, (len(found) // len(start), 1)), caps), len(found) // len(start))
        if self.problem.traffic == TrafficModel.DISPATCH_COMBINE:
            return best_layers(self.problem, [*candidates, start])
        return self._best_chain([*candidates, start], caps)

    def _anneal(self, task: restarts.Task, sweeper: Sweeper, share: float) -> list[Numbers]:
        """Anneal here, and elsewhere if there are workers; return what the others found."""
        options, clock = self.options, self.progress.clock
        if options.iterations == 0:
            return []
        fraction = options.spending(clock, share)
        counted = options.iterations is not None or clock.remaining is None
        seconds = None if counted or clock.remaining is None else clock.remaining * share
        if not restarts.pays(options.workers, seconds):
            restarts.run(task, sweeper, fraction)
            return []
        with restarts.elsewhere(task, options.workers, seconds, options.iterations or DEFAULT_ITERATIONS) as futures:
            restarts.run(task, sweeper, fraction)
            results = [future.result() for future in futures]
        for _, counter in results:
            self._count(counter)
        return [slots for slots, _ in results]

    def _count(self, counter: Counter) -> None:
        self.counter.steps += counter.steps
        self.counter.exchanges += counter.exchanges

    def _repaired(self, sweeper: Sweeper) -> Numbers:
        """Return the slots of a sweeper after rows above their caps have been brought down, if time is left for it."""
        peaks = sweeper.loads.max(axis=(0, 2))
        if not self.interrupted and (peaks > sweeper.caps * (1 + 1e-9)).any():
            sweeper.rebuild()
            quench(sweeper, 100, penalty=1e4)
        repaired: Numbers = sweeper.slots.reshape(len(sweeper.slots), -1)
        return repaired

    def _within_caps(self, slots: Numbers, start: Numbers, caps: Numbers) -> Numbers:
        """Return the slots with every row that is broken or above its cap taken from the start."""
        problem, work = self.problem, self.problem.weights_of_experts()
        blocks = len(slots) // problem.num_layers
        limit = np.tile(caps, blocks) * (1 + 1e-9)
        bad = (replica_counts(slots, problem.num_experts) != replica_counts(start, problem.num_experts)).any(axis=1)
        bad |= (copies_on_gpus(slots, problem.num_experts, problem.gpus) > 1).any(axis=(1, 2))
        kept = np.where(bad[:, None], start, slots)
        peaks = np.concatenate([layer_peaks(work, block, problem.gpus) for block in np.split(kept, blocks)])
        kept[peaks > limit] = start[peaks > limit]
        return kept

    def _best_chain(self, candidates: Sequence[Numbers], caps: Numbers) -> Numbers:
        """Token-stays: flow steps and the best labels for the best restart."""
        costs = [float(layer_traffic(self.problem, slots).sum()) for slots in candidates]
        slots = candidates[int(np.argmin(costs))]
        if not self.interrupted:
            try:
                slots = flow_sweep(self.problem, slots, caps, self.options.spending(self.progress.clock, 0.3))
            except KeyboardInterrupt:
                self.interrupted = True
        between = flows(self.problem.profile, slots, self.problem.gpus)
        if between is None:
            return slots
        labels = label_clusters(between, self.problem.topology)
        named = labels.apply(slots.reshape(self.problem.num_layers, self.problem.gpus, -1))
        return min((slots, named), key=lambda each: float(layer_traffic(self.problem, each).sum()))


def _matrix(problem: PlacementProblem) -> Numbers | None:
    """Return C or R of the traffic model, None where the profile has not got it or there is nothing to save."""
    if problem.gpus == 1:
        return None
    if problem.traffic == TrafficModel.DISPATCH_COMBINE:
        return problem.profile.pooled_coactivation() if (problem.profile.top_k or 2) > 1 else None
    matrix = problem.profile.pooled_transitions()
    return matrix if matrix is not None and len(matrix) else None


def layer_traffic(problem: PlacementProblem, slots: Numbers) -> Numbers:
    """Return the traffic of each layer (copies plus theta times nodes per token) or boundary (transition cost); zeros where unknown.

    Copies are exact on token ids and for k = 2, else the pairs that are apart.
    """
    topology = problem.topology
    if problem.traffic == TrafficModel.TOKEN_STAYS:
        between = flows(problem.profile, slots, problem.gpus)
        if between is None:
            return np.zeros(problem.num_layers)
        priced: Numbers = (between * topology.costs()).sum(axis=(1, 2))
        return priced
    premium = topology.node_premium if topology.forwarding else 0.0
    use = usage(problem.profile, slots, topology)
    if use is not None:
        visited: Numbers = use.visits.sum(axis=1) + premium * use.node_visits.sum(axis=1)
        return visited
    pairs = problem.profile.pooled_coactivation()
    if pairs is None:
        return np.zeros(problem.num_layers)
    shares = served_shares(slots, problem.num_experts, problem.gpus)
    off = off_diagonal(pairs)
    off /= np.maximum(off.sum(axis=(1, 2), keepdims=True), 1e-300)
    together = np.einsum("lge,lgf,lef->l", shares, shares, off, optimize=True)
    if premium:
        nodes = shares.reshape(len(shares), topology.nodes, topology.per_node, -1).sum(axis=2)
        together = together + premium * np.einsum("lge,lgf,lef->l", nodes, nodes, off, optimize=True)
    apart: Numbers = 1 + premium - together
    return apart


def best_layers(problem: PlacementProblem, candidates: Sequence[Numbers]) -> Numbers:
    """Return for each layer the candidate with the least traffic; layers are independent under dispatch-combine."""
    traffic = np.stack([layer_traffic(problem, slots) for slots in candidates])
    chosen: Numbers = np.stack(candidates)[traffic.argmin(axis=0), np.arange(problem.num_layers)]
    return chosen


def flow_sweep(problem: PlacementProblem, slots: Numbers, caps: Numbers, fraction: Fraction) -> Numbers:
    """Return the placement after one min-cost-flow step of every layer in turn, each taken only if it saves traffic; token-stays."""
    matrix = problem.profile.pooled_transitions()
    if matrix is None:
        return slots
    counts = replica_counts(slots, problem.num_experts)
    work = problem.weights_of_experts() / counts
    shape = (problem.num_layers, problem.gpus, problem.slots_per_gpu)
    tables = Transitions(matrix, counts, 1, problem.topology)
    shaped = slots.reshape(shape).copy()
    for parity in range(2):
        tables.rebuild(shaped)
        toward = tables.toward(parity)
        for at, layer in enumerate(range(parity, problem.num_layers, 2)):
            if fraction() >= 1:
                return shaped.reshape(slots.shape)
            better = flow_step(toward[at], counts[layer], work[:, layer], problem.slots_per_gpu, float(min(caps[layer], 1e6)))
            gpus = np.arange(problem.gpus)[:, None]
            if better is not None and toward[at][gpus, better].sum() > toward[at][gpus, shaped[layer]].sum() + 1e-9:
                shaped[layer] = better
    return shaped.reshape(slots.shape)
