"""Gradient descent on fused networks: FADiff-like, re-implemented from the abstract, figure captions and precursor code.

Factors and tiles are Gumbel-Softmax choices among divisors, straight through; every edge is fused by a fraction sigma; orders are a sharp
softmax. Capacities, products and alignment are held by an augmented Lagrangian, or, as an ablation, by fixed penalties. All starts descend
in one batch. After every outer round the starts are decoded, repaired and scored by the evaluator that all methods answer to. A baseline:
it proves nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.extras import need
from cosma_sched.fusion.genome import Decoded, Judge, Plans
from cosma_sched.fusion.group import MODES
from cosma_sched.fusion.relaxed import Net, Point, net_of, relaxed_cost, tables
from cosma_sched.mapping.tilings import WISHES
from cosma_sched.progress import Progress

Floats = NDArray[np.float64]
_CLOSENESS = 6.0
"""Of the logits of divisors: -closeness (log f - log d)^2."""
_COMPILER = {"xla_backend_optimization_level": 1}
"""Compiles in little more than half the time, and runs as fast."""
_LOGIT = 0.7
"""First logit of every edge; a start shifts all of its own."""


@dataclass(frozen=True, slots=True)
class Descent:
    """Settings.

    Parameters
    ----------
    starts, rounds, steps
        Starts in one batch; outer rounds, and Adam steps in each.
    rate
        Of Adam.
    first_weight, growth
        Of the quadratic penalty, and its growth from round to round.
    restarts
        Starts that go on from the best plan so far after each round, in place of the worst ones.
    multipliers
        Augmented Lagrangian; else fixed penalties.
    optimistic
        Search in the precursor's model.
    """

    starts: int = 32
    rounds: int = 32
    steps: int = 60
    rate: float = 0.05
    first_weight: float = 1.0
    growth: float = 1.15
    restarts: int = 8
    multipliers: bool = True
    optimistic: bool = False


HONEST = Descent()
OPTIMISTIC = Descent(optimistic=True)
FIXED = Descent(multipliers=False, first_weight=10.0, growth=1.0)
"""Fixed penalties, the ablation."""
_MIXED = 3
"""Starts of a round under whose groups and tiles the mappings of all starts are tried."""
VARIANTS = {"gradient": HONEST, "gradient-optimistic": OPTIMISTIC, "gradient-fixed": FIXED}


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What a descent says of itself.

    Parameters
    ----------
    decoded
        Least (energy, latency) of the decoded plans that were valid as they came; None where none was.
    repaired
        Least (energy, latency) after repair.
    claimed
        Energy times latency that the relaxed model gives the start that was best in it and kept its limits; None where none did.
    valid_share
        Share of decoded plans that were valid before repair.
    interrupted
        True where the user stopped it.
    """

    decoded: tuple[int, int] | None
    repaired: tuple[int, int]
    claimed: float | None
    valid_share: float
    interrupted: bool


class _State(NamedTuple):
    """A descent: where it stands, Adam's moments and count, temperature, multipliers, weight, key."""

    point: Point
    first: Point
    second: Point
    count: Any
    temperature: Any
    multipliers: Any
    weight: Any
    key: Any


def descend(judge: Judge, settings: Descent, seed: int, progress: Progress, evaluations: int | None = None) -> Relaxation:
    """Descend from random starts; the answers are with the judge.

    Parameters
    ----------
    judge
        The evaluator.
    settings
        Of the descent.
    seed
        Of the starts and of Gumbel noise.
    progress
        Clock and observers.
    evaluations
        Decoded plans after which no new round begins; None for all rounds.

    Raises
    ------
    MissingError
        If jax is not installed.
    """
    jax: Any = need("jax", extra="gradient")
    net = net_of(judge.problem, judge.partitioner.edges)
    run = Trace(judge, any_order=settings.optimistic)
    interrupted = False
    with jax.enable_x64(True):
        advance, value = _programs(_Key(judge, net, settings))
        state = _first_state(jax, judge, net, settings, seed)
        try:
            for done in range(settings.rounds):
                if done and (progress.clock.expired or (evaluations is not None and judge.tally.evaluations >= evaluations)):
                    break
                progress.report("descent", note=f"round {done + 1} of {settings.rounds}")
                state = advance(state)
                worst_first = run.take(value(state.point), _plans(judge, net, state.point))
                state = _restarted(state, net, run.best, worst_first[: settings.restarts])
        except KeyboardInterrupt:
            interrupted = True
    if run.repaired is None:
        run.take(None, _plans(judge, net, _host(state.point)))
    return run.relaxation(interrupted)


# The programs


class _Key:
    """What the compiled programs depend on; equal for the same judge's network, machine and settings."""

    def __init__(self, judge: Judge, net: Net, settings: Descent) -> None:
        self.net, self.settings, self.machine, self.halo = net, settings, judge.machine, judge.halo
        self.objective, self.genome = judge.objective, judge.genome
        self._identity = (judge.problem, judge.machine, judge.halo, judge.objective, settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash((self.machine, self.halo, self.objective, self.settings, len(self.net.words)))


@functools.lru_cache(maxsize=2)
def _programs(key: _Key) -> tuple[Callable[[_State], _State], Callable[[Point], Any]]:
    """Return the compiled round, and the compiled model at the nearest divisors; kept, since compiling takes seconds."""
    jax: Any = need("jax", extra="gradient")
    xp, settings, machine = jax.numpy, key.settings, key.machine
    (factor_logs, factor_real), (tile_logs, tile_real) = tables(key.genome)

    def cost(point: Point) -> Any:
        return relaxed_cost(xp, machine, key.net, key.halo, point, optimistic=settings.optimistic)

    def loss(point: Point, state: _State, noise: Any) -> Any:
        factors = _chosen(jax, point.factors, factor_logs, factor_real, state.temperature, noise[0])
        tiles = _chosen(jax, point.tiles, tile_logs, tile_real, state.temperature, noise[1])
        found = cost(Point(factors, tiles, jax.nn.sigmoid(point.edges), jax.nn.sigmoid(point.stays)))
        over = xp.maximum(found.limits, 0.0)
        parts = {"edp": (1.0, 1.0), "energy": (1.0, 1e-3), "latency": (1e-3, 1.0)}[key.objective]
        value = parts[0] * xp.log(found.energy) + parts[1] * xp.log(found.latency)
        return (value + (state.multipliers * over + state.weight / 2 * over**2).sum(axis=1)).sum()

    def step(state: _State, _: Any) -> tuple[_State, None]:
        key_now, one, two = jax.random.split(state.key, 3)
        noise = (
            jax.random.gumbel(one, (settings.starts, *factor_logs.shape)),
            jax.random.gumbel(two, (settings.starts, *tile_logs.shape)),
        )
        slopes = jax.grad(loss)(state.point, state, noise)
        count = state.count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.first, slopes)
        second = jax.tree.map(lambda m, g: 0.99 * m + 0.01 * g**2, state.second, slopes)

        def moved(x: Any, m: Any, v: Any) -> Any:
            return x - settings.rate * (m / (1 - 0.9**count)) / (xp.sqrt(v / (1 - 0.99**count)) + 1e-8)

        point = _bounded(xp, jax.tree.map(moved, state.point, first, second), factor_logs, tile_logs)
        temperature = xp.maximum(0.1, state.temperature * 0.999)
        return state._replace(point=point, first=first, second=second, count=count, temperature=temperature, key=key_now), None

    def advance(state: _State) -> _State:
        state, _ = jax.lax.scan(step, state, None, length=settings.steps)
        if settings.multipliers:
            over = xp.maximum(cost(_nearest(xp, state.point, factor_logs, factor_real, tile_logs, tile_real)).limits, 0.0)
            state = state._replace(multipliers=state.multipliers + state.weight * over, weight=state.weight * settings.growth)
        return state

    def value(point: Point) -> Any:
        return cost(_nearest(xp, point, factor_logs, factor_real, tile_logs, tile_real))

    return jax.jit(advance, compiler_options=_COMPILER), jax.jit(value, compiler_options=_COMPILER)


def _chosen(jax: Any, wishes: Any, logs: Any, real: Any, temperature: Any, noise: Any) -> Any:
    """Return logarithms of divisors: hard Gumbel-Softmax choices, whose slopes are those of the soft ones."""
    xp = jax.numpy
    logits = xp.where(real, -_CLOSENESS * (wishes[..., None] - logs) ** 2, -xp.inf)
    soft = (jax.nn.softmax(logits, axis=-1) * logs).sum(axis=-1)
    hard = xp.take_along_axis(xp.broadcast_to(logs, logits.shape), (logits + temperature * noise).argmax(axis=-1)[..., None], axis=-1)[
        ..., 0
    ]
    # between two far divisors the softmax is flat; the wish itself keeps a slope there
    slope = 0.5 * (soft + wishes)
    return slope + jax.lax.stop_gradient(hard - slope)


def _bounded(xp: Any, point: Point, factor_logs: Floats, tile_logs: Floats) -> Point:
    factors = xp.clip(point.factors, -0.1, factor_logs.max(axis=-1) + 0.1)
    tiles = xp.clip(point.tiles, -0.1, tile_logs.max(axis=-1) + 0.1)
    return Point(factors, tiles, xp.clip(point.edges, -6.0, 6.0), xp.clip(point.stays, -6.0, 6.0))


def _nearest(xp: Any, point: Point, factor_logs: Floats, factor_real: Any, tile_logs: Floats, tile_real: Any) -> Point:
    """Return the decoded point: nearest divisors, edges and stays 0 or 1."""

    def near(wishes: Any, logs: Any, real: Any) -> Any:
        distance = xp.where(real, (wishes[..., None] - logs) ** 2, xp.inf)
        return xp.take_along_axis(xp.broadcast_to(logs, distance.shape), distance.argmin(axis=-1)[..., None], axis=-1)[..., 0]

    edges, stays = (1.0 * (logits > 0) for logits in (point.edges, point.stays))
    return Point(near(point.factors, factor_logs, factor_real), near(point.tiles, tile_logs, tile_real), edges, stays)


def _first_state(jax: Any, judge: Judge, net: Net, settings: Descent, seed: int) -> _State:
    generator = np.random.default_rng([seed, 3])
    plans = judge.genome.plans(judge.genome.draw(settings.starts, generator))
    shift = generator.normal(0.0, 1.5, (settings.starts, 1))
    edges = _LOGIT + shift + generator.normal(0.0, 0.3, (settings.starts, len(net.free)))
    stays = generator.normal(0.0, 1.0, (settings.starts, len(net.layers)))
    point = Point(*map(jax.numpy.asarray, (np.log(plans.wishes), np.log(plans.tiles[:, :, 1:]), edges, stays)))
    zero = jax.tree.map(jax.numpy.zeros_like, point)
    constraints = 7 * len(net.layers) + 2 * len(net.edges)
    multipliers = jax.numpy.zeros((settings.starts, constraints))
    return _State(point, zero, zero, 0.0, 1.0, multipliers, settings.first_weight, jax.random.key(seed))


# Decoding


def _host(point: Point) -> Point:
    return Point(*(np.asarray(part) for part in point))


def _plans(judge: Judge, net: Net, point: Point) -> Plans:
    """Return the decoded starts; orders and modes are still open."""
    here = _host(point)
    (factor_logs, factor_real), (tile_logs, tile_real) = tables(judge.genome)
    near = _nearest(np, here, factor_logs, factor_real, tile_logs, tile_real)
    starts, nodes = len(here.edges), len(net.words)
    fused = np.ones((starts, len(net.edges)), dtype=bool)
    for index, path in enumerate(net.paths):
        fused[:, index] = (near.edges[:, list(path)] > 0).all(axis=1)
    tiles = np.ones((starts, nodes, 3), dtype=np.int64)
    tiles[:, :, 1:] = np.rint(np.exp(near.tiles))
    orders = np.zeros((starts, len(net.layers)), dtype=np.int64)
    wishes = np.asarray(np.exp(near.factors)).reshape(starts, len(net.layers), WISHES)
    return Plans(wishes, orders, near.stays > 0, tiles, np.zeros((starts, nodes), dtype=np.int64), fused)


def _restarted(state: _State, net: Net, best: Plans | None, rows: NDArray[np.intp]) -> _State:
    """Let some starts go on from a plan: its divisors, its edges and weights two to one, no momentum, no multipliers."""
    if best is None or not rows.size:
        return state
    sure = 0.7
    edges = np.where(best.fused[0, list(net.free)], sure, -sure)
    values = Point(np.log(best.wishes[0]), np.log(best.tiles[0, :, 1:]), edges, np.where(best.stays[0], sure, -sure))
    point = Point(*(part.at[rows].set(value) for part, value in zip(state.point, values, strict=True)))
    first, second = (Point(*(part.at[rows].set(0.0) for part in moment)) for moment in (state.first, state.second))
    return state._replace(point=point, first=first, second=second, multipliers=state.multipliers.at[rows].set(0.0))


class Trace:
    """Scores decoded starts and keeps what a descent reports.

    Parameters
    ----------
    judge
        The evaluator.
    any_order
        The model is blind to orders: each layer of a start takes the one that is best here.
    """

    def __init__(self, judge: Judge, *, any_order: bool = False) -> None:
        self.judge, self.any_order = judge, any_order
        self.decoded: tuple[int, int] | None = None
        self.repaired: tuple[int, int] | None = None
        self.claimed: float | None = None
        self._valid: list[bool] = []
        self._best: tuple[float, Plans] | None = None

    @property
    def best(self) -> Plans | None:
        """The best plan so far, alone in its batch."""
        return None if self._best is None else self._best[1]

    def take(self, model: Any, plans: Plans) -> NDArray[np.intp]:
        """Score the starts of a round in all modes, then all mappings in the best starts' groups; return the starts, worst first."""
        if model is not None:
            plans = plans._replace(orders=np.asarray(model.orders, dtype=np.int64))
            self._claim(model)
        best: list[tuple[float, Plans]] = []
        valid = np.zeros(len(plans.fused), dtype=bool)
        least, pool = np.full(len(plans.fused), np.inf), plans
        for mode in range(len(MODES)):
            tried = plans._replace(modes=np.full_like(plans.modes, mode))
            if self.any_order:
                tried = tried._replace(orders=self.best_orders(tried))
            found = self.judge.decode(tried)
            valid |= found.valid
            self._note(found)
            values = found.values(self.judge.objective)
            if values.min() < least.min():
                pool = tried
            least = np.minimum(least, values)
            best += [(float(values[row]), _only(tried, int(row))) for row in np.argsort(values)[:2]]
        self._valid += valid.tolist()
        best.sort(key=lambda entry: entry[0])
        plain = [plan for _, plan in best[:_MIXED]]
        for plan in plain if self._best is None else [self._best[1], *plain]:
            self._recombine(plan, pool)
        return np.argsort(-least)

    def _claim(self, model: Any) -> None:
        kept = np.asarray(model.limits).max(axis=1) <= 1e-9
        if kept.any():
            claim = float((np.asarray(model.energy) * np.asarray(model.latency))[kept].min())
            self.claimed = claim if self.claimed is None else min(self.claimed, claim)

    def _recombine(self, plan: Plans, pool: Plans) -> None:
        """Give each layer the best mapping of all starts, and of the best plan so far, under the groups and tiles of one of them."""
        pools = [plan, pool] if self._best is None else [plan, pool, self._best[1]]
        count = sum(len(part.fused) for part in pools)
        mixed = Plans(
            np.concatenate([part.wishes for part in pools]),
            np.concatenate([part.orders for part in pools]),
            np.repeat(plan.stays, count, axis=0),
            np.repeat(plan.tiles, count, axis=0),
            np.repeat(plan.modes, count, axis=0),
            np.repeat(plan.fused, count, axis=0),
        )
        found = self.judge.decode(mixed)
        self._note(found)
        energy, latency = self.judge.by_layer(found)
        rows = self._shares(energy, latency, (energy[0].sum(), latency[0].sum())).argmin(axis=0)
        layers = np.arange(rows.size)
        chosen = plan._replace(wishes=mixed.wishes[rows, layers][None], orders=mixed.orders[rows, layers][None])
        last = self.judge.decode(chosen)
        self._note(last)
        value = float(last.values(self.judge.objective)[0])
        if self._best is None or value < self._best[0]:
            self._best = value, chosen

    def best_orders(self, plans: Plans) -> NDArray[np.int64]:
        """Return for each layer of each start the order that is best here, whatever the model thought of orders."""
        tried = [
            self.judge.decode(plans._replace(orders=np.full_like(plans.orders, order))) for order in range(len(self.judge.scorer.orders))
        ]
        for found in tried:
            self._note(found)
        energy, latency = (np.stack(parts) for parts in zip(*map(self.judge.by_layer, tried), strict=True))  # [order, start, layer]
        totals = energy.sum(axis=2).min(axis=0)[:, None], latency.sum(axis=2).min(axis=0)[:, None]
        return np.asarray(self._shares(energy, latency, totals).argmin(axis=0), dtype=np.int64)

    def _shares(self, energy: Floats, latency: Floats, totals: tuple[Any, Any]) -> Floats:
        """Return what layers cost as shares of a network's totals, as the objective weighs them."""
        weights = {"edp": (1.0, 1.0), "energy": (1.0, 1e-6), "latency": (1e-6, 1.0)}[self.judge.objective]
        return np.asarray(weights[0] * energy / totals[0] + weights[1] * latency / totals[1])

    def _note(self, found: Decoded) -> None:
        values = found.values(self.judge.objective)
        row = int(values.argmin())
        self.repaired = self._better(self.repaired, found, row)
        rows = np.flatnonzero(found.valid)
        if rows.size:
            self.decoded = self._better(self.decoded, found, int(rows[values[rows].argmin()]))

    def _better(self, held: tuple[int, int] | None, found: Decoded, row: int) -> tuple[int, int]:
        pair = int(found.energy[row]), int(found.latency[row])
        rank = {"edp": lambda one: one[0] * one[1], "energy": lambda one: one[0], "latency": lambda one: one[1]}[self.judge.objective]
        return pair if held is None else min(held, pair, key=rank)

    def relaxation(self, interrupted: bool) -> Relaxation:
        """Return the report."""
        if self.repaired is None:
            raise ValueError("nothing was decoded")
        share = sum(self._valid) / max(1, len(self._valid))
        return Relaxation(self.decoded, self.repaired, self.claimed, share, interrupted)


def _only(plans: Plans, row: int) -> Plans:
    rows = slice(row, row + 1)
    return Plans(plans.wishes[rows], plans.orders[rows], plans.stays[rows], plans.tiles[rows], plans.modes[rows], plans.fused[rows])
