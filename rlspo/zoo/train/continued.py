"""A run that goes on from a saved agent: what of its record is the agent's, not the block's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.zoo.config.convert import plain
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.runs import rl_zoo3
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.models import folder_of

_ENVIRONMENT = ("env_kwargs", "env_wrapper", "vec_env_wrapper", "frame_stack")
_NORMALISER = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")


def run_before(trained_agent: str) -> RunConfig | None:
    """The record of the run that saved an agent; None for a file alone, and for runs of rl-zoo3."""
    folder = folder_of(Path(trained_agent))
    if folder is None or rl_zoo3.record_in(folder) is not None:
        return None
    return RunConfig.read(RunFolder.existing(folder).config)


def other_environment(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """Warn about a saved agent that goes on in other environments than those of its run."""
    before = None if config.trained_agent is None else run_before(config.trained_agent)
    if before is None:
        return ()
    pairs = {key: (getattr(before.settings, key), getattr(config.settings, key)) for key in _ENVIRONMENT}
    lines = [f"{key}: {plain(then)}, now {plain(now)}" for key, (then, now) in pairs.items() if then != now]
    return (("ANOTHER ENVIRONMENT", f"The run of {config.trained_agent} had\n" + "\n".join(lines)),) if lines else ()


def as_loaded(config: RunConfig, model: BaseAlgorithm) -> RunConfig:
    """The record of a run, with what a saved agent has brought along in place of what the block says.

    That is its policy, its settings and where they come from, as far as its own run recorded them, the noise on its actions,
    and the arguments of its ``VecNormalize``, which evaluations need too.

    :param config: planned
    :param model: loaded
    """
    if config.trained_agent is None:
        return config
    before = run_before(config.trained_agent)
    own: dict[str, Any] = {
        "policy": _policy_name(model),
        "noise_type": None if before is None else before.settings.noise_type,
        "noise_std": None if before is None else before.settings.noise_std,
        "provenance": "of the saved agent, whose run is not known" if before is None else before.settings.provenance,
    }
    around = model.get_vec_normalize_env()
    if around is not None:
        found = {name: getattr(around, name) for name in _NORMALISER}
        own["normalize"] = {name: plain(value) for name, value in found.items() if value is not None}
    settings = config.settings.model_copy(update=own)
    return config.model_copy(update={"settings": settings, "agent": {} if before is None else before.agent})


def _policy_name(model: BaseAlgorithm) -> str:
    """The short name of an agent's policy, or the dotted path of its class."""
    cls = model.policy_class
    short = next((name for name, known in model.policy_aliases.items() if known is cls), None)
    return short or f"{cls.__module__}.{cls.__qualname__}"
