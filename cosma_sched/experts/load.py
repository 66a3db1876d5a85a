"""Load of a placement: how much of each layer's work every GPU gets, in units of the mean over GPUs.

A placement here is an array ``slots[l, s] -> expert``; slot s belongs to GPU s // K. A replica serves an equal share of its expert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers


def replica_counts(slots: Numbers, num_experts: int) -> Numbers:
    """Return r [L, E]: how many slots hold each expert."""
    return np.stack([np.bincount(row, minlength=num_experts) for row in slots])


def copies_on_gpus(slots: Numbers, num_experts: int, gpus: int) -> Numbers:
    """Return [L, G, E]: how many slots of each GPU hold each expert."""
    layers, total = slots.shape
    index = np.arange(layers)[:, None] * gpus + np.arange(total)[None, :] // (total // gpus)
    flat = np.bincount((index * num_experts + slots).ravel(), minlength=layers * gpus * num_experts)
    return flat.reshape(layers, gpus, num_experts)


def served_shares(slots: Numbers, num_experts: int, gpus: int) -> Numbers:
    """Return F [L, G, E]: the share of each expert's work that each GPU does."""
    copies = copies_on_gpus(slots, num_experts, gpus)
    shares: Numbers = copies / np.maximum(copies.sum(axis=1, keepdims=True), 1)
    return shares


def gpu_loads(loads: Numbers, slots: Numbers, gpus: int) -> Numbers:
    """Return T [L, G] for loads [L, E]: the work of each GPU over the mean of its layer."""
    return loads_of_shares(loads, served_shares(slots, loads.shape[1], gpus))


def loads_of_shares(loads: Numbers, shares: Numbers) -> Numbers:
    """Return T [L, G] for loads [L, E] and served shares [L, G, E]."""
    work = np.einsum("lge,le->lg", shares, np.asarray(loads, np.float64))
    relative: Numbers = work / work.mean(axis=1, keepdims=True)
    return relative


def duplicate_slots(slots: Numbers, num_experts: int, gpus: int) -> int:
    """Return how many slots hold an expert that its GPU has already."""
    return int(np.maximum(copies_on_gpus(slots, num_experts, gpus) - 1, 0).sum())


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Load of a placement by every definition in use; layers are absolute numbers.

    Parameters
    ----------
    max_over_mean
        Mean over layers of the most loaded GPU over the mean GPU, the worst scenario in each layer.
    worst_layer, worst_layer_max_over_mean
        The layer with the largest ratio, and the ratio.
    balancedness
        Sum over layers of the mean GPU over the sum of the most loaded (vLLM).
    utilisation
        Mean over layers of mean over maximum (SGLang).
    imbalance_ratio
        Mean over layers of (maximum - mean) / mean (TensorRT-LLM, which takes it per iteration; aggregated counts understate it).
    touch_share
        Mean over layers of the largest share of tokens that use one GPU; None without token ids or pairs.
    active_experts
        Most experts that a batch of tokens wakes on one GPU, mean over layers; None without a batch.
    per_scenario
        max_over_mean of each scenario.
    """

    max_over_mean: float
    worst_layer: int
    worst_layer_max_over_mean: float
    balancedness: float
    utilisation: float
    imbalance_ratio: float
    touch_share: float | None
    per_scenario: Mapping[str, float]
    active_experts: float | None = None


def load_report(
    profile: Profile, slots: Numbers, gpus: int, *, touch_share: float | None = None, batch_tokens: int | None = None
) -> LoadReport:
    """Return the load of a placement on a profile."""
    shares = served_shares(slots, profile.num_experts, gpus)
    relative = np.stack([loads_of_shares(scenario.loads, shares) for scenario in profile.scenarios])
    peaks = relative.max(axis=2)
    worst = peaks.max(axis=0)
    volume = profile.pooled_loads().sum(axis=1).astype(np.float64)
    layer = int(np.argmax(worst))
    return LoadReport(
        max_over_mean=float(worst.mean()),
        worst_layer=profile.layers[layer],
        worst_layer_max_over_mean=float(worst[layer]),
        balancedness=float(volume.sum() / (volume * worst).sum()),
        utilisation=float((1 / worst).mean()),
        imbalance_ratio=float((worst - 1).mean()),
        touch_share=touch_share,
        per_scenario={scenario.name: float(peaks[s].mean()) for s, scenario in enumerate(profile.scenarios)},
        active_experts=None if batch_tokens is None else active_experts(profile, shares, batch_tokens),
    )


def active_experts(profile: Profile, shares: Numbers, batch_tokens: int) -> float | None:
    """Return the expected number of experts that a batch wakes on the busiest GPU, mean over layers; None where k is unknown.

    Decoding in small batches reads the weights of every active expert (METRO, arXiv 2512.09277).
    """
    if profile.top_k is None:
        return None
    loads = profile.mean_shares()
    chance = profile.top_k * loads / loads.sum(axis=1, keepdims=True)
    awake = 1 - (1 - np.minimum(1, shares * chance[:, None, :])) ** batch_tokens
    return float(awake.sum(axis=2).max(axis=1).mean())


def layer_peaks(weights: Sequence[Numbers] | Numbers, slots: Numbers, gpus: int) -> Numbers:
    """Return T_l [L]: the most loaded GPU of each layer over scenarios and GPUs, for expert loads [s, L, E]."""
    shares = served_shares(slots, np.asarray(weights).shape[2], gpus)
    peaks: Numbers = np.max([loads_of_shares(loads, shares).max(axis=1) for loads in weights], axis=0)
    return peaks
