"""Synthetic routing traces: one latent state per token gives load, transitions and co-activation that fit together.

    W[l] ~ N(0, 1/d) [E,d],  b[l] ~ N(0,1) or Student t with nu degrees of freedom [E]      from default_rng(seed)
    h[0] ~ N(0, I_d);  S[l] = top-k of W[l] h[l] + sigma b[l]                               from default_rng(token_seed)
    h[l+1] = rho h[l] + sqrt(1 - rho^2) N(0, I_d)

Independent Zipf loads beside an invented Markov matrix would contradict each other; here everything follows from one mechanism. The
presets were fitted to figures of real models where those are known (``docs/experts.md``); for the DeepSeek preset the dependence
between layers is a property of the generator and not of the model.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from cosma_sched.errors import InputError, UsageError, shown, suggestion
from cosma_sched.experts.profile import Profile, profile_from_tokens
from cosma_sched.experts.statistics import Numbers
from cosma_sched.files import sha256

PREFIX = "synthetic:"
_MOST_TOKENS = 10_000_000


@dataclass(frozen=True, slots=True)
class Preset:
    """The parameters of a generator.

    Parameters
    ----------
    layers, experts, top_k
        Shape of the model.
    dimensions
        d, of the latent state.
    persistence
        rho: how much of the state a layer passes on.
    bias
        sigma: weight of the experts' own popularity.
    freedom
        nu of the popularity's distribution; None for normal.
    seed, tokens
        Defaults.
    """

    layers: int
    experts: int
    top_k: int
    dimensions: int
    persistence: float
    bias: float
    freedom: int | None
    seed: int
    tokens: int


PRESETS = {
    "mixtral-like": Preset(32, 8, 2, 12, 0.85, 0.1, None, 0, 4000),
    "gpt-oss-like": Preset(24, 32, 4, 8, 0.95, 0.3, None, 0, 6000),
    "deepseek-v3-like": Preset(58, 256, 8, 32, 0.85, 0.2, 4, 5, 8000),
}


def draw_tokens(preset: Preset, *, seed: int, tokens: int, token_seed: int) -> Numbers:
    """Return token ids [tokens, L, k].

    Parameters
    ----------
    preset
        The generator.
    seed
        Of the model: weights and popularity.
    token_seed
        Of the tokens; another one with the same `seed` gives held-out tokens of the same model.
    """
    model, text = np.random.default_rng(seed), np.random.default_rng(token_seed)
    shape = (preset.layers, preset.experts)
    weights = (model.standard_normal((*shape, preset.dimensions)) / math.sqrt(preset.dimensions)).astype(np.float32)
    popularity = model.standard_normal(shape) if preset.freedom is None else model.standard_t(preset.freedom, shape)
    popularity = (preset.bias * popularity).astype(np.float32)
    state = text.standard_normal((tokens, preset.dimensions)).astype(np.float32)
    fresh = np.float32(math.sqrt(1 - preset.persistence**2))
    chosen = np.empty((tokens, preset.layers, preset.top_k), np.uint8 if preset.experts <= 256 else np.int32)
    for layer in range(preset.layers):
        logits = state @ weights[layer].T + popularity[layer]
        chosen[:, layer] = np.argpartition(-logits, preset.top_k - 1, axis=1)[:, : preset.top_k]
        state = np.float32(preset.persistence) * state + fresh * text.standard_normal(state.shape).astype(np.float32)
    return chosen


def synthetic_profile(source: str) -> Profile:
    """Return the profile that a name such as ``synthetic:gpt-oss-like,seed=3,tokens=2000`` stands for.

    Raises
    ------
    InputError
        If the preset is unknown.
    UsageError
        If a parameter is malformed.
    """
    name, *parameters = source.removeprefix(PREFIX).split(",")
    if name not in PRESETS:
        known = f"known ones are {', '.join(PRESETS)}{suggestion(name, PRESETS)}"
        raise InputError(source, f"{shown(name)} is no synthetic trace; {known}")
    preset = PRESETS[name]
    values = {"seed": preset.seed, "tokens": preset.tokens}
    for parameter in parameters:
        key, _, digits = parameter.partition("=")
        if key not in {"seed", "tokens", "token_seed"} or not re.fullmatch(r"[0-9]{1,9}", digits, flags=re.ASCII):
            raise UsageError(f"{source}: {shown(parameter)} must be seed=N, tokens=N or token_seed=N with a whole number N")
        values[key] = int(digits)
    if not 1 <= values["tokens"] <= _MOST_TOKENS:
        raise UsageError(f"{source}: tokens must lie between 1 and {_MOST_TOKENS}, got {values['tokens']}")
    token_seed = values.get("token_seed", values["seed"] + 1000)
    tokens = draw_tokens(preset, seed=values["seed"], tokens=values["tokens"], token_seed=token_seed)
    profile = profile_from_tokens(tokens, preset.experts, name=source)
    digest = sha256(tokens.tobytes())
    return replace(profile, source=source, sha256=digest, synthetic=True, inputs=((source, digest),))
