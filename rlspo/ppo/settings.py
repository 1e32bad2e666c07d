"""The arguments of PPO that its subclasses hand on, by name and type, for editors and type checkers."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.type_aliases import Schedule

from rlspo.common.arguments import OnPolicySettings


class PPOSettings(OnPolicySettings, total=False):
    """What :class:`rlspo.PPO` takes beside policy and environment; defaults and texts stand there."""

    learning_rate: float | Schedule
    n_steps: int
    batch_size: int
    n_epochs: int
    gamma: float
    gae_lambda: float
    clip_range: float | Schedule
    clip_range_vf: float | Schedule | None
    normalize_advantage: bool
    ent_coef: float | Schedule
    vf_coef: float
    max_grad_norm: float
    use_sde: bool
    sde_sample_freq: int
    rollout_buffer_class: type[Any] | None
    rollout_buffer_kwargs: dict[str, Any] | None
    target_kl: float | None
    sequence_length: int | None
    burn_in: int
    recompute_states: bool
    acting_device: str
