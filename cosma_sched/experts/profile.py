"""A routing profile: one or several workloads (scenarios) of one model, as counts, matrices or token ids.

Dense layers, whose counts are zero in every scenario, are dropped and remembered; a layer index here counts the layers that remain, and
`Profile.layers` has their absolute numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cosma_sched.errors import Defect, InputError, UsageError
from cosma_sched.experts.statistics import (
    Numbers,
    check_agreement,
    check_shape,
    check_tokens,
    count_coactivation,
    count_loads,
    count_transitions,
    whole_counts,
)

BLOCK = 64
"""Tokens that are held out together where requests are unknown: neighbours come from one text."""


class Scenario:
    """One workload.

    Parameters
    ----------
    name
        What it is called in reports.
    loads
        P [L, E]; counted from the tokens where they are given.
    transitions, coactivation
        R [L-1, E, E] and C [L, E, E], or None; counted from the tokens on first use where they are given.
    tokens
        Ids [n, L, k], or None.
    requests
        For each token the number of its request, or None.
    homes
        H [h, L, E]: P restricted to the tokens of each home rank, or None.
    """

    def __init__(
        self,
        name: str,
        loads: Numbers,
        transitions: Numbers | None = None,
        coactivation: Numbers | None = None,
        tokens: Numbers | None = None,
        requests: Numbers | None = None,
        homes: Numbers | None = None,
    ) -> None:
        self.name = name
        self.loads = loads
        self.tokens = tokens
        self.requests = requests
        self.homes = homes
        self._transitions = transitions
        self._coactivation = coactivation

    @property
    def num_experts(self) -> int:
        """Experts per layer."""
        return int(self.loads.shape[1])

    @property
    def transitions(self) -> Numbers | None:
        """R [L-1, E, E], or None where the profile has neither tokens nor transitions."""
        if self._transitions is None and self.tokens is not None:
            self._transitions = count_transitions(self.tokens, self.num_experts)
            check_agreement(self.loads, self._transitions, None, self.name)
        return self._transitions

    @property
    def coactivation(self) -> Numbers | None:
        """C [L, E, E], or None where the profile has neither tokens nor co-activation."""
        if self._coactivation is None and self.tokens is not None:
            self._coactivation = count_coactivation(self.tokens, self.num_experts)
            check_agreement(self.loads, None, self._coactivation, self.name)
        return self._coactivation

    def rows(self, chosen: Numbers) -> Scenario:
        """Return the scenario of some of the tokens, chosen by a mask or by indices."""
        if self.tokens is None:
            raise UsageError(f"{self.name} has no token ids to choose from")
        tokens = self.tokens[chosen]
        requests = None if self.requests is None else self.requests[chosen]
        return Scenario(self.name, count_loads(tokens, self.num_experts), tokens=tokens, requests=requests)

    def layers(self, kept: Sequence[int], path: str) -> Scenario:
        """Return the scenario with some of the layers only."""
        index = np.asarray(kept, dtype=np.intp)
        transitions = self._transitions
        if transitions is not None:
            if not np.array_equal(np.diff(index), np.ones(len(index) - 1)):
                gap = int(index[int(np.argmax(np.diff(index) > 1))]) + 1
                raise InputError(path, [Defect(f"layer {gap}", "has no routed tokens, and transitions across it are not in the file")])
            transitions = transitions[index[0] : index[-1]]
        return Scenario(
            self.name,
            self.loads[index],
            transitions,
            None if self._coactivation is None else self._coactivation[index],
            None if self.tokens is None else self.tokens[:, index],
            self.requests,
            None if self.homes is None else self.homes[:, index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A routing profile.

    Parameters
    ----------
    name
        For titles.
    scenarios
        At least one workload; all of one shape.
    layers
        Absolute number of each MoE layer.
    dense_layers
        Absolute numbers of the layers without experts.
    top_k
        Experts per token, None where unknown.
    source, sha256
        The path as the user gave it (None for a profile built in Python) and the digest of what was read.
    coactivation
        C [L, E, E] over all scenarios together, where a file has only that.
    synthetic
        Whether the tokens come from a generator and not from a model.
    notes
        What a reader has to know, such as how many tokens were dropped.
    inputs
        (path, sha256) of every file that was read, scenarios included.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    layers: tuple[int, ...]
    dense_layers: tuple[int, ...] = ()
    top_k: int | None = None
    source: str | None = None
    sha256: str = ""
    coactivation: Numbers | None = None
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()

    @property
    def num_layers(self) -> int:
        """MoE layers."""
        return len(self.layers)

    @property
    def num_experts(self) -> int:
        """Experts per layer."""
        return self.scenarios[0].num_experts

    @property
    def has_tokens(self) -> bool:
        """Whether every scenario has token ids."""
        return all(scenario.tokens is not None for scenario in self.scenarios)

    def shares(self) -> Numbers:
        """Return the loads of every scenario [s, L, E], each layer normalised to the sum 1: row sums of real dumps differ."""
        loads = np.stack([scenario.loads for scenario in self.scenarios]).astype(np.float64)
        normalised: Numbers = loads / loads.sum(axis=2, keepdims=True)
        return normalised

    def mean_shares(self) -> Numbers:
        """Return the mean of the normalised scenarios [L, E]; for one scenario its counts, so that ties stay ties."""
        if len(self.scenarios) == 1:
            return self.scenarios[0].loads
        mean: Numbers = self.shares().mean(axis=0)
        return mean

    def pooled_transitions(self) -> Numbers | None:
        """Return R summed over the scenarios that have it, or None."""
        known = [matrix for scenario in self.scenarios if (matrix := scenario.transitions) is not None]
        return sum(known[1:], known[0]) if known else None

    def pooled_coactivation(self) -> Numbers | None:
        """Return C summed over the scenarios that have it, or None."""
        if self.coactivation is not None:
            return self.coactivation
        known = [matrix for scenario in self.scenarios if (matrix := scenario.coactivation) is not None]
        return sum(known[1:], known[0]) if known else None

    def pooled_loads(self) -> Numbers:
        """Return P summed over the scenarios."""
        total: Numbers = sum((scenario.loads for scenario in self.scenarios[1:]), self.scenarios[0].loads)
        return total


def build_profile(
    scenarios: Sequence[Scenario],
    *,
    path: str,
    layers: Sequence[int] | None = None,
    top_k: int | None = None,
    coactivation: Numbers | None = None,
    sha256: str = "",
    notes: Sequence[str] = (),
) -> Profile:
    """Check scenarios, drop the dense layers and return the profile.

    Parameters
    ----------
    scenarios
        As read.
    path
        Name of the file in messages.
    layers
        Absolute number of each row; 0, 1, ... by default.

    Raises
    ------
    InputError
        Naming file, layer, expert and value.
    """
    first = scenarios[0]
    for scenario in scenarios:
        _check(scenario, path)
        if scenario.loads.shape != first.loads.shape:
            shapes = f"{list(scenario.loads.shape)}, scenario {first.name} has {list(first.loads.shape)}"
            raise InputError(path, [Defect(f"scenario {scenario.name}", f"has layers and experts {shapes}")])
    numbers = tuple(range(len(first.loads))) if layers is None else tuple(layers)
    kept = [i for i in range(len(numbers)) if any(scenario.loads[i].any() for scenario in scenarios)]
    if not kept:
        raise InputError(path, "holds no routed tokens: every count is 0")
    for scenario in scenarios:
        for i in kept:
            if not scenario.loads[i].any():
                problem = "has no routed tokens here, but other scenarios have"
                raise InputError(path, [Defect(f"scenario {scenario.name} layer {numbers[i]}", problem)])
    moe = {numbers[i] for i in kept}
    dense = tuple(sorted((set(numbers) | set(range(max(moe)))) - moe))
    if len(kept) < len(numbers):
        scenarios = [scenario.layers(kept, path) for scenario in scenarios]
        coactivation = None if coactivation is None else coactivation[kept]
    found = {check_agreement(s.loads, s._transitions, s._coactivation, path) for s in scenarios} - {None}
    found |= {int(s.tokens.shape[2]) for s in scenarios if s.tokens is not None}
    if coactivation is not None:
        found.add(check_agreement(sum((s.loads for s in scenarios[1:]), scenarios[0].loads), None, coactivation, path))
    if top_k is not None:
        found.add(top_k)
    if len(found) > 1:
        raise InputError(path, f"says that a token chooses {' and '.join(map(str, sorted(k for k in found if k)))} experts")
    return Profile(
        name=path,
        scenarios=tuple(scenarios),
        layers=tuple(numbers[i] for i in kept),
        dense_layers=dense,
        top_k=next(iter(found), None),
        source=path,
        sha256=sha256,
        coactivation=coactivation,
        notes=tuple(notes),
        inputs=((path, sha256),),
    )


def _check(scenario: Scenario, path: str) -> None:
    name = scenario.name
    scenario.loads = whole_counts(scenario.loads, path, "P")
    check_shape(scenario.loads, (None, None), path, "P")
    num_layers, num_experts = scenario.loads.shape
    if not num_layers or num_experts < 2:
        raise InputError(path, [Defect(f"scenario {name}", f"has {num_layers} layers of {num_experts} experts")])
    if scenario.tokens is not None:
        check_tokens(scenario.tokens, path, num_experts)
    for symbol, attribute, rows in (("R", "_transitions", num_layers - 1), ("C", "_coactivation", num_layers)):
        matrix = getattr(scenario, attribute)
        if matrix is not None:
            setattr(scenario, attribute, whole_counts(matrix, path, symbol))
            check_shape(getattr(scenario, attribute), (rows, num_experts, num_experts), path, symbol)
    if scenario.homes is not None:
        scenario.homes = whole_counts(scenario.homes, path, "H")
        check_shape(scenario.homes, (None, num_layers, num_experts), path, "H")
        if not np.allclose(scenario.homes.sum(axis=0), scenario.loads, rtol=1e-9):
            layer, expert = np.argwhere(~np.isclose(scenario.homes.sum(axis=0), scenario.loads, rtol=1e-9))[0]
            values = f"{scenario.homes[:, layer, expert].sum()}, but P is {scenario.loads[layer, expert]}"
            raise InputError(path, [Defect(f"H layer {layer} expert {expert}", f"sums to {values}")])


def profile_from_tokens(
    tokens: Numbers, num_experts: int | None = None, *, name: str = "tokens", requests: Numbers | None = None
) -> Profile:
    """Return the profile of token ids.

    Parameters
    ----------
    tokens
        Whole numbers [n, L, k].
    num_experts
        Experts per layer; the largest id plus one by default.
    requests
        For each token the number of its request.
    """
    tokens = np.asarray(tokens)
    check_tokens(tokens, name, num_experts)
    experts = int(tokens.max()) + 1 if num_experts is None else num_experts
    scenario = Scenario(name, count_loads(tokens, experts), tokens=tokens, requests=requests)
    return replace(build_profile([scenario], path=name), source=None, inputs=())


def with_scenarios(profile: Profile, others: Sequence[Profile]) -> Profile:
    """Return a profile whose scenarios are those of several files.

    Raises
    ------
    InputError
        If a file is about a model of another shape.
    """
    for other in others:
        same_model(profile, other)
    every = (profile, *others)
    names = [scenario.name for part in every for scenario in part.scenarios]
    if len(set(names)) != len(names):
        for number, scenario in enumerate(scenario for part in every for scenario in part.scenarios):
            scenario.name = f"{scenario.name}#{number}"
    pooled: Numbers | None = None
    if all(part.pooled_coactivation() is not None for part in every) and any(part.coactivation is not None for part in every):
        known = [matrix for part in every if (matrix := part.pooled_coactivation()) is not None]
        pooled = sum(known[1:], known[0])
    return replace(
        profile,
        scenarios=tuple(scenario for part in every for scenario in part.scenarios),
        notes=tuple(note for part in every for note in part.notes),
        inputs=tuple(entry for part in every for entry in part.inputs),
        synthetic=any(part.synthetic for part in every),
        coactivation=pooled,
    )


def same_model(profile: Profile, other: Profile) -> None:
    """Check that two profiles are about a model of the same shape.

    Raises
    ------
    InputError
        Naming the second file and both shapes.
    """
    if (other.layers, other.num_experts) != (profile.layers, profile.num_experts):
        mine = f"{profile.num_layers} MoE layers ({profile.layers[0]} to {profile.layers[-1]}) of {profile.num_experts} experts"
        theirs = f"{other.num_layers} MoE layers ({other.layers[0]} to {other.layers[-1]}) of {other.num_experts} experts"
        raise InputError(other.name, f"has {theirs}, but {profile.name} has {mine}")


def hold_out(profile: Profile, how: str | float) -> tuple[Profile, Profile]:
    """Split the tokens of a profile into those to plan with and those to judge by.

    Parameters
    ----------
    how
        ``alternate`` holds out the odd rows; a fraction holds out that share of the requests where they are known, else of blocks of 64
        tokens, spread evenly.

    Raises
    ------
    UsageError
        If the profile has no token ids, or too few for the fraction.
    """
    if not profile.has_tokens:
        raise UsageError("--hold-out: the profile has no token ids to split; name a FILE with the counts to judge by")
    masks = [_held(scenario, how) for scenario in profile.scenarios]
    if any(mask.all() or not mask.any() for mask in masks):
        raise UsageError(f"--hold-out {how}: leaves no tokens on one side")
    kept = tuple(scenario.rows(~mask) for scenario, mask in zip(profile.scenarios, masks, strict=True))
    held = tuple(scenario.rows(mask) for scenario, mask in zip(profile.scenarios, masks, strict=True))
    for part in (kept, held):
        for scenario in part:
            if not scenario.loads.any(axis=1).all():
                raise UsageError(f"--hold-out {how}: leaves a layer of {scenario.name} without tokens")
    return replace(profile, scenarios=kept, coactivation=None), replace(profile, scenarios=held, coactivation=None)


def _held(scenario: Scenario, how: str | float) -> Numbers:
    rows = 0 if scenario.tokens is None else len(scenario.tokens)
    if how == "alternate":
        odd: Numbers = np.arange(rows) % 2 == 1
        return odd
    share = float(how)
    groups = np.arange(rows) // BLOCK if scenario.requests is None else np.unique(scenario.requests, return_inverse=True)[1]
    count = int(groups.max()) + 1
    marks = np.floor((np.arange(count) + 1) * share + 1e-9) > np.floor(np.arange(count) * share + 1e-9)
    chosen: Numbers = marks[groups]
    return chosen
