"""Is it worth it? A step-time model and the ceiling of what balance alone can give, from the user's constants only.

    T = sum over layers of [ other + max over g of expert time(g) + dispatch + combine ]
    expert time(g) = max(c_tok tokens(g), c_w active experts(g)) + c_0        communication = bytes / bandwidth + latency
    ceiling: gain = f x / (1 - f x),  x = (r_before - max(r_after, r_k)) / r_before,  r = max_over_mean

f is the share of the step that waits for the most loaded GPU, r_k the imbalance below which more balance gives nothing; both come from a
two-point measurement of the user's system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from cosma_sched.errors import Defect, InputError, UsageError, shown
from cosma_sched.files import decode_json, read_bytes


@dataclass(frozen=True, slots=True)
class StepConstants:
    """The user's constants; times in seconds per layer and step, sizes in bytes.

    Parameters
    ----------
    balance_share, balance_floor
        f and r_k of the ceiling.
    tokens
        Tokens of a step, over all GPUs.
    seconds_per_token, seconds_per_expert, seconds_constant
        c_tok per token and expert, c_w per active expert, c_0.
    seconds_other
        Everything else of a layer.
    hidden, dispatch_bytes, combine_bytes
        Elements of a token, and bytes of each element on the way out and back.
    bytes_per_second, latency_seconds
        Of a GPU's port.
    """

    balance_share: float | None = None
    balance_floor: float = 1.0
    tokens: int | None = None
    seconds_per_token: float | None = None
    seconds_per_expert: float = 0.0
    seconds_constant: float = 0.0
    seconds_other: float = 0.0
    hidden: int = 0
    dispatch_bytes: float = 0.0
    combine_bytes: float = 0.0
    bytes_per_second: float | None = None
    latency_seconds: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise UsageError(f"{field.name} must be >= 0, got {value}")
        if self.balance_share is not None and self.balance_share >= 1:
            raise UsageError(f"balance_share must be below 1, got {self.balance_share}")
        if self.bytes_per_second == 0:
            raise UsageError("bytes_per_second must be > 0, got 0")


def read_constants(path: str) -> StepConstants:
    """Read the constants from a JSON object.

    Raises
    ------
    InputError
        If a field is unknown or no number.
    """
    document = decode_json(path, read_bytes(path))
    if not isinstance(document, dict):
        raise InputError(path, f"must be an object of constants, got {shown(document)}")
    known = {field.name for field in fields(StepConstants)}
    defects = [Defect(str(name), f"unknown constant; known ones are {', '.join(sorted(known))}") for name in document if name not in known]
    for name, value in document.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            defects.append(Defect(str(name), f"must be a number, got {shown(value)}"))
    if defects:
        raise InputError(path, defects)
    try:
        return StepConstants(**document)
    except UsageError as error:
        raise InputError(path, str(error)) from error


def balance_ceiling(before: float, after: float, share: float, floor: float) -> float:
    """Return the relative gain of throughput that better balance alone can give at most."""
    saved = max(0.0, before - max(after, floor)) / before
    return share * saved / (1 - share * saved)


def step_seconds(
    constants: StepConstants,
    *,
    layers: int,
    gpus: int,
    top_k: int,
    max_over_mean: float,
    active_experts: float,
    copies_at_port: float | None,
) -> float | None:
    """Return the modelled time of a step, or None where the constants for it are not given.

    Parameters
    ----------
    active_experts
        Experts that a step wakes on the busiest GPU.
    copies_at_port
        Copies per token and layer that the busiest GPU receives; None where unknown: then no communication is counted.
    """
    if constants.tokens is None or constants.seconds_per_token is None:
        return None
    tokens_at_busiest = constants.tokens * top_k * max_over_mean / gpus
    compute = (
        max(constants.seconds_per_token * tokens_at_busiest, constants.seconds_per_expert * active_experts) + constants.seconds_constant
    )
    exchange = 0.0
    if constants.bytes_per_second is not None and copies_at_port is not None:
        received = constants.tokens * copies_at_port * constants.hidden
        for size in (constants.dispatch_bytes, constants.combine_bytes):
            exchange += received * size / constants.bytes_per_second + constants.latency_seconds
    return layers * (constants.seconds_other + compute + exchange)


def worth(constants: StepConstants, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what the constants say of two placements.

    Parameters
    ----------
    before, after
        ``max_over_mean`` and, where known, ``step_seconds`` of the placement that runs (or contiguous) and of the new one.
    """
    figures: dict[str, float] = {}
    if constants.balance_share is not None:
        gain = balance_ceiling(before["max_over_mean"], after["max_over_mean"], constants.balance_share, constants.balance_floor)
        figures["balance_gain_ceiling"] = gain
    if "step_seconds" in before and "step_seconds" in after:
        figures |= {"step_seconds_before": before["step_seconds"], "step_seconds_after": after["step_seconds"]}
        figures["step_gain"] = before["step_seconds"] / after["step_seconds"] - 1
    return figures
