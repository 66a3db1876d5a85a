"""Load and traffic of a placement on the profile it was made with and on held-out tokens, always together or labelled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cosma_sched.experts.load import LoadReport, load_report
from cosma_sched.experts.placement import Measured
from cosma_sched.experts.problem import Topology, TrafficModel
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.traffic import TrafficReport, traffic_report


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """What a placement is measured on, and how.

    Parameters
    ----------
    profile, held_out
        Tokens that were planned with, and tokens that were not (or None).
    topology, model
        Costs, and the traffic that ``busiest_port`` refers to.
    static
        Replica choice: a rank keeps to its own replica instead of choosing evenly.
    batch_tokens
        Tokens of a decoding batch, for the active experts; None without.
    """

    profile: Profile
    held_out: Profile | None
    topology: Topology
    model: TrafficModel
    static: bool = False
    batch_tokens: int | None = None

    def judge(self, slots: Numbers) -> tuple[Measured[LoadReport], Measured[TrafficReport]]:
        """Return load and traffic of a placement [L, S]."""
        load, traffic = self._on(self.profile, slots)
        if self.held_out is None:
            return Measured(load), Measured(traffic)
        load_after, traffic_after = self._on(self.held_out, slots)
        return Measured(load, load_after), Measured(traffic, traffic_after)

    def _on(self, profile: Profile, slots: Numbers) -> tuple[LoadReport, TrafficReport]:
        traffic, use, _ = traffic_report(profile, slots, self.topology, self.model, static=self.static)
        load = load_report(profile, slots, self.topology.gpus, batch_tokens=self.batch_tokens)
        if use is not None:
            load = replace(load, touch_share=float(np.mean(use.visits.max(axis=1))))
        return load, traffic


def traffic_value(report: TrafficReport, topology: Topology, model: TrafficModel) -> float | None:
    """Return the one number that is minimised: the transition cost per transition, or copies plus theta times nodes; None if unknown."""
    if model == TrafficModel.TOKEN_STAYS:
        return None if report.transition_cost is None or not report.transitions else report.transition_cost / report.transitions
    if report.copies_per_token is None:
        return None
    premium = topology.node_premium if topology.forwarding else 0.0
    return report.copies_per_token + premium * (report.nodes_per_token or 0.0)


def why_unknown(profile: Profile) -> str | None:
    """Return why the traffic of placements of this profile is unknown, or None where it is known."""
    if profile.has_tokens:
        return None
    has_pairs, has_transitions = profile.pooled_coactivation() is not None, profile.pooled_transitions() is not None
    if not has_pairs and not has_transitions:
        return "the profile has no token ids or transitions"
    if not has_transitions:
        return "the profile has no transitions"
    return None if has_pairs else "the profile has no token ids or co-activation"
